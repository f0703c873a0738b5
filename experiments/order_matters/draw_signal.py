"""Draw series whose class is told by their first slice alone; all others are noise.

    python experiments/order_matters/draw_signal.py OUTPUT [series] [slices]

Class `left` has a bright square in the left half of its first slice, `right` in the right half.
A net that reads in one direction and answers from its last state must carry it to the end.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd

from medvision.data.card import Card
from medvision.data.manifest import write_manifest

SIZE = 16


def main(output: str, series: str = "400", slices: str = "64") -> None:
    folder, draw = Path(output), np.random.default_rng(0)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    rows = []
    for n in range(int(series)):
        images = draw.normal(100, 20, (int(slices), SIZE, SIZE))
        right = n % 2
        y, x = draw.integers(2, SIZE - 6), draw.integers(1, 3) + right * SIZE // 2
        images[0, y : y + 4, x : x + 4] += 100
        path = (folder / "images" / f"s{n:04d}.npy").absolute()
        np.save(path, images.clip(0, 255).astype(np.uint8))
        rows += [
            {"path": str(path), "frame": k, "patient": f"p{n:04d}", "series": f"s{n:04d}",
             "position": k, "label": ("left", "right")[right]}
            for k in range(int(slices))
        ]  # fmt: skip
    card = Card(dataset="signal", patient_rule="simulated, one series each")
    print(write_manifest(folder, pd.DataFrame(rows), card))


if __name__ == "__main__":
    main(*sys.argv[1:])
