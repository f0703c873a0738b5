"""Copy training images into a manifest of their own.

    python experiments/gan_augmentation/duplicate.py MANIFEST RATIO OUTPUT

The control that is given as much as the generator gives, and nothing new. RATIO is that of the
candidate: a number takes so many copies an image, equally many of each class, as generated images
are drawn; `balance` fills each class up to the commonest one. Images of a class are copied equally
often. Rows of a manifest are unique, so each copy is a file.
"""

import shlex
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from medvision.data.manifest.manifest import read_manifest, write_manifest
from medvision.data.store.reader import Reader
from medvision.data.store.store import open_store

SEED = 0  # which images come up once more often than others


def main(source: str, ratio: str, output: str) -> None:
    manifest = read_manifest(Path(source))
    rows = choose_rows(manifest.table[manifest.table["split"] == "train"], ratio)
    table, paths = manifest.table.loc[rows], manifest.files()
    pixels = open_store([paths[row] for row in rows], table["frame"].tolist(), Reader(size=None))
    folder = Path(output).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{n:05d}.png" for n in range(len(rows))]
    for file, image in zip(files, pixels.array, strict=True):
        cv2.imwrite(str(file), image)
    copies = table.assign(path=[str(file) for file in files], frame=0, split="train")
    keep = ["path", "patient", "label", "split", "dataset"]
    card = replace(manifest.card, command=shlex.join(sys.argv), facts={"ratio": ratio})
    print(write_manifest(folder, copies[keep], card))


def choose_rows(train: pd.DataFrame, ratio: str) -> list[int]:
    """Return the rows to copy, as often as they are copied."""
    held, rng = train["label"].value_counts(), np.random.default_rng(SEED)
    share = 0.0 if ratio == "balance" else float(ratio) * len(train) / len(held)
    chosen: list[int] = []
    for _, rows in train.groupby("label"):
        n = held.max() - len(rows) if ratio == "balance" else round(share)
        laps = [rng.permutation(rows.index) for _ in range(-(-n // len(rows)))]
        chosen += np.concatenate([np.empty(0, int), *laps])[:n].tolist()
    return chosen


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
