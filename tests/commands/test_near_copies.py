"""`medvision evaluate` says which rows are near copies of what a model was trained on."""

import shutil

import cv2
import numpy as np
import pandas as pd

import medvision.files as files
from medvision.runs import find_run

WORDS = (
    "data.reader.size=[64,64]", "data.reader.window=full", "data.batch_size=8", "data.workers=1",
    "model.net.widths=[4]", "trainer.max_epochs=1", "threads=1", "test=false",
)  # fmt: skip
NEAR = "1 of 4 images are near copies of images seen in training or validation: look at them"
ELSEWHERE = "near copies not looked for: trained elsewhere, or with another cache"


def draw(seed):
    random = np.random.default_rng(seed)
    image = cv2.GaussianBlur(random.normal(size=(80, 80)), (0, 0), 2)
    return (230 * (image - image.min()) / (image.max() - image.min()) + 10).astype(np.uint8)


def write(folder, images, split=None):
    folder.mkdir()
    for row, image in enumerate(images):
        cv2.imwrite(str(folder / f"{row}.png"), image)
    rows = range(len(images))
    table = pd.DataFrame({
        "path": [f"{row}.png" for row in rows], "label": [("a", "b")[row % 2] for row in rows],
        "patient": [f"{folder.name}{row}" for row in rows],
    })  # fmt: skip
    (table if split is None else table.assign(split=split)).to_csv(
        folder / "manifest.csv", index=False
    )
    return folder / "manifest.csv"


def test_what_a_model_was_trained_on_is_known_again_here_and_nowhere_else(
    apart, medvision, tmp_path
):
    own = [draw(seed) for seed in range(24)]
    manifest = write(tmp_path / "own", own, ["train"] * 16 + ["val"] * 4 + ["test"] * 4)
    done = medvision("train", "data=manifest", f"data.manifest={manifest}", "name=near", *WORDS)
    assert done.status == 0, done.err
    run = find_run("near")
    # A mirrored copy of a tested image is no copy of what the model has seen.
    new = write(tmp_path / "new", [draw(50), own[3][:, ::-1], own[22][:, ::-1], draw(51)])

    def evaluate(output):
        done = medvision("evaluate", "run=near", f"data.manifest={new}",
                         f"output={tmp_path / output}")  # fmt: skip
        assert done.status == 0, done.err
        return files.read_json(tmp_path / output / "metrics.json")["stamps"]

    assert NEAR in evaluate("here")
    assert not [*run.folder.rglob("*.npz")]
    shutil.rmtree(files.cache_folder() / "descriptors")
    assert ELSEWHERE in evaluate("elsewhere")
