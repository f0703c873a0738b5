"""Write a manifest with some of the training rows of another.

    python experiments/gan_augmentation/draw.py MANIFEST OUTPUT [CLASS=N …]

Of each class named N training rows are drawn, of others all are kept; val and test stay as they
are. Training rows that are copies of val or test rows are left out.
"""

import shlex
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from medvision.data.manifest.manifest import read_manifest, write_manifest

SEED = 0  # which rows are drawn


def main(source: str, output: str, *words: str) -> None:
    manifest = read_manifest(Path(source))
    counts = {name: int(n) for name, n in (word.split("=", 1) for word in words)}
    if unknown := counts.keys() - set(manifest.table["label"]):
        sys.exit(f"{source} has no class {', '.join(sorted(unknown))}")
    table = manifest.table.assign(path=[str(path) for path in manifest.files()])
    train = draw(table, counts)
    whole = pd.concat([train, table[table["split"] != "train"]]).sort_index()
    card = replace(manifest.card, command=shlex.join(sys.argv))
    keep = [name for name in whole if name != "group"]  # of all rows, not of those drawn
    print(write_manifest(Path(output), whole[keep], card))


def draw(table: pd.DataFrame, counts: dict[str, int]) -> pd.DataFrame:
    """Draw rows of the training part; rows of a group that is in val or test are no part of it."""
    held = set(table.loc[table["split"] != "train", "group"])
    train = table[(table["split"] == "train") & ~table["group"].isin(held)]
    rng, parts = np.random.default_rng(SEED), []
    for name, rows in train.groupby("label"):
        n = counts.get(str(name), len(rows))
        if n > len(rows):
            sys.exit(f"{name}={n} cannot be drawn: there are {len(rows)} training rows of it")
        parts.append(rows.iloc[np.sort(rng.permutation(len(rows))[:n])])
    return pd.concat(parts)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
