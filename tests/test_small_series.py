"""Ninety short series, as a user begins with, and as many unseen ones: stacks and clips."""

import json

import cv2
import numpy as np
import pandas as pd
import pytest

from medvision.data.sources.phantom.source import find

VAL, KNOWN = 14, 78  # of 78 patients 14 are val and the others train; 112 more are unseen


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """Return the phantom's patients of a seed, a row a slice, each class in train, val and test."""

    def scan(seed):
        table = find(output=tmp_path_factory.mktemp("scans"), patients=190, slices=6, size=32,
                     difficulty=0.0, seed=seed).table  # fmt: skip
        patients = table.drop_duplicates("patient").sort_values("series_label", kind="stable")
        number = patients.groupby("series_label").cumcount()
        part = np.select([number < VAL // 2, number < KNOWN // 2], ["val", "train"], "test")
        split = dict(zip(patients["patient"], part, strict=True))
        return table.assign(split=table["patient"].map(split))

    return scan


def write_stacks(table, folder):
    """Write a manifest in which slices have no labels of their own; return its words."""
    kept = ["path", "patient", "series", "frame", "position", "split"]
    told = table[kept].assign(label=table["series_label"], dataset="stacks")
    told.to_csv(folder / "manifest.csv", index=False)
    return ("data=manifest", f"data.manifest={folder / 'manifest.csv'}",
            "data.reader.window=[-100,200]")  # fmt: skip


def write_clips(table, folder):
    """Write a film a patient, in a folder a part and class; return their words."""
    for (part, label, patient, path), _ in table.groupby(
        ["split", "series_label", "patient", "path"]
    ):
        grey = ((np.load(path) + 100.0) / 300 * 255).clip(0, 255).astype(np.uint8)
        place = folder / part / label
        place.mkdir(parents=True, exist_ok=True)
        film = cv2.VideoWriter(str(place / f"{patient}_.avi"), cv2.CAP_FFMPEG,
                               cv2.VideoWriter_fourcc(*"MJPG"), 10, grey.shape[:0:-1])  # fmt: skip
        for image in grey:
            film.write(cv2.cvtColor(image, cv2.COLOR_GRAY2BGR))
        film.release()
    return ("data=video", f"data.source.input={folder}", "data.source.columns.patient='(p\\d+)_'",
            "data.reader.size=[32,32]")  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("write", "model", "seed"), [
    (write_stacks, "rnn", 0), (write_stacks, "mean_pool", 0), (write_stacks, "rnn", 1),
    (write_clips, "rnn", 100), (write_clips, "mean_pool", 101), (write_stacks, "max_pool", 1),
])  # fmt: skip
def test_unseen_series_are_decided_by_the_defaults(
    write, model, seed, scans, tmp_path, apart, medvision
):
    """The epoch that fourteen patients of val call the best decides all series alike."""
    words = write(scans(seed), tmp_path)
    done = medvision("train", *words, "data.unit=series", f"model={model}", f"seed={seed}",
                     "threads=1", "name=short")  # fmt: skip
    assert done.status == 0, done.err
    (run,) = (path for path in (apart / "short").iterdir() if path.is_dir())
    metrics = json.loads((run / "metrics.json").read_text())
    probs = pd.read_csv(run / "predictions" / "test.csv")["prob_lesion"]
    assert 0.1 < (probs > 0.5).mean() < 0.9
    assert metrics["test"]["auroc"]["low"] > 0.5
    assert metrics["test_argmax"]["accuracy"]["low"] > 0.5
