"""Table 1: who is in each part, told at the level of patients where a patient has one value."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from medvision.evaluation.covariates import (
    MISSING,
    OTHER,
    SPACING,
    Covariate,
    find_covariates,
    patient_of,
    real_rows,
    series_of,
)
from medvision.evaluation.report.run_files import RunFiles
from medvision.evaluation.report.table import PARTS, UNDEFINED, Block, BlockTable

ALL = "all"
SIZES = 4  # of images, named below the table


def describe_cohort(found: RunFiles) -> BlockTable | None:
    """Lay out table 1, a column a part and `all`; None of a run without rows or parts."""
    rows = real_rows(found.rows)
    parts = [part for part in PARTS if (rows["split"] == part).any()]
    if not parts:
        return None
    shares = {part: rows[rows["split"] == part] for part in parts} | {ALL: rows}
    blocks = [
        Block("", list(_count(shares))),
        *_count_classes(found, parts),
        *(_describe(covariate, rows, shares) for covariate in find_covariates(rows)),
        *_describe_spacing(rows, shares),
    ]
    return BlockTable(["", *shares], [block for block in blocks if block.rows], _notes(found))


def _count(shares: Mapping[str, pd.DataFrame]) -> Iterator[list[str]]:
    yield ["patients", *(str(patient_of(rows).nunique()) for rows in shares.values())]
    series = {part: rows[rows["series"] != ""] for part, rows in shares.items()}
    if len(series[ALL]):
        yield ["series", *(str(series_of(rows).nunique()) for rows in series.values())]
    yield ["images", *(str(len(rows)) for rows in shares.values())]
    if len(shares[ALL]) > patient_of(shares[ALL]).nunique():
        each = [patient_of(rows).value_counts() for rows in shares.values()]
        yield ["images a patient, median [quartiles]", *map(show_quartiles, each)]


def _count_classes(found: RunFiles, parts: Sequence[str]) -> Iterator[Block]:
    """Count labels of samples, and patients with at least one: as the run encoded them."""
    held = {part: (found.flow.get("parts") or {}).get(part) or {} for part in parts}
    if not all(held.values()):
        return
    unit = "series" if found.unit == "series" else "images"
    labelled = {part: counts["samples"] - counts["unlabelled"] for part, counts in held.items()}
    yield Block(f"label of {unit}, n (%)", [
        *_share({p: counts["per_class"] for p, counts in held.items()}, labelled),
        *_extra(held, "nothing", "none of them"), *_extra(held, "unlabelled", "unlabelled"),
    ])  # fmt: skip
    patients = {part: counts["patients"] for part, counts in held.items()}
    if any(counts["samples"] != counts["patients"] for counts in held.values()):
        each = {part: counts["patients_per_class"] for part, counts in held.items()}
        yield Block("patients with such a label, n (%)", list(_share(each, patients)))


def _share(
    counts: Mapping[str, Mapping[str, int]], whole: Mapping[str, int]
) -> Iterator[list[str]]:
    for name in next(iter(counts.values())):
        cells = [show_share(counts[part][name], whole[part]) for part in counts]
        every = sum(counts[part][name] for part in counts)
        yield [name, *cells, show_share(every, sum(whole.values()))]


def _extra(held: Mapping[str, Mapping[str, Any]], key: str, title: str) -> Iterator[list[str]]:
    numbers = [int(counts.get(key, 0)) for counts in held.values()]
    if any(numbers):
        yield [title, *map(str, [*numbers, sum(numbers)])]


def _describe(
    covariate: Covariate, rows: pd.DataFrame, shares: Mapping[str, pd.DataFrame]
) -> Block:
    """Describe a covariate, of patients if each has one value, else of images."""
    patients = patient_of(rows)
    of_patients = not covariate.varies(patients)
    each = covariate.by(patients) if of_patients else covariate
    level = "patients" if of_patients else "images"
    keys = [patient_of(r).unique() if of_patients else r.index for r in shares.values()]
    columns = [Covariate(covariate.name, each.values[some]) for some in keys]
    if covariate.numeric:
        title = f"{covariate.title} ({level}), median [quartiles]"
        lines = [[title, *(show_quartiles(column.numbers) for column in columns)]]
        missing = list(_missing(columns))
        return Block("", lines + [[f"{covariate.title}, {MISSING}", *row[1:]] for row in missing])
    return Block(
        f"{covariate.title} ({level}), n (%)",
        [*_count_levels(each.levels(), columns), *_missing(columns)],
    )


def _count_levels(levels: Sequence[str], columns: Sequence[Covariate]) -> Iterator[list[str]]:
    said = [column.values[column.values != ""] for column in columns]
    for level in levels:
        yield [level, *(show_share(int((one == level).sum()), len(one)) for one in said)]
    rest = [int((~one.isin(levels)).sum()) for one in said]
    if any(rest):
        yield [OTHER, *(show_share(n, len(one)) for n, one in zip(rest, said, strict=True))]


def _missing(columns: Sequence[Covariate]) -> Iterator[list[str]]:
    numbers = [int((column.values == "").sum()) for column in columns]
    if any(numbers):
        yield [MISSING, *map(str, numbers)]


def _describe_spacing(rows: pd.DataFrame, shares: Mapping[str, pd.DataFrame]) -> Iterator[Block]:
    """Describe the pixels' size in the image plane, of images."""
    names = [name for name in SPACING if name in rows]
    if len(names) == 2 and (rows[names[0]] == rows[names[1]]).all():
        names = names[:1]
    for name in names:
        side = {"spacing_y_mm": " high", "spacing_x_mm": " wide"}[name] if len(names) > 1 else ""
        cells = [show_quartiles(Covariate(name, share[name]).numbers) for share in shares.values()]
        yield Block("", [[f"pixel{side} in mm (images), median [quartiles]", *cells]])


def _notes(found: RunFiles) -> list[str]:
    notes = ["Percentages are of those whose value is known."]
    if sizes := found.facts.get("sizes"):
        told = [f"{size.replace('x', ' × ')} ({number})" for size, number in sizes.items()]
        kept = (found.facts.get("flow") or {}).get("kept") or {}
        rest = kept.get("images", sum(sizes.values())) - sum(list(sizes.values())[:SIZES])
        more = f" and {rest} images of other sizes" if rest > 0 else ""
        notes.append(f"Height × width of the files' images: {', '.join(told[:SIZES])}{more}.")
    if (found.rows["origin"] == "generated").any():
        notes.append("Generated images are not counted.")
    return notes


def show_share(number: int, whole: int) -> str:
    """Write `12 (40 %)`."""
    return f"{number} ({100 * number / whole:.0f} %)" if whole else str(number)


def show_quartiles(values: pd.Series) -> str:
    """Write `63 [55–71]` of what is known."""
    known = values.dropna()
    if known.empty:
        return UNDEFINED
    show: Callable[[float], str] = lambda value: f"{value:.4g}"  # noqa: E731
    middle, low, high = (show(known.quantile(q)) for q in (0.5, 0.25, 0.75))
    return middle if low == high else f"{middle} [{low}{UNDEFINED}{high}]"
