"""The recipes of the README run as they are written, one after the other, in one folder.

What the pages write in CAPITALS lies there as small made files of that name. Nothing of a command
is changed; these words are added, where it is a training of minutes or hours:

- `trainer.max_epochs=1` to each training, and `model.kimg=2` to that of the generator;
- `data.source.patients=80` to those on the phantom, instead of its 300;
- `trials=2` to the search.
"""

import re
import runpy
import shlex
from pathlib import Path

import cv2
import nibabel
import numpy as np
import pandas as pd
import pytest
import torch
import torchvision

from medvision.runs import find_runs

ROOT = Path(__file__).parents[1]
CLASSES = ("healthy", "sick")
MAKER = ROOT / "tests" / "data" / "sources" / "conftest.py"


def draw_image(seed, label, size=48):
    """Return noise, with a bright square where the label is sick."""
    image = np.random.default_rng(seed).integers(0, 120, (size, size)).astype(np.uint8)
    if label == "sick":
        image[size // 4 : size // 2, size // 4 : size // 2] += 100
    return image


def make_images(top):
    """Write the images of `DIR`, `FOLDER`, `OTHER.csv` and `FILE.csv`."""
    rows = []
    for number in range(80):
        label, patient = CLASSES[number % 2], f"p{number // 2:02d}"
        place = top / "DIR" / label / f"{patient}_{number}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(place), draw_image(number, label))
        rows.append((f"DIR/{label}/{place.name}", patient, label))
    pd.DataFrame(rows, columns=["path", "case", "diagnosis"]).to_csv(top / "FILE.csv", index=False)
    (top / "FOLDER").mkdir()
    rows = []
    for number in range(12):
        name = f"FOLDER/{number}.png"
        cv2.imwrite(str(top / name), draw_image(1000 + number, CLASSES[number % 2]))
        rows.append((name, f"q{number}", CLASSES[number % 2]))
    pd.DataFrame(rows, columns=["path", "patient", "label"]).to_csv(top / "OTHER.csv", index=False)


def make_studies(top):
    """Write `DICOM` and its `LABELS.csv`, `VOLUMES` and `VOLUME.nii.gz`, and `CLIPS`."""
    write_image = runpy.run_path(str(MAKER))["write_image"]
    labels = []
    for number in range(12):
        label, patient = CLASSES[number % 2], f"D{number}"
        labels.append((patient, label))
        for mm in range(3):
            write_image(
                top / "DICOM" / patient / f"{mm}", mm=mm, size=(32, 32), PatientID=patient,
                StudyInstanceUID=f"1.2.{number}", SeriesInstanceUID=f"1.2.{number}.1",
            )  # fmt: skip
        slices = [draw_image(100 * number + k, label, 32) for k in range(4)]
        write_volume(top / "VOLUMES" / label / f"sub-{number}.nii.gz", slices)
        write_clip(top / "CLIPS" / label / f"p{number}.avi", slices * 3)
    pd.DataFrame(labels, columns=["patient", "label"]).to_csv(top / "LABELS.csv", index=False)
    write_volume(top / "VOLUME.nii.gz", [draw_image(9000 + k, "sick", 32) for k in range(4)])


def write_volume(place, slices):
    place.parent.mkdir(parents=True, exist_ok=True)
    volume = nibabel.Nifti1Image(np.stack(slices, -1).astype(np.int16), np.diag([1, 1, 5, 1]))
    nibabel.save(volume, place)


def write_clip(place, frames):
    place.parent.mkdir(parents=True, exist_ok=True)
    codec = cv2.VideoWriter.fourcc(*"MJPG")
    clip = cv2.VideoWriter(str(place), codec, 5, frames[0].shape[::-1], False)
    for frame in frames:
        clip.write(frame)
    clip.release()


def make_weights(top):
    """Write the body of a net of torchvision, as weight files without their head are."""
    net = torchvision.models.squeezenet1_1(weights=None)
    body = {k: v for k, v in net.state_dict().items() if not k.startswith("classifier")}
    torch.save(body, top / "WEIGHTS.pth")


def added(words):
    """Return what is added to a command of the README, to be done in minutes."""
    more = []
    if words[0] == "train":
        more.append("trainer.max_epochs=1")
    if "phantom" in " ".join(words) or "experiment=cnn_search" in words:
        more.append("data.source.patients=80")
    if "experiment=dcgan_phantom" in words:
        more.append("model.kimg=2")
    if words[0] == "tune":
        more += ["trainer.max_epochs=1", "trials=2"]
    return more


def read_commands():
    blocks = re.findall(r"```bash\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    return [shlex.split(line)[1:] for line in lines if line.startswith("medvision ")]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_recipes_run_as_written(tmp_path, monkeypatch, medvision):
    for place in ("cache", "runs"):
        monkeypatch.setenv(f"MEDVISION_{place.upper()}", str(tmp_path / place))
    for make in (make_images, make_studies, make_weights):
        make(tmp_path)
    monkeypatch.chdir(tmp_path)
    commands = read_commands()
    assert len(commands) > 20
    for words in commands:
        done = medvision(*words, *added(words))
        assert done.status == 0, (words, done.err)
    named = {word.removeprefix("name=") for words in commands for word in words if "name=" in word}
    assert {"mine", "dicom", "sequence", "transfer", "rates", "folds", "gan"} <= named
    for name in named:
        assert {run.status for run in find_runs(tmp_path / "runs" / name)} == {"done"}
    for table, rows in (("volume.csv", 1), ("ensemble.csv", 12), ("predictions.csv", 12)):
        assert len(pd.read_csv(tmp_path / table)) == rows
        assert set(pd.read_csv(tmp_path / table)["status"]) == {"ok"}
    generated = pd.read_csv(tmp_path / "generated" / "manifest.csv")
    assert generated["label"].value_counts().to_dict() == {"healthy": 500, "lesion": 500}
    assert len(list((tmp_path / "runs" / "_joint").glob("compare-*"))) == 3
    assert len(list((tmp_path / "runs" / "mine").glob("*/evaluations/*/metrics.json"))) == 1
