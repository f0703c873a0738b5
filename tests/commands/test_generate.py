"""Images of a frozen generator: what is written, that it can be made again, and who may train."""

import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import medvision.files as files
from medvision.data.batches.datamodule import ImageDataModule
from medvision.data.formats.decode import decode, pixel_digest
from medvision.data.store.reader import Reader
from medvision.model import load_generator, load_model
from medvision.seen import Seen
from medvision.tasks.generation.sampling import make_images

pytestmark = pytest.mark.usefixtures("dots")

READER = Reader(size=(32, 32), window=(-100.0, 200.0))
FAILED = {
    "passed": False,
    "score": 0.1,
    "spaces": ["random"],
    "reasons": ["it copies", "it is bare"],
}


def look(manifest, **options):
    """The samples of the tiny phantom, as a run of these options splits them."""
    data = ImageDataModule(manifest=str(manifest), reader=READER, workers=1, **options)
    return data.ready, data.card


def seen_of(manifest, parts=("train", "val"), **options):
    samples, _ = look(manifest, **options)
    return Seen.of(*(samples.shown(part) for part in parts))


@pytest.fixture(scope="module")
def gan(phantom, places, generator):
    """A generator that trained on the default split of the tiny phantom."""
    return generator(places / "runs" / "gan" / "good", seen_of(phantom), READER.contract())


@pytest.fixture(scope="module")
def made(medvision, gan, tmp_path_factory):
    """Five images a class."""
    folder = tmp_path_factory.mktemp("made") / "five"
    done = medvision("generate", f"run={gan}", "per_class=5", f"output={folder}")
    assert done.status == 0, done.err
    return folder


def read(folder):
    return pd.read_csv(folder / "manifest.csv", dtype=str, keep_default_na=False)


def refused(outcome, *texts):
    assert outcome.status == 2, outcome
    sentence = outcome.err.splitlines()[-1]
    assert sentence.startswith("medvision: ")
    assert "Traceback" not in outcome.out + outcome.err
    for text in texts:
        assert re.search(text, sentence), sentence


def test_a_row_says_where_its_image_comes_from(made, gan):
    table, digest = read(made), files.digest_file(gan / "model.pt")
    assert table.columns.tolist() == [
        "path", "patient", "label", "split", "origin", "seed", "index", "digest", "near", "agreed",
        "keep", "reason",
    ]  # fmt: skip
    assert table["label"].tolist() == ["healthy"] * 5 + ["lesion"] * 5
    assert table["patient"].tolist() == [
        f"gen-{digest[:8]}-{k}-{n}" for k in (0, 1) for n in range(5)
    ]
    assert {*table["split"], *table["origin"], *table["keep"]} == {"train", "generated", "true"}
    for row in table.itertuples():
        pixels = decode(made / row.path)
        assert pixels.shape == (32, 32, 1)
        assert pixels.dtype == np.uint8
        assert pixel_digest(pixels) == row.digest


def test_a_file_says_that_it_is_synthetic(made, gan):
    with Image.open(made / read(made)["path"][7]) as image:
        assert image.mode == "L"
        assert image.text["Software"].startswith("medvision ")
        assert "no image of a patient" in image.text["Synthetic"]
        told = {key: image.text[key] for key in ("Generator", "Seed", "Class", "Index")}
    assert told == {
        "Generator": files.digest_file(gan / "model.pt"), "Seed": "0", "Class": "lesion",
        "Index": "2",
    }  # fmt: skip


def test_the_card_carries_what_the_generator_has_seen(made, gan, phantom):
    card = json.loads((made / "card.json").read_text())
    facts, seen = card["facts"], seen_of(phantom)
    assert (card["origin"], card["classes"], card["key"]) == (
        "generated", ["healthy", "lesion"], seen.key,
    )  # fmt: skip
    assert Seen.from_plain(facts["seen"] | {"key": card["key"]}) == seen
    assert facts["generator"] == files.digest_file(gan / "model.pt")
    assert facts["rows"] == files.digest_file(made / "manifest.csv")
    assert (facts["run"], facts["size"], facts["channels"], facts["ungated"]) == (
        "gan/good", [32, 32], 1, False,
    )  # fmt: skip


def test_colour_images_are_written_as_rgb(tmp_path, medvision, generator):
    contract = Reader(size=(32, 32), channels=3).contract()
    gan = generator(tmp_path / "gan" / "colour", Seen(train_images=["x"]), contract)
    done = medvision("generate", f"run={gan}", "per_class=1", f"output={tmp_path / 'rgb'}")
    assert done.status == 0, done.err
    made = make_images(load_generator(gan / "model.pt").net, 0, [0, 1], [0, 0])
    for path, image in zip(read(tmp_path / "rgb")["path"], made.images, strict=True):
        assert np.array_equal(decode(tmp_path / "rgb" / path), image)


def test_each_image_is_the_same_however_many_are_made(made, gan, medvision, tmp_path):
    whole = read(made).set_index(["label", "index"])["digest"]
    few = medvision("generate", f"run={gan}", "per_class=2", "classes=[lesion]",
                    f"output={tmp_path / 'few'}")  # fmt: skip
    assert few.status == 0, few.err
    table = read(tmp_path / "few")
    assert table["label"].tolist() == ["lesion"] * 2
    assert table["digest"].tolist() == [whole["lesion", "0"], whole["lesion", "1"]]
    alone = make_images(load_generator(gan / "model.pt").net, 0, [1], [4])
    assert pixel_digest(alone.images[0]) == whole["lesion", "4"]
    other = make_images(load_generator(gan / "model.pt").net, 1, [1], [4])
    assert pixel_digest(other.images[0]) != whole["lesion", "4"]
    assert len(set(whole)) == 10


def test_the_same_command_answers_what_is_there(apart, medvision, gan):
    words = ("generate", f"run={gan}", "per_class=3", "seed=4")
    first = medvision(*words)
    assert first.status == 0, first.err
    (folder,) = (p for p in (apart.parent / "cache" / "generated").iterdir() if p.is_dir())
    assert folder.name == f"{files.digest_file(gan / 'model.pt')[:8]}-seed4-3"
    for text in ("healthy", "its gate passed with score 0.81", f"written   {folder}/manifest.csv",
                 f"data.extra=[{folder}/manifest.csv]' data.extra_ratio=0.25"):  # fmt: skip
        assert text in first.out
    stamps = {path: path.stat().st_mtime_ns for path in folder.rglob("*.*")}
    again = medvision(*words)
    assert again.status == 0
    assert f"there     {folder}/manifest.csv" in again.out
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.*")} == stamps
    table = read(folder)
    table.assign(label="healthy").to_csv(folder / "manifest.csv", index=False)
    refused(medvision(*words), r"manifest\.csv was edited; remove .* and generate it again")


def test_a_generator_without_a_passed_gate_needs_a_word(tmp_path, phantom, medvision, generator):
    seen, contract = seen_of(phantom), READER.contract()
    failed = generator(tmp_path / "gan" / "bad", seen, contract, FAILED)
    words = ("generate", f"run={failed}", "per_class=1", f"output={tmp_path / 'bad'}")
    told = r"gan/bad failed its gate \(it copies; it is bare\); .*allow_ungated=true"
    refused(medvision(*words), told)
    assert not (tmp_path / "bad").exists()
    bare = generator(tmp_path / "gan" / "bare", seen, contract, None)
    refused(medvision("generate", f"run={bare}", "per_class=1"), "gan/bare has no gate")
    done = medvision(*words, "allow_ungated=true")
    assert done.status == 0, done.err
    assert "generated while the gate failed: it copies; it is bare" in done.out
    assert json.loads((tmp_path / "bad" / "card.json").read_text())["facts"]["ungated"] is True


def test_what_cannot_be_is_one_sentence(made, gan, trained, medvision, tmp_path, generator):
    run = f"run={gan}"
    refused(medvision("generate", run), "medvision generate needs per_class=")
    refused(medvision("generate", run, "per_class=0"), "per_class=0 must be a whole number, 1 or")
    refused(medvision("generate", run, "per_class=many"), "per_class=many must be a whole number")
    refused(medvision("generate", run, "per_class=1", "seed=-1"), "seed=-1 must be a whole number")
    told = r"knows no 'leison' \(did you mean 'lesion'\?\); it makes healthy, lesion"
    refused(medvision("generate", run, "per_class=1", "classes=[leison]"), told)
    refused(medvision("generate", run, "per_class=1", "classes=[]"), "knows no ''")
    told = r"model\.pt is a classifier, which makes no images"
    refused(medvision("generate", f"run={trained}", "per_class=1"), told)
    told = "five holds something else; choose another output"
    refused(medvision("generate", run, "per_class=1", f"output={made}"), told)
    file = tmp_path / "file"
    file.write_text("mine")
    refused(
        medvision("generate", run, "per_class=1", f"output={file}"), "file holds something else"
    )
    assert file.read_text() == "mine"
    half = generator(tmp_path / "gan" / "half", Seen(), READER.contract())
    record = json.loads((half / "record.json").read_text()) | {"status": "interrupted"}
    (half / "record.json").write_text(json.dumps(record))
    told = r"gan/half has not finished \(interrupted\); give its training command again"
    refused(medvision("generate", f"run={half}", "per_class=1"), told)


def test_a_stopped_command_leaves_nothing(gan, medvision, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device", str(tmp_path))

    monkeypatch.setattr("medvision.commands.generate.write_png", full)
    done = medvision("generate", f"run={gan}", "per_class=1", f"output={tmp_path / 'out'}")
    refused(done, "the disk is full")
    assert {path.name for path in tmp_path.iterdir()} <= {".out.lock"}


@pytest.mark.parametrize(
    "words",
    [("evaluate",), ("predict", "input=x.png", "output=x.csv")],
)
def test_commands_of_classifiers_refuse_a_generator(gan, medvision, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.new("L", (32, 32)).save("x.png")
    told = r"model\.pt is a generator, .*medvision generate run="
    refused(medvision(*words, f"run={gan}"), told)
    refused(medvision(*words, f"runs=[{gan}]"), told)


def test_a_generator_is_no_start_for_a_classifier(gan, tiny, medvision):
    told = r"model\.weights=.* is a generator, .*medvision generate run="
    refused(medvision(*tiny, f"model.weights={gan}", "name=started"), told)


def train(medvision, tiny, folder, *words):
    extra = f"data.extra=[{folder / 'manifest.csv'}]"
    return medvision(*tiny, extra, "data.extra_ratio=0.25", "trainer.max_epochs=2", *words)


def test_a_classifier_trains_on_generated_images_and_says_so(
    apart, medvision, tiny, made, gan, phantom
):
    done = train(medvision, tiny, made, "name=reuse")
    assert done.status == 0, done.err
    (run,) = (p for p in (apart / "reuse").iterdir() if p.is_dir())
    digest = files.digest_file(gan / "model.pt")
    told = f"10 generated images joined train (data.extra_ratio=0.25) of the generator {digest[:8]}"
    assert told in done.out
    assert told in (run / "report.html").read_text()
    (fact,) = json.loads((run / "audit.json").read_text())["generated"]
    assert (fact["generator"], fact["ratio"], fact["gate"]["passed"]) == (digest, 0.25, True)
    alone = look(phantom)[0]
    model, seen = load_model(run / "model.pt"), seen_of(phantom)
    assert model.seen == seen  # no generated patient; the generator has seen the same ones
    assert model.trained_on["images"] == len(alone.rows("train"))
    table = pd.read_csv(run / "manifest.csv", keep_default_na=False)
    assert (table["origin"] == "generated").sum() == 10
    again = medvision("evaluate", f"run={run}", "split=test")
    assert again.status == 0, again.err


def test_what_the_generator_has_seen_the_classifier_has_seen(
    apart, medvision, tiny, phantom, generator, tmp_path
):
    seen = seen_of(phantom)
    more = replace(seen, train_patients=[*seen.train_patients, "p0"],
                   train_images=[*seen.train_images, "i0"])  # fmt: skip
    gan = generator(tmp_path / "gan" / "more", more, READER.contract())
    medvision("generate", f"run={gan}", "per_class=2", f"output={tmp_path / 'more'}")
    done = train(medvision, tiny, tmp_path / "more", "name=more", "test=false")
    assert done.status == 0, done.err
    (run,) = (p for p in (apart / "more").iterdir() if p.is_dir())
    model = load_model(run / "model.pt")
    assert "p0" in model.seen.train_patients
    assert "i0" in model.seen.train_images


@pytest.mark.parametrize(
    ("split", "words", "told"),
    [
        ({"parts": ("all", "val")}, (), "val part"),
        ({"parts": ("train", "test")}, (), "test part"),
        ({"fold": 0}, ("data.fold=1",), "(val|test) part"),
        ({"split_seed": 1}, (), "(val|test) part"),
    ],
)
def test_a_generator_that_has_met_val_or_test_is_refused(
    apart, medvision, tiny, phantom, generator, tmp_path, split, words, told
):
    if split.get("parts") == ("all", "val"):
        val = look(phantom)[0].shown("val")
        seen = seen_of(phantom).join(Seen.of(val, val))
    else:
        seen = seen_of(phantom, **split)
    gan = generator(tmp_path / "gan" / "leak", seen, READER.contract())
    medvision("generate", f"run={gan}", "per_class=1", f"output={tmp_path / 'leak'}")
    done = train(medvision, tiny, tmp_path / "leak", "name=leak", *words)
    told = rf"\(gan/leak\) has seen \d+ patients and \d+ images of the {told}"
    refused(done, told, "train a generator on this split")
    assert not (apart / "leak").exists()
    if "fold" in split:
        same = train(medvision, tiny, tmp_path / "leak", "name=leak", "data.fold=0", "test=false")
        assert same.status == 0, same.err


def test_images_tell_where_patients_cannot(apart, medvision, tiny, phantom, generator, tmp_path):
    seen = seen_of(phantom)
    foreign = replace(seen, train_patients=["x1"], val_patients=["x2"], key="ffffffff")
    gan = generator(tmp_path / "gan" / "foreign", foreign, READER.contract())
    medvision("generate", f"run={gan}", "per_class=2", f"output={tmp_path / 'foreign'}")
    done = train(medvision, tiny, tmp_path / "foreign", "name=foreign", "test=false")
    assert done.status == 0, done.err
    assert re.search("patients its generator has seen of .* not checked", done.out)
    samples, _ = look(phantom)
    one = min(samples.shown("test").images)
    foreign = Seen([], [one], [], [], "ffffffff")  # a plain digest, of before images had a key
    gan = generator(tmp_path / "gan" / "copy", foreign, READER.contract())
    medvision("generate", f"run={gan}", "per_class=2", f"output={tmp_path / 'copy'}")
    done = train(medvision, tiny, tmp_path / "copy", "name=copy")
    refused(done, "has seen 0 patients and 1 images of the test part")


def test_ungated_images_are_stamped_in_the_report(
    apart, medvision, tiny, phantom, generator, tmp_path
):
    gan = generator(tmp_path / "gan" / "bad", seen_of(phantom), READER.contract(), FAILED)
    words = ("per_class=2", f"output={tmp_path / 'bad'}", "allow_ungated=true")
    medvision("generate", f"run={gan}", *words)
    done = train(medvision, tiny, tmp_path / "bad", "name=bad", "test=false")
    assert done.status == 0, done.err
    (run,) = (p for p in (apart / "bad").iterdir() if p.is_dir())
    told = "generated while the gate failed: it copies; it is bare"
    assert told in done.out
    assert told in (run / "report.html").read_text()
    assert json.loads((run / "audit.json").read_text())["generated"][0]["ungated"] is True


def test_the_ratio_names_the_run_and_the_place_does_not(apart, medvision, tiny, made, tmp_path):
    moved = tmp_path / "moved"
    moved.mkdir()
    for path in made.rglob("*.*"):
        files.write_bytes(moved / path.relative_to(made), path.read_bytes())
    words = ("name=key", "test=false", "trainer.max_epochs=1")
    first = train(medvision, tiny, made, *words)
    assert first.status == 0, first.err
    assert "finished already" in train(medvision, tiny, moved, *words).out
    other = medvision(*tiny, f"data.extra=[{moved}/manifest.csv]", "data.extra_ratio=1", *words)
    assert "finished already" not in other.out
    assert len([p for p in (apart / "key").iterdir() if p.is_dir()]) == 2


def test_a_ratio_out_of_range_is_told_before_anything_is_read(tiny, medvision):
    for value in ("-1", "balanced", "inf"):
        done = medvision(*tiny, f"data.extra_ratio={value}")
        refused(done, f"data.extra_ratio={value} must be null, a number from 0")
