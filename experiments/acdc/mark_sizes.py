"""Give each slice of ACDC labels that its mask tells: which sizes the heart's parts exceed in it.

    python experiments/acdc/mark_sizes.py OUTPUT.csv [INPUT.csv]   (default: acdc/labels.csv)

Adds to the table `sizes`, such as "lv250|lv500|myo250" (areas in pixels above fixed limits, none of
them fitted), and `at`, which orders both stacks of a patient: ED and ES of each slice in turn.
A net that learns `sizes` learns to see the heart; what a patient has is not in them.
"""

import sys
from pathlib import Path

import pandas as pd

from medvision.files import find_input, write_text

LIMITS = (0, 250, 500, 750, 1000, 1500, 2000, 3000)
PARTS = ("rv", "myo", "lv")


def main(output: str, source: str = "acdc/labels.csv") -> None:
    found = find_input(source)
    table = pd.read_csv(found, dtype=str)
    areas = {part: table[f"px_{part}"].astype(int) for part in PARTS if f"px_{part}" in table}
    if areas:  # new patients have no masks, and need none
        table["sizes"] = [
            "|".join(f"{part}{limit}" for part in areas for limit in LIMITS
                     if areas[part][row] > limit) or "none"
            for row in range(len(table))
        ]  # fmt: skip
    table["at"] = 2 * table["slice"].astype(int) + (table["phase"] == "ES")
    table["path"] = [str(found.parent / path) for path in table["path"]]
    kept = table.drop(columns="mask", errors="ignore")
    print(write_text(Path(output), kept.to_csv(index=False)))


if __name__ == "__main__":
    main(*sys.argv[1:])
