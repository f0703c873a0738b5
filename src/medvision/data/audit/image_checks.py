"""What is odd about the images of a set: plain, blown out, of odd size, of mixed scale or kind."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pandas as pd

from medvision.data.audit.scan import ImageFacts
from medvision.identity import count

_WHITE = 0.8  # of the middle; lung windows leave up to 0.75 of a CT slice white
_ENDS = 0.995
RARE = 0.01
_VARIED = 0.05  # where more images than these have rare sizes, sizes simply vary
_STRETCHED = 2.0
_SAME_SCALE = 0.01
KINDS = ("modality", "photometric", "burned_in")


def check_images(table: pd.DataFrame, looks: Sequence[ImageFacts]) -> list[str]:
    """Note what a reader of the report should see; a row is named by its line in the manifest.

    Args:
        table: rows in the order of the manifest.
        looks: one a row.
    """
    plain = [row for row, look in enumerate(looks) if not look.digest]
    two = [row for row, look in enumerate(looks) if look.digest and look.ends > _ENDS]
    white = [row for row, look in enumerate(looks)
             if look.digest and look.ends <= _ENDS and look.white > _WHITE]  # fmt: skip
    notes = [
        *_tell(plain, "of one grey value: they say nothing, and are not taken for copies"),
        *_tell(two, "of hardly more than two grey values: masks, or empty?"),
        *_tell(white, f"whose middle is saturated (over {_WHITE:.0%} at the largest value)"),
    ]
    return notes + _note_sizes(looks) + _note_spacing(table) + _note_kinds(table)


def line_of(row: int) -> int:
    """Return the line of a row in the manifest; the header is line 1."""
    return row + 2


def _tell(rows: Sequence[int], what: str) -> list[str]:
    if not rows:
        return []
    return [f"{count(rows, 'image')} (such as line {line_of(rows[0])}) {what}"]


def _note_sizes(looks: Sequence[ImageFacts]) -> list[str]:
    """Note rare sizes where most have one size, and stretched images where few are."""
    sizes = Counter(look.size for look in looks)
    rare = [row for row, look in enumerate(looks) if sizes[look.size] < RARE * len(looks)]
    shape = np.log([look.width / look.height for look in looks])
    far = np.abs(shape - np.median(shape)) > np.log(_STRETCHED)
    notes = []
    common, held = sizes.most_common(1)[0]
    if 2 * held > len(looks) and len(rare) <= _VARIED * len(looks):
        notes += _tell(rare, f"of a size that hardly any other has (most are {common})")
    if far.sum() <= _VARIED * len(looks):
        notes += _tell(np.flatnonzero(far).tolist(), "over twice as wide or as high as usual")
    return notes


def note_part_sizes(split: pd.Series, looks: Sequence[ImageFacts]) -> list[str]:
    """Note a given part whose images are all of one size, where those of another are mixed."""
    sizes = pd.Series([look.size for look in looks]).groupby(split.to_numpy())
    kinds = {part: sizes.get_group(part).nunique() for part in sizes.groups if part}
    held = sizes.size()
    one = [part for part in kinds if kinds[part] == 1 and held[part] > 1]
    mixed = [part for part in kinds if kinds[part] > 1]
    return [
        f"all {held[part]} images of {part} are of one size ({sizes.get_group(part).iloc[0]}), "
        f"those of {' and '.join(sorted(mixed))} are mixed: the parts may come from two places"
        for part in sorted(one) if mixed
    ]  # fmt: skip


def _note_spacing(table: pd.DataFrame) -> list[str]:
    low, high = spacing_range(table)
    if not low or high <= low * (1 + _SAME_SCALE):
        return []
    return [
        f"pixels of {low:.3g} to {high:.3g} mm: what looks equally large is not; "
        "nothing is resampled to one scale"
    ]


def spacing_range(table: pd.DataFrame) -> tuple[float, float]:
    """Return the smallest and largest spacing in the image plane, in mm; zeros where unknown."""
    names = [name for name in ("spacing_y_mm", "spacing_x_mm") if name in table]
    known = table[names].apply(pd.to_numeric, errors="coerce").to_numpy(dtype=np.float64)
    known = known[np.isfinite(known) & (known > 0)]
    return (float(known.min()), float(known.max())) if known.size else (0.0, 0.0)


def _note_kinds(table: pd.DataFrame) -> list[str]:
    notes = []
    for name in (name for name in KINDS if name in table):
        held = table[name].fillna("").astype(str).replace("", "none").value_counts()
        if len(held) > 1:
            told = ", ".join(f"{kind} ({number})" for kind, number in held.items())
            notes.append(f"{name} is mixed: {told}")
    return notes
