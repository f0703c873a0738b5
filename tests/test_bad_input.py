"""A user's mistake ends in one sentence with the way out, status 2, and nothing half-written."""

import errno
import json
import os
import re
import shutil
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from pytorch_lightning.callbacks import ModelCheckpoint

pytestmark = pytest.mark.usefixtures("dots")

SMALL = (
    "data.reader.size=[16,16]", "data.batch_size=8", "data.workers=1", "model.net.widths=[4,8]",
    "trainer.max_epochs=1", "threads=1", "callbacks.early_stopping=null",
)  # fmt: skip
ASIDE = re.compile(r"\..*\.aside\d+(\.\w+)?")


def make_set(folder, change=None):
    """24 images of 12 patients in a given split with both classes everywhere; `change` edits it."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    rows = []
    for n in range(24):
        pixels = random.integers(0, 256, (16, 16), dtype=np.uint8)
        content = cv2.imencode(".png", pixels)[1].tobytes()
        (folder / f"i{n:02}.png").write_bytes(content)
        split = ("train", "train", "val", "test")[n // 2 % 4]
        rows.append((f"i{n:02}.png", f"p{n // 2}", ("well", "ill")[n % 2], split))
    table = pd.DataFrame(rows, columns=["path", "patient", "label", "split"])
    if change is not None:
        table = change(table)
    table.to_csv(folder / "manifest.csv", index=False)
    return folder / "manifest.csv"


def words_for(manifest, *more):
    return ("train", "data=manifest", f"data.manifest={manifest}", *SMALL, *more)


def refused(outcome, *texts):
    """Assert that a command ended in one sentence holding these texts; return it."""
    assert outcome.status == 2, outcome
    *before, sentence = outcome.err.splitlines()
    assert sentence.startswith("medvision: ")
    assert all(line.startswith(("decoded ", "waiting for ")) for line in before), before
    assert "Traceback" not in outcome.out + outcome.err
    for text in texts:
        assert text in sentence
    return sentence


def check_nothing_half_written(top):
    for folder, _, names in os.walk(top):
        assert not [name for name in names if ASIDE.fullmatch(name)], folder
        if Path(folder).parent.name == "stores":
            assert "index.json" in names
        if "record.json" in names:
            record = json.loads(Path(folder, "record.json").read_text())
            assert record["status"] == "failed"
            assert record["reason"]
            assert not {"model.pt", "metrics.json", "report.html"} & set(names)


def set_rows(column, value, rows):
    return lambda table: table.assign(
        **{column: table[column].where(~table.index.isin(list(rows)), value)}
    )


def repeat_image(table):
    """Give row 0 (train) and row 6 (test) one image under two patients."""
    return table.assign(path=table["path"].where(table.index != 6, "copy.png"))


TABLES = {
    "mistyped column": (
        lambda t: t.rename(columns={"patient": "pateint"}),
        (),
        ("manifest.csv", "pateint", "did you mean", "columns.patient=path"),
    ),
    "missing column": (
        lambda t: t.drop(columns="path"),
        (),
        ("manifest.csv", "path"),
    ),
    "no rows": (lambda t: t[:0], (), ("manifest.csv has a header but no rows",)),
    "unknown split name": (
        set_rows("split", "trian", [3]),
        (),
        ("manifest.csv", "`split` must be train, val, test or empty", "line 5",
         "(did you mean 'train'?)"),
    ),
    "all problems at once": (
        lambda t: set_rows("split", "tost", [3])(set_rows("patient", "", [7])(t)),
        (),
        ("line 5", "line 9"),
    ),
    "patient in two splits": (
        set_rows("patient", "p0", [6]),
        (),
        ("1 patient and 0 images in more than one part", "patient 'p0'", "train and test",
         "data.on_leak=drop"),
    ),
    "no test rows": (
        lambda t: t[t["split"] != "test"],
        (),
        ("test=true", "no test rows", "test=false"),
    ),
    "no train rows": (
        lambda t: t[t["split"] == "val"],
        ("test=false",),
        ("the train part has no labelled row",),
    ),
    "no val rows": (
        lambda t: t[t["split"] == "test"],
        (),
        ("the val part is empty", "data.mode=patient"),
    ),
    "one class": (
        lambda t: t.assign(label="well"),
        (),
        ("only one class, 'well'", "data.classes"),
    ),
    "no label": (lambda t: t.drop(columns="label"), (), ("no row has a label", "columns.label=")),
    "label unseen in training": (
        set_rows("label", "odd", [6, 7]),
        (),
        ("labels of the test part that no training row has: 'odd' (2 rows)", "data.rename"),
    ),
    "label that is no class": (
        set_rows("label", "wel", [0]),
        ("data.classes=[well,ill]",),
        ("'wel' (1 rows) (did you mean 'well'?)", "data.rename", "data.classes"),
    ),
    "monitor undefined on val": (
        lambda t: t[(t["split"] != "val") | (t["label"] == "well")],
        (),
        ("monitor=val/auroc is undefined on the val part", "monitor=val/loss"),
    ),
    "fold that is not there": (None, ("data.fold=7",), ("data.fold=7 does not exist", "0, 1, 2")),
}  # fmt: skip


@pytest.mark.parametrize("case", TABLES)
def test_a_bad_table_is_refused(case, tmp_path, apart, medvision):
    change, words, texts = TABLES[case]
    manifest = make_set(tmp_path / "set", change)
    refused(medvision(*words_for(manifest, *words)), *texts)
    check_nothing_half_written(tmp_path)


def test_copies_across_given_splits_are_refused_or_dropped_and_counted(tmp_path, apart, medvision):
    manifest = make_set(tmp_path / "set", repeat_image)
    (tmp_path / "set" / "copy.png").write_bytes((tmp_path / "set" / "i00.png").read_bytes())
    told = refused(medvision(*words_for(manifest)), "0 patients and 1 image", "data.on_leak=drop")
    assert "i00.png" in told
    assert "copy.png" in told
    done = medvision(*words_for(manifest, "data.on_leak=drop"))
    assert done.status == 0, done.err
    (folder,) = (p.parent for p in apart.glob("*/*/metrics.json"))
    audit = json.loads((folder / "audit.json").read_text())
    assert audit["overlaps"] == {"patients": 0, "images": 1}
    assert sum(audit["dropped"].values()) == 2  # the copy's whole patient leaves train
    assert audit["counts"]["train"]["images"] == 10
    assert audit["counts"]["test"]["images"] == 6
    assert audit["remaining"] == {"patients": 0, "images": 0}


def huge_png():
    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", 40_000, 40_000, 8, 0, 0, 0, 0)
    pixels = zlib.compress(np.random.default_rng(0).bytes(20_000))
    parts = chunk(b"IHDR", header), chunk(b"IDAT", pixels), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def spoil(path, kind):
    """Break one image file; return the file that is broken."""
    if kind == "missing":
        path.unlink()
    elif kind == "NaN":
        path.unlink()
        path = path.with_suffix(".npy")
        np.save(path, np.full((16, 16), np.nan, np.float32))
    else:
        dot = cv2.imencode(".png", np.zeros((1, 1), np.uint8))[1].tobytes()
        path.write_bytes({
            "empty": b"", "truncated": path.read_bytes()[:60], "one pixel": dot,
            "text": b"this is a text\n", "huge": huge_png(),
        }[kind])  # fmt: skip
    return path


FAULTS = {
    "missing": "must be a file",
    "empty": "is empty",
    "truncated": "is truncated",
    "one pixel": "is only 1 x 1 pixels",
    "huge": "is 40000 x 40000 pixels, over the limit",
    "text": "is not an image",
    "NaN": "NaN",
}


def set_with_broken_image(folder, kind):
    manifest = make_set(folder)
    broken = spoil(folder / "i09.png", kind)
    manifest.write_text(manifest.read_text().replace("i09.png", broken.name))
    return manifest, broken


@pytest.mark.parametrize("kind", FAULTS)
def test_a_broken_image_is_named_with_its_fault(kind, tmp_path, apart, medvision):
    manifest, broken = set_with_broken_image(tmp_path / "set", kind)
    way_out = "run again" if kind == "missing" else "data.on_unreadable=exclude"
    refused(medvision(*words_for(manifest)), broken.name, FAULTS[kind], way_out)
    check_nothing_half_written(tmp_path)


def test_broken_images_are_left_out_by_choice_and_counted(tmp_path, apart, medvision):
    manifest, broken = set_with_broken_image(tmp_path / "set", "text")
    done = medvision(*words_for(manifest, "data.on_unreadable=exclude"))
    assert done.status == 0, done.err
    (folder,) = (p.parent for p in apart.glob("*/*/metrics.json"))
    (note,) = (
        n for n in json.loads((folder / "audit.json").read_text())["notes"] if "unreadable" in n
    )
    assert note.startswith("1 unreadable image")
    assert broken.name in note
    assert broken.name not in (folder / "manifest.csv").read_text()
    assert len(pd.read_csv(folder / "manifest.csv")) == 23


@pytest.mark.parametrize("kind", [kind for kind in FAULTS if kind != "missing"])
def test_prepare_names_broken_images_and_leaves_them_out_by_choice(kind, tmp_path, medvision):
    make_set(tmp_path / "set" / "well").unlink()
    broken = spoil(tmp_path / "set" / "well" / "i09.png", kind)
    words = ("prepare", "source=folder", f"input={tmp_path / 'set'}", "columns.patient=path",
             f"output={tmp_path / 'out'}")  # fmt: skip
    refused(medvision(*words), broken.name, FAULTS[kind], "on_unreadable=exclude")
    assert not (tmp_path / "out").exists()
    assert medvision(*words, "on_unreadable=exclude").status == 0
    card = json.loads((tmp_path / "out" / "card.json").read_text())
    (told,) = card["facts"]["left_out"]
    assert broken.name in told
    assert len(pd.read_csv(tmp_path / "out" / "manifest.csv")) == 23


WORDS = {
    "trainer.max_epoch=3": ("no key 'trainer.max_epoch'", "did you mean 'trainer.max_epochs'"),
    "max_epochs=3": ("there is no key 'max_epochs'", "did you mean 'trainer.max_epochs'"),
    "data.soruce.input=x": ("there is no key 'data.soruce.input'", "--cfg job"),
    "modle=convnet": ("there is no key 'modle' (did you mean 'model'?)",),
    "experiment=cnn_fantom": ("cnn_fantom does not exist (did you mean 'cnn_phantom'?)",),
    "model=convnext": ("model=convnext does not exist (did you mean 'convnet'?); use convnet",),
    "seed": ("'seed' is not key=value",),
    "+data.foo=1": ("data cannot be built", "unexpected keyword argument 'foo'"),
    "data.reader.window=lng": ("window='lng' is unknown (did you mean 'lung'?)",),
    "data.reader.size=[32": ("data.reader",),
    "data.reader.channels=2": ("channels=2 cannot be; choose 1 or 3",),
    "data.manifest=nowhere.csv": ("nowhere.csv does not exist", "check the path"),
    "data=folder": ("data.source.input has no value; give data.source.input=…",),
    "monitor=val/auc": ("monitor=val/auc does not exist", "use val/ with one of loss, auroc"),
    "monitor=val/aurocc": ("(did you mean 'auroc'?)",),
    "monitor=test/auroc": ("monitor=test/auroc is not measured on the val part; choose val/auroc",),
    "trainer.accelerator=gpu": ("torch sees no GPU; say trainer.accelerator=auto",),
    "trainer.accelerator=abacus": ("abacus", "auto, cpu, mps, cuda, tpu"),
    "operating_point=sensitivity": ("operating_point=sensitivity", "sensitivity>=0.95"),
    "seed=-1": ("seed=-1 must be a whole number, 0 or more",),
    "seed=null": ("seed=null must be a whole number",),
    "trainer.max_epochs=ten": ("trainer.max_epochs=ten must be a whole number, 1 or more",),
    "trainer.max_epochs=0": ("trainer.max_epochs=0 must be a whole number, 1 or more",),
    "data.batch_size=0": ("data.batch_size=0 must be a whole number, 1 or more",),
    "model.optimizer.lr=-1": ("model.optimizer.lr=-1 must be a number from 0",),
    "model.layer_decay=2": ("model.layer_decay=2 must be a number from 0 to 1",),
    "data.residency=gpu": ("data.residency=gpu must be auto or disk or host or device",),
    "compile=fast": ("compile=fast must be auto or true or false or reduce-overhead",),
    "compile=1": ("compile=1 must be auto or true",),
    "compile=reduce-overhead": ("compile=reduce-overhead cannot be", "CUDA graphs need a GPU"),
    "data.on_leak=dorp": ("data.on_leak=dorp must be error or drop (did you mean 'drop'?)",),
    "data.val_share=1.5": ("data.val_share=1.5 must be at least 0 and below 1",),
    "test=yes_please": ("test=yes_please must be true or false",),
    "callbacks.early_stopping.patience=x": ("patience=x must be a whole number",),
    "model.weights=nowhere.pth": ("model.weights=nowhere.pth is no file, and no run",),
}  # fmt: skip
NAMED_IN_ANY_ORDER = {"trainer.accelerator=abacus": ("abacus", "cpu", "auto")}


@pytest.fixture(scope="module")
def small_set(tmp_path_factory):
    return make_set(tmp_path_factory.mktemp("small") / "set")


@pytest.mark.parametrize("word", WORDS)
def test_a_bad_word_is_refused(word, small_set, tmp_path, apart, medvision, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    key = word.partition("=")[0]
    words = [w for w in words_for(small_set) if not f"{key}.".startswith(w.partition("=")[0] + ".")]
    if word == "data=folder":
        words = [w for w in words if not w.startswith("data.manifest=")]
    refused(medvision(*words, word), *NAMED_IN_ANY_ORDER.get(word, WORDS[word]))
    check_nothing_half_written(tmp_path)


def test_values_out_of_range_are_told_all_at_once(small_set, apart, medvision):
    words = words_for(small_set, "tta=-1", "model.mixup=-1", "allocator=kep", "threads=0")
    refused(medvision(*words), "tta=-1", "threads=0", "model.mixup=-1", "allocator=kep",
            "(did you mean 'keep'?)")  # fmt: skip
    assert not apart.exists()


@pytest.mark.parametrize(
    ("words", "texts"),
    [
        (("trian",), ("unknown command 'trian' (did you mean 'train'?)", "medvision --help")),
        (("evaluate",), ("medvision evaluate needs run=…",)),
        (("evaluate", "run=nowhere"), ("run=nowhere names no run",)),
        (("evaluate", "run=tiny", "splt=val"), ("no argument 'splt' (did you mean 'split'?)",)),
        (("evaluate", "run=tiny", "split=tset"), ("split=tset", "val or test")),
        (("evaluate", "run=tiny", "data.manifest=nowhere.csv"), ("nowhere.csv does not exist",)),
        (("evaluate", "run=tiny", "data.manifset=x.csv"), ("data.manifset", "data.manifest")),
        (("prepare", "source=phntom", "output=x"), ("source=phntom", "did you mean 'phantom'")),
        (("prepare", "source=phantom", "output=x", "patient=9"), ("did you mean 'patients'",)),
        (("prepare", "source=phantom", "output=x", "patients=0"), ("patients",)),
        (("prepare", "source=folder", "output=x"), ("source=folder needs input=PATH",)),
        (("prepare", "source=table", "output=x", "input=no.csv"), ("no.csv does not exist",)),
        (("predict", "run=tiny", "output=x.csv"), ("medvision predict needs input=…",)),
    ],
)
def test_the_other_commands_refuse_alike(words, texts, trained, tmp_path, monkeypatch, medvision):
    monkeypatch.chdir(tmp_path)
    refused(medvision(*words), *texts)
    assert not list(tmp_path.iterdir())


def test_a_label_the_model_does_not_know_is_refused(phantom, trained, medvision):
    table = pd.read_csv(phantom)
    other = phantom.with_name("odd.csv")
    table.assign(label=table["label"].replace("lesion", "leson")).to_csv(other, index=False)
    told = refused(
        medvision("evaluate", f"run={trained}", f"data.manifest={other}"),
        "'leson'", "(did you mean 'lesion'?)", "data.rename",
    )  # fmt: skip
    assert "healthy, lesion" in told
    assert not (trained / "evaluations").exists()


@pytest.mark.parametrize("content", [b"", b"not a model"])
def test_a_model_that_is_none_is_refused(content, trained, tmp_path, medvision):
    folder = shutil.copytree(trained, tmp_path / "run")
    (folder / "model.pt").write_bytes(content)
    refused(medvision("evaluate", f"run={folder}"), str(folder / "model.pt"), "train the run again")


REASONS = {
    errno.ENOSPC: ("the disk is full", "free some space and run the same command again"),
    errno.EACCES: ("permission is denied", "MEDVISION_RUNS, MEDVISION_CACHE or output="),
    errno.EROFS: ("the file system is read-only", "MEDVISION_RUNS, MEDVISION_CACHE or output="),
}


def refuse_writing(patch, name, number):
    """Make the system refuse the last step of the one write function for files of this name."""
    rename = Path.replace

    def replace(path, target):
        if Path(target).name == name:
            raise OSError(number, os.strerror(number))
        return rename(path, target)

    patch.setattr(Path, "replace", replace)


@pytest.mark.parametrize("number", REASONS)
@pytest.mark.parametrize("name", ["p0001.npy", "card.json", "manifest.csv"])
def test_prepare_that_may_not_write_says_so(name, number, tmp_path, medvision, monkeypatch):
    refuse_writing(monkeypatch, name, number)
    told = medvision("prepare", "source=phantom", f"output={tmp_path / 'out'}", "patients=4",
                     "slices=2", "size=32")  # fmt: skip
    refused(told, name, *REASONS[number])
    assert not (tmp_path / "out" / "manifest.csv").exists()
    check_nothing_half_written(tmp_path)


@pytest.mark.parametrize("number", REASONS)
@pytest.mark.parametrize("name", ["pixels.npy", "index.json", "record.json", "config.yaml"])
def test_a_training_that_may_not_write_says_so(
    name, number, small_set, tmp_path, apart, medvision, monkeypatch
):
    with monkeypatch.context() as patch:
        refuse_writing(patch, name, number)
        refused(medvision(*words_for(small_set)), name, *REASONS[number])
    for folder, _, names in os.walk(tmp_path):
        assert not [n for n in names if ASIDE.fullmatch(n)], folder
        if Path(folder).parent.name == "stores":
            assert "index.json" in names


@pytest.mark.slow
@pytest.mark.parametrize("name", ["model.pt", "report.html"])
def test_a_full_disk_late_in_a_run_loses_nothing(
    name, tiny, trained, apart, medvision, monkeypatch
):
    with monkeypatch.context() as patch:
        refuse_writing(patch, name, errno.ENOSPC)
        refused(medvision(*tiny, "name=full"), name, *REASONS[errno.ENOSPC])
    again = medvision(*tiny, "name=full")
    assert again.status == 0, again.err
    (folder,) = (p for p in (apart / "full").iterdir() if p.is_dir())
    assert (folder / "report.html").exists()
    assert json.loads((folder / "record.json").read_text())["status"] == "done"
    for same in ("metrics.json", "predictions/test.csv"):
        assert (folder / same).read_bytes() == (trained / same).read_bytes()


def test_a_full_disk_at_a_checkpoint_resumes(tiny, trained, apart, medvision, monkeypatch):
    save = ModelCheckpoint._save_checkpoint

    def refuse(self, trainer, path):
        if trainer.current_epoch == 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
        save(self, trainer, path)

    with monkeypatch.context() as patch:
        patch.setattr(ModelCheckpoint, "_save_checkpoint", refuse)
        refused(medvision(*tiny, "name=full"), ".ckpt", *REASONS[errno.ENOSPC])
    again = medvision(*tiny, "name=full")
    assert again.status == 0, again.err
    assert "resuming" in again.out
    (folder,) = (p for p in (apart / "full").iterdir() if p.is_dir())
    assert (folder / "metrics.json").read_bytes() == (trained / "metrics.json").read_bytes()


BROKEN = "model.optimizer._target_=torch.optim.Foo"  # found out when the run has begun


def test_a_failed_run_says_why_in_its_record_and_makes_room_for_the_next(
    small_set, tmp_path, apart, medvision
):
    refused(medvision(*words_for(small_set, BROKEN)), "torch.optim.Foo")
    (folder,) = (p.parent for p in apart.glob("*/*/record.json"))
    record = json.loads((folder / "record.json").read_text())
    assert record["status"] == "failed"
    assert "torch.optim.Foo" in record["reason"]
    check_nothing_half_written(tmp_path)
    refused(medvision(*words_for(small_set, BROKEN)), "torch.optim.Foo")
    names = sorted(p.parent.name for p in apart.glob("*/*/record.json"))
    assert names == [folder.name, f"{folder.name}~1"]


def test_a_failed_job_of_a_sweep_is_told_and_the_rest_goes_on(small_set, apart, medvision):
    targets = "model.optimizer._target_=torch.optim.Foo,torch.optim.AdamW"
    done = medvision(*words_for(small_set), "-m", targets)
    assert done.status == 2
    lines = [line for line in done.err.splitlines() if line.startswith("medvision: ")]
    assert len(lines) == 2
    assert "torch.optim.Foo" in lines[0]
    assert (
        lines[1] == "medvision: 1 job of the sweep failed; the same command tries again what failed"
    )
    states = [json.loads(p.read_text())["status"] for p in apart.glob("*/*/record.json")]
    assert sorted(states) == ["done", "failed"]


def test_a_table_that_cannot_train_leaves_no_run_behind(tmp_path, apart, medvision):
    manifest = make_set(tmp_path / "set", lambda t: t[t["split"] != "test"])
    refused(medvision(*words_for(manifest)), "test=false")
    assert not list(apart.glob("*/*/record.json"))


def test_series_are_not_given_to_a_model_of_images(apart, medvision, tiny):
    refused(medvision(*tiny, "data.unit=series", "name=s"), "data.unit=image to train on slices")
    assert not (apart / "s").exists()


@pytest.mark.parametrize("name", ["last", "best"])
def test_a_cut_checkpoint_is_told_and_the_same_command_begins_anew(
    name, tiny, apart, medvision, monkeypatch
):
    words = (*tiny, "name=cut")

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("medvision.training.finish.freeze_model", stop)
        assert medvision(*words).status == 130
    (checkpoint,) = apart.glob(f"cut/*/checkpoints/{name}.ckpt")
    os.truncate(checkpoint, 100)
    refused(medvision(*words), str(checkpoint), "give the same command again")
    done = medvision(*words)
    assert done.status == 0, done.err
    assert "training in" in done.out
