"""Toss a label for each patient of a prepared manifest: draw_labels.py MANIFEST SEED OUTPUT."""

import sys
from pathlib import Path

import numpy as np

from medvision.data.manifest.manifest import read_manifest, write_manifest


def main(source: str, seed: str, output: str) -> None:
    manifest = read_manifest(Path(source))
    patients = sorted(manifest.table["patient"].unique())
    tossed = np.random.default_rng(int(seed)).permutation(np.arange(len(patients)) % 2)
    label = dict(zip(patients, np.where(tossed == 1, "heads", "tails"), strict=True))
    table = manifest.table.assign(
        label=manifest.table["patient"].map(label), path=[str(path) for path in manifest.files()]
    )
    keep = ["path", "frame", "patient", "label", "dataset"]
    card = manifest.card.__class__(
        dataset=manifest.card.dataset, classes=["tails", "heads"], key=manifest.card.key,
        patient_rule=manifest.card.patient_rule, command=" ".join(sys.argv),
    )  # fmt: skip
    print(write_manifest(Path(output), table[keep], card))


if __name__ == "__main__":
    main(*sys.argv[1:])
