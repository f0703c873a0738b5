"""A folder of 120 PNG of 40 patients, as a user begins with: a bright blob makes a patient ill."""

import json

import cv2
import numpy as np
import pandas as pd
import pytest

import medvision.files as files

pytestmark = pytest.mark.usefixtures("dots")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three images a patient, in a folder a class."""
    top, random = tmp_path_factory.mktemp("png"), np.random.default_rng(0)
    y, x = np.mgrid[:160, :160]
    inside = (x - 80) ** 2 / 72**2 + (y - 80) ** 2 / 64**2 < 1
    for patient, image in np.ndindex(40, 3):
        texture = cv2.GaussianBlur(random.normal(size=(160, 160)), (0, 0), 6)
        pixels = random.uniform(60, 100) + 150 * texture + random.normal(0, 12, (160, 160))
        pixels = np.where(inside, pixels, 10)
        if patient % 2:
            (left, top_), wide = random.uniform(48, 112, 2), random.uniform(8, 14)
            pixels += 110 * np.exp(-((x - left) ** 2 + (y - top_) ** 2) / (2 * wide**2))
        written, png = cv2.imencode(".png", pixels.clip(0, 255).astype(np.uint8))
        assert written
        place = top / ("healthy", "sick")[patient % 2] / f"p{patient:02}_{image}.png"
        files.write_bytes(place, png.tobytes())
    return top


def train(medvision, runs, folder, name, *words):
    """Return what a run came to: its metrics, record and history."""
    done = medvision(
        "train", "data=folder", f"data.source.input={folder}", "threads=1",
        "data.source.columns.patient='(p\\d+)_'", f"name={name}", *words,
    )  # fmt: skip
    assert done.status == 0, done.err
    (run,) = (path for path in (runs / name).iterdir() if path.is_dir())
    told = [json.loads((run / f"{what}.json").read_text()) for what in ("metrics", "record")]
    return *told, pd.read_csv(run / "history.csv"), pd.read_csv(run / "predictions" / "test.csv")


def test_the_defaults_learn_it(medvision, apart, folder):
    """Two steps an epoch, and statistics that lag, left all images one class at AUROC 1 on val."""
    metrics, record, history, _ = train(
        medvision, apart, folder, "small", "data.reader.size=[48,48]"
    )
    assert metrics["test_argmax"]["accuracy"]["value"] > 0.95
    assert metrics["test"]["brier"]["value"] < 0.05
    assert history["val/auroc"][len(history) // 3 :].min() >= 0.9
    assert record["best_epoch"] == len(history) - 1
    assert record["objective"] == pytest.approx(history["val/auroc"].iloc[-1], abs=1e-6)
    assert record["kept_for"].startswith(f"the last of {len(history)}, as val holds 6 patients")
    page = next(apart.glob("small/*/report.html")).read_text()
    assert f"epoch {record['best_epoch']} was kept: {record['kept_for']}" in page


def test_batches_of_one_are_taken(medvision, apart, folder):
    _, record, history, _ = train(
        medvision, apart, folder, "single", "data.batch_size=1", "data.reader.size=[32,32]",
        "model.net.widths=[4,8]", "trainer.max_epochs=1",
    )  # fmt: skip
    assert record["status"] == "done"
    assert history["val/loss"].notna().all()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_defaults_learn_it_over_five_splits(medvision, apart, folder):
    """Pooled over the splits, at the size that is read without a word."""
    squares, right = [], []
    for split in range(5):
        *_, stored = train(medvision, apart, folder, f"split{split}", f"data.split_seed={split}")
        ill = stored["label"] == "sick"
        squares.append((stored["prob_sick"] - ill) ** 2)
        right.append((stored["prob_sick"] > 0.5) == ill)
    assert pd.concat(squares).mean() < 0.05
    assert pd.concat(right).mean() > 0.95


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_nothing_is_made_of_random_labels(medvision, apart, folder, tmp_path):
    """Ten draws: an interval of 95 % may miss .5 in two of them, and none is narrow."""
    missed = []
    for draw in range(10):
        patients = sorted({path.name[:3] for path in folder.rglob("*.png")})
        drawn = np.random.default_rng(1000 + draw).permutation(np.arange(len(patients)) % 2)
        label = dict(zip(patients, drawn, strict=True))
        for path in folder.rglob("*.png"):
            place = tmp_path / str(draw) / ("healthy", "sick")[label[path.name[:3]]] / path.name
            files.write_bytes(place, path.read_bytes())
        metrics, *_ = train(
            medvision, apart, tmp_path / str(draw), f"random{draw}", "data.reader.size=[32,32]",
            f"data.split_seed={draw}",
        )  # fmt: skip
        auroc = metrics["test"]["auroc"]
        missed.append(not auroc["low"] <= 0.5 <= auroc["high"])
        assert auroc["high"] - auroc["low"] > 0.2
    assert sum(missed) <= 2
