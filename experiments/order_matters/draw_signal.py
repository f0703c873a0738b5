"""Draw series whose class is told by their first slice alone; all others are all but blank.

    python experiments/order_matters/draw_signal.py OUTPUT [series] [slices]

Class `bright` has a bright square in its first slice, `dark` a dark one, which an average over the
image tells. A net that reads in one direction and answers from its last state must carry it there.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd

from medvision.data.manifest.card import Card
from medvision.data.manifest.manifest import write_manifest

SIZE = 16


def main(output: str, series: str = "400", slices: str = "64") -> None:
    folder, draw = Path(output), np.random.default_rng(0)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    rows = []
    for n in range(int(series)):
        images = draw.normal(100, 2, (int(slices), SIZE, SIZE))
        bright = n % 2
        y, x = draw.integers(0, SIZE - 6, 2)
        images[0, y : y + 6, x : x + 6] += 90 if bright else -90
        path = (folder / "images" / f"s{n:04d}.npy").absolute()
        np.save(path, images.clip(0, 255).astype(np.uint8))
        rows += [
            {"path": str(path), "frame": k, "patient": f"p{n:04d}", "series": f"s{n:04d}",
             "position": k, "label": ("dark", "bright")[bright]}
            for k in range(int(slices))
        ]  # fmt: skip
    card = Card(dataset="signal", patient_rule="simulated, one series each")
    print(write_manifest(folder, pd.DataFrame(rows), card))


if __name__ == "__main__":
    main(*sys.argv[1:])
