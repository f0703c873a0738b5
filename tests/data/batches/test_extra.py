"""Generated rows join train as they were written, in a stated ratio, and count in nothing else."""

import json

import cv2
import numpy as np
import pandas as pd
import pytest

import medvision.files as files
from medvision.data.batches.datamodule import ImageDataModule
from medvision.data.batches.generated import Generated, write_generated, write_png
from medvision.data.manifest.card import Card
from medvision.data.store.reader import Reader
from medvision.errors import MedvisionError

READER = Reader(size=(12, 12), window=(10.0, 200.0))
SPLIT = ["train"] * 20 + ["val"] * 4 + ["test"] * 4
LABEL = ["a", "a", "a", "b"] * 7
PASSED = {"passed": True, "score": 0.812, "spaces": ["random"], "reasons": []}
SEEN = {"train_patients": ["own0"], "train_images": ["d0"], "val_patients": [], "val_images": []}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDVISION_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def own(tmp_path):
    """28 images of as many patients: 15 of a and 5 of b train."""
    folder, random = tmp_path / "own", np.random.default_rng(0)
    folder.mkdir()
    for n in range(28):
        cv2.imwrite(str(folder / f"{n}.png"), random.integers(0, 256, (12, 12), dtype=np.uint8))
    table = {"path": [f"{n}.png" for n in range(28)], "patient": [f"own{n}" for n in range(28)],
             "label": LABEL, "split": SPLIT}  # fmt: skip
    pd.DataFrame(table).to_csv(folder / "manifest.csv", index=False)
    return folder / "manifest.csv"


def plant(folder, labels=("a", "b") * 6, size=(12, 12), keep=None, classes=("a", "b"), **told):
    """What `medvision generate` writes, of random pixels; return them and the manifest."""
    random, rows, pixels = np.random.default_rng(1), [], []
    for n, label in enumerate(labels):
        image = random.integers(0, 256, (*size, 1), dtype=np.uint8)
        digest = write_png(folder / f"{n}.png", image, {"Class": label})
        pixels.append(image)
        rows.append((f"{n}.png", f"gen-0a1b2c3d-{classes.index(label)}-{n}", label, digest))
    table = pd.DataFrame(rows, columns=["path", "patient", "label", "digest"]).assign(
        split="train", origin="generated", seed=0, index=range(len(rows)), near="", agreed="",
        keep=keep or "true", reason="",
    )  # fmt: skip
    facts = Generated(
        generator="0a1b2c3d" * 8, run="gan/x-1", gate=PASSED, ungated=False, seen=SEEN,
        size=[*size], channels=1, reader=READER.contract(), rows="", key=None,
    ).to_facts()  # fmt: skip
    card = Card("generated-0a1b2c3d-seed0", list(classes), origin="generated", facts=facts | told)
    write_generated(folder, table, card)
    return np.stack(pixels), folder / "manifest.csv"


@pytest.fixture
def made(tmp_path):
    return plant(tmp_path / "made")


def module(own, *extra, ratio=0.25, **options):
    options = {"reader": READER, "batch_size": 5, "extra_ratio": ratio} | options
    return ImageDataModule(manifest=str(own), extra=[str(place) for place in extra], **options)


def counts(data):
    return list(data.ready.count(data.train_rows())["per_class"].values())


def refused(told, own, *extra, **options):
    with pytest.raises(MedvisionError, match=told) as error:
        module(own, *extra, **options).setup()
    assert "\n" not in str(error.value)


def change_card(manifest, **facts):
    place = manifest.with_name("card.json")
    card = json.loads(place.read_text())
    card["facts"] |= facts
    card["facts"] = {key: value for key, value in card["facts"].items() if value is not None}
    place.write_text(json.dumps(card))


def test_generated_pixels_enter_as_they_were_written_whatever_the_window(own, made):
    pixels, manifest = made
    samples = module(own, manifest).ready
    rows = samples.generated_rows()
    assert np.array_equal(samples.gather(rows), pixels)
    assert set(samples.table["split"][rows]) == {"train"}
    assert samples.gather(np.array([0])).max() == 255  # own images are windowed


def test_only_real_rows_are_counted_weighed_and_seen(own, made):
    alone, both = module(own, ratio=None), module(own, made[1])
    assert counts(both) == counts(alone) == [15, 5]
    assert both.class_weights().tolist() == alone.class_weights().tolist()
    assert both.train_rows().tolist() == alone.train_rows().tolist() == list(range(20))
    for part in ("train", "val", "test"):
        assert both.ready.shown(part) == alone.ready.shown(part)
    assert both.audit.counts == alone.audit.counts


def drawn(data, epoch=0):
    sampler = data.train_dataloader().sampler
    sampler.set_epoch(epoch)
    batches = [batch["index"].numpy() for batch in sampler]
    assert [len(batch) for batch in batches] == [5, 5, 5, 5]
    return np.concatenate(batches)


@pytest.mark.parametrize(("ratio", "count"), [(0, 0), (0.25, 4), (1, 10), (3, 15), ("only", 20)])
def test_an_epoch_keeps_its_steps_and_holds_the_ratio(own, made, ratio, count):
    data = module(own, made[1], ratio=ratio)
    for epoch in range(3):
        assert (drawn(data, epoch) >= 28).sum() == count
    if ratio == 0:
        assert drawn(data).tolist() == drawn(module(own, ratio=None)).tolist()


def test_balance_draws_classes_equally_often_and_fills_up_with_generated_images(own, made):
    data = module(own, made[1], ratio="balance")
    label = data.ready.targets["label"]
    for epoch in range(3):
        rows = drawn(data, epoch)
        assert np.bincount(label[rows]).tolist() == [10, 10]
        assert sorted(label[rows[rows >= 28]]) == [1] * 7  # of b a third is real, as 5 of 15 are


def test_the_audit_names_generator_ratio_and_gate(own, tmp_path):
    _, manifest = plant(tmp_path / "made", keep=["true", "false"] * 6)
    data = module(own, manifest)
    assert len(data.ready.generated_rows()) == 6
    (fact,) = data.audit.to_json()["generated"]
    assert fact == {
        "generator": "0a1b2c3d" * 8, "run": "gan/x-1", "images": 6, "left_out": 6, "ratio": 0.25,
        "gate": PASSED, "ungated": False,
    }  # fmt: skip
    told = [note for note in data.audit.notes if "generated" in note]
    assert told == [
        "6 generated images joined train (data.extra_ratio=0.25, 6 more left out by their filter) "
        "of the generator 0a1b2c3d, gan/x-1: its gate passed with score 0.812"
    ]
    # Neither side has a key: ids as given are compared with ids as given.
    assert not any("its generator has seen of" in note for note in data.audit.notes)


def test_images_of_a_failed_gate_are_stamped_or_refused(own, tmp_path):
    gate = {"passed": False, "score": 0.2, "spaces": ["random"], "reasons": ["it copies"]}
    _, manifest = plant(tmp_path / "made", gate=gate, ungated=True)
    data = module(own, manifest)
    data.setup()
    assert any("generated while the gate failed: it copies" in note for note in data.audit.notes)
    change_card(manifest, ungated=False)
    refused("generated while the gate failed: it copies; .*allow_ungated=true", own, manifest)


def test_real_and_generated_extras_stand_side_by_side(own, made, tmp_path):
    folder = tmp_path / "more"
    folder.mkdir()
    pixels = np.random.default_rng(9).integers(0, 256, (12, 12), dtype=np.uint8)
    cv2.imwrite(str(folder / "0.png"), pixels)
    (folder / "manifest.csv").write_text("path,patient,label\n0.png,more0,b\n")
    for extras in ([made[1], folder], [folder, made[1]]):
        data = module(own, *extras)
        assert counts(data) == [15, 6]
        assert len(data.ready.generated_rows()) == 12
        assert "1 rows of data.extra joined train" in data.audit.notes
        real = int(np.flatnonzero(data.ready.table["patient"] == "more0")[0])
        assert any(real in drawn(data, epoch) for epoch in range(5))


def test_a_run_is_known_by_its_generated_rows_wherever_they_lie(own, made, tmp_path):
    first = module(own, made[1])
    before = first.ready and first.identity()
    moved = (tmp_path / "made").rename(tmp_path / "elsewhere")
    assert module(own, moved).identity() == before
    other = plant(tmp_path / "other", labels=("b", "a") * 6)[1]
    assert module(own, other).identity() != before


def test_a_ratio_and_generated_rows_need_each_other(own, made):
    told = "holds generated images and data.extra_ratio does not say how many.*balance or only"
    refused(told, own, made[1], ratio=None)
    refused("extra_ratio=0.25 has no generated images to draw from", own)
    refused("data.balance=true and data.extra_ratio=0.25 both", own, made[1], balance=True)


@pytest.mark.parametrize("ratio", [-1, float("nan"), float("inf"), True, "half", [1]])
def test_a_ratio_that_cannot_be_is_refused(own, made, ratio):
    refused("extra_ratio=.* cannot be; choose null, a number from 0", own, made[1], ratio=ratio)


def test_images_of_another_make_are_refused(own, tmp_path):
    three = plant(tmp_path / "a", classes=("a", "b", "c"))[1]
    refused("is of the classes a, b, c, and the run has a, b; map", own, three)
    small = plant(tmp_path / "b", size=(8, 8))[1]
    refused(r"images of 8x8 with 1 channels, not 12x12 with 1; set data.reader.size", own, small)
    made = plant(tmp_path / "c")[1]
    told = r"from images read with window=\[10.0, 200.0\] \(here full\)"
    refused(told, own, made, reader=Reader(size=(12, 12)))
    edit(own, lambda t: t.assign(series=t["patient"]))
    refused("which make no series; say data.unit=image", own, made, unit="series")


def test_classes_go_by_name_and_may_be_renamed(own, tmp_path):
    made = plant(tmp_path / "made", labels=("x", "b") * 3, classes=("x", "b"))[1]
    data = module(own, made, rename={"x": "a"}, classes=["b", "a"])
    label = data.ready.targets["label"][data.ready.generated_rows()]
    assert data.ready.target.decode_labels(label) == ["a", "b"] * 3


def edit(manifest, change):
    table = pd.read_csv(manifest, dtype=str, keep_default_na=False)
    change(table).to_csv(manifest, index=False, lineterminator="\n")


def test_an_edited_manifest_is_refused(own, tmp_path):
    for n, change in enumerate([
        lambda t: t.assign(label=t["label"].to_list()[::-1]),
        lambda t: t.assign(keep="true"),
        lambda t: t.iloc[1:],
        lambda t: t.assign(split="test"),
    ]):  # fmt: skip
        made = plant(tmp_path / str(n), keep=["true", "false"] * 6)[1]
        edit(made, change)
        refused("was edited after it was generated", own, made)


def test_rows_that_do_not_train_are_refused_whatever_the_card_says(own, made):
    edit(made[1], lambda t: t.assign(split="val"))
    change_card(made[1], rows=files.digest_file(made[1]))
    refused("was edited after it was generated", own, made[1])


def test_changed_pixels_are_refused(own, made):
    place = made[1].with_name("3.png")
    cv2.imwrite(str(place), 255 - made[0][3])
    refused(r"the pixels of 1 images are not those .* such as .*3\.png", own, made[1])


def test_a_card_that_does_not_tell_what_was_seen_is_refused(own, made):
    change_card(made[1], seen=SEEN | {"train_images": []})
    refused("does not say which images its generator has seen", own, made[1])
    change_card(made[1], seen=None)
    refused("its card does not say seen, so nobody can tell", own, made[1])
    change_card(made[1], seen=["own0"], size="12")
    refused("its card does not say seen, size, so nobody can tell", own, made[1])
    made[1].with_name("card.json").unlink()
    refused("its card does not say generator, run, gate", own, made[1])


def test_generated_rows_among_real_ones_are_refused(own, made):
    edit(made[1], lambda t: t.assign(origin=["real", *t["origin"][1:]]))
    refused("mixes real and generated rows", own, made[1])


@pytest.mark.parametrize("part", ["train", "val", "test"])
def test_generated_rows_in_the_own_manifest_are_refused(own, part):
    edit(own, lambda t: t.assign(origin=["generated" if s == part else "" for s in t["split"]]))
    refused("holds generated images, .*give them as data.extra", own, ratio=None)


def test_a_filter_that_keeps_nothing_is_refused(own, tmp_path):
    refused("keeps none of its rows", own, plant(tmp_path / "made", keep="false")[1])
