"""Draw what the bench reads: classes of JPEG files, or series of PNG slices with their table.

    python experiments/speed/draw_files.py images FOLDER COUNT SIDE
    python experiments/speed/draw_files.py series FOLDER COUNT SLICES SIDE

Discs on smoothed noise: as dear to decode as photographs, and nothing of a patient in them. What is
there is not drawn again.
"""

import csv
import sys
from pathlib import Path

import cv2
import numpy as np

CLASSES = ("normal", "lesion")


def main(kind: str, folder: str, count: str, *sizes: str) -> None:
    place, numbers = Path(folder), [int(size) for size in sizes]
    if (place / "drawn").exists():
        return
    (draw_series if kind == "series" else draw_images)(place, int(count), *numbers)
    (place / "drawn").touch()


def draw_images(folder: Path, count: int, side: int) -> None:
    """Write `folder/CLASS/pN.jpg`, colour files of grey scenes as cameras and PACS export them."""
    for name in CLASSES:
        (folder / name).mkdir(parents=True, exist_ok=True)
    for number in range(count):
        name = CLASSES[number % 2]
        scene = draw(number, side, name == "lesion")
        colour = cv2.cvtColor(scene, cv2.COLOR_GRAY2BGR)
        cv2.imwrite(
            str(folder / name / f"p{number:05}.jpg"), colour, [cv2.IMWRITE_JPEG_QUALITY, 92]
        )


def draw_series(folder: Path, count: int, slices: int, side: int) -> None:
    """Write `folder/pN_S.png` and `folder/table.csv`; in one of two series a few slices differ."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "table.csv").open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["path", "patient", "series", "position", "label"])
        for number in range(count):
            for position in range(slices):
                lesion = number % 2 == 1 and abs(position - slices // 2) < 3
                path = f"p{number:05}_{position:03}.png"
                cv2.imwrite(str(folder / path), draw(number * slices + position, side, lesion))
                label = CLASSES[number % 2]
                table.writerow([path, f"p{number:05}", f"p{number:05}", position, label])


def draw(number: int, side: int, lesion: bool) -> np.ndarray:
    """Return uint8 `[side,side]`."""
    random = np.random.default_rng(number)
    noise = random.normal(0, 60, (side, side)).astype(np.float32)
    scene = 90 + 4 * cv2.GaussianBlur(noise, (0, 0), 4) + 0.15 * noise
    for _ in range(4 + 3 * lesion):
        centre = tuple(int(at) for at in random.integers(side // 6, side - side // 6, 2))
        cv2.circle(scene, centre, int(random.integers(side // 30 + 1, side // 10 + 2)), 190, -1)
    return np.asarray(scene.clip(0, 255).astype(np.uint8))


if __name__ == "__main__":
    if len(sys.argv) < 5:
        sys.exit(__doc__)
    main(*sys.argv[1:])
