"""Boxes in pixels of files become boxes in pixels of images."""

from collections.abc import Sequence

import numpy as np

from medvision.augment.spatial import clip_boxes
from medvision.data.store.label_reader import LabelReader
from medvision.errors import collect
from medvision.target import Ragged

_SLACK = 1.0  # pixels a box may stick out of its file: tools count from 0 or 1


def place_boxes(
    boxes: Ragged, files: np.ndarray, image: tuple[int, int], reader: LabelReader,
    names: Sequence[str],
) -> tuple[Ragged, int]:  # fmt: skip
    """Return the boxes where their images show them, and how many lie outside.

    Args:
        boxes: x0, y0, x1, y1, … in pixels of the file.
        files: `[N,2]`, height and width of each row's file.
        image: height and width of all images.
        reader: of label maps.
        names: of the rows, for errors.

    Raises:
        MedvisionError: boxes without area, or outside of their files.
    """
    sizes = files[boxes.row]
    _refuse_odd(boxes, sizes, names)
    moved, kept = clip_boxes(reader.move(boxes.values, sizes), image)
    return Ragged(moved, boxes.start).keep(kept), int((~kept).sum())


def _refuse_odd(boxes: Ragged, sizes: np.ndarray, names: Sequence[str]) -> None:
    low, high, ends = boxes.values[:, :2], boxes.values[:, 2:4], sizes[:, ::-1]
    fits = (low < high) & (low >= -_SLACK) & (high <= ends + _SLACK)
    problems = [
        f"{names[boxes.row[k]]}: {' '.join(f'{edge:g}' for edge in boxes.values[k, :4])} "
        f"in {sizes[k, 1]} x {sizes[k, 0]} pixels"
        for k in np.flatnonzero(~fits.all(axis=1))
    ]
    if problems:
        way_out = "Give x0 y0 x1 y1 in pixels of the file, x to the right and y down"
        raise collect(f"{len(problems)} boxes do not fit their images", problems, way_out)
