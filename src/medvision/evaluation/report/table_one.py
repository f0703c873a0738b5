"""Table 1: who is in each part, told at the level of patients where a patient has one value."""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

import pandas as pd

from medvision.evaluation import covariates
from medvision.evaluation.covariates import Covariate
from medvision.evaluation.report.run_files import RunFiles
from medvision.evaluation.report.table import PARTS, UNDEFINED, Block, Row, Table, show_score

SIZES = 4  # of images, named below the table
NOTE = "SMD: the largest standardised mean difference between two parts, without its sign."


def describe_cohort(run: RunFiles) -> Table | None:
    """Lay out table 1: a column a part, one of all, and how far parts lie apart."""
    rows = run.real
    parts = [part for part in PARTS if (rows["split"] == part).any()]
    if not parts:
        return None
    columns = [*(rows[rows["split"] == part] for part in parts), rows]
    blocks: list[Block] = [
        ("", list(_count(columns))),
        *_count_target(run, parts),
        *(_describe(one, columns) for one in run.covariates),
        ("", list(_describe_spacing(columns))),
    ]
    shown = [block for block in blocks if block[1]]
    return Table(["", *parts, "all", "SMD"], blocks=shown, notes=list(_notes(run)))


def _count(columns: Sequence[pd.DataFrame]) -> Iterator[Row]:
    yield ["patients", *(covariates.patient_of(rows).nunique() for rows in columns), ""]
    series = [rows[rows["series"] != ""] for rows in columns]
    if len(series[-1]):
        yield ["series", *(covariates.series_of(rows).nunique() for rows in series), ""]
    yield ["images", *map(len, columns), ""]
    if len(columns[-1]) > covariates.patient_of(columns[-1]).nunique():
        yield _numbers(
            "images a patient", [covariates.patient_of(c).value_counts() for c in columns]
        )


def _count_target(run: RunFiles, parts: Sequence[str]) -> Iterator[Block]:
    """Tell what samples are annotated with, as the run counted it: classes, or numbers."""
    held = [(run.flow.get("parts") or {}).get(part) or {} for part in parts]
    if not all(held):
        return
    if all("per_class" in counts for counts in held):
        yield from _count_classes(run, held)
        return
    rows = [*_describe_numbers([counts.get("numbers") or {} for counts in held])]
    yield f"annotation of {run.unit}", [*rows, *_count_rest(held)]


def _describe_numbers(held: Sequence[Mapping[str, Any]]) -> Iterator[Row]:
    """Write the numbers of each target, a cell a part; quartiles of all do not follow from them."""
    for name in held[0]:
        parts = [counts[name] for counts in held]
        cells = [_show_middle(*(one[key] for key in ("median", "low", "high"))) for one in parts]
        moments = [(one["mean"], one["sd"] ** 2) for one in parts if one["known"]]
        yield [f"{name}, median [quartiles]", *cells, "", _show_apart(moments)]
        known = [one["known"] for one in parts]
        yield [f"{name}, known", *known, sum(known), ""]


def _count_rest(held: Sequence[Mapping[str, Any]]) -> Iterator[Row]:
    """Count the samples of no class, and those without annotation, where there are any."""
    for key, title in (("nothing", "none of them"), ("unlabelled", "not annotated")):
        numbers = [int(counts.get(key, 0)) for counts in held]
        if any(numbers):
            yield [title, *numbers, sum(numbers), ""]


def _count_classes(run: RunFiles, held: Sequence[Mapping[str, Any]]) -> Iterator[Block]:
    """Count labels of samples, and patients with at least one."""
    labelled = [counts["samples"] - counts["unlabelled"] for counts in held]
    rows = [*_of_parts([counts["per_class"] for counts in held], labelled), *_count_rest(held)]
    yield f"label of {run.unit}, n (%)", rows
    if any(counts["samples"] != counts["patients"] for counts in held):
        patients = [counts["patients"] for counts in held]
        each = [counts["patients_per_class"] for counts in held]
        yield "patients with such a label, n (%)", [*_of_parts(each, patients)]


def _of_parts(counts: Sequence[Mapping[str, int]], totals: Sequence[int]) -> Iterator[Row]:
    for name in counts[0]:
        numbers = [each[name] for each in counts]
        yield _shares(name, [*numbers, sum(numbers)], [*totals, sum(totals)])


def _describe(covariate: Covariate, columns: Sequence[pd.DataFrame]) -> Block:
    """Describe a covariate, of patients if each has one value, else of images."""
    patients = [covariates.patient_of(rows) for rows in columns]
    of_images = covariate.varies(patients[-1])
    each = covariate if of_images else covariate.by(patients[-1])
    keys = [column.index if of_images else column.unique() for column in patients]
    held = [Covariate(covariate.name, each.values[some]) for some in keys]
    title = f"{covariate.title} ({'images' if of_images else 'patients'})"
    missing = [int((one.values == "").sum()) for one in held]
    if covariate.numeric:
        last = [[f"{covariate.title}, {covariates.MISSING}", *missing, ""]] * any(missing)
        return "", [_numbers(title, [one.numbers for one in held]), *last]
    present = [one.values[one.values != ""] for one in held]
    known, levels = [len(one) for one in present], each.levels()
    rows = [
        _shares(level, [int((one == level).sum()) for one in present], known) for level in levels
    ]
    rest = [int((~one.isin(levels)).sum()) for one in present]
    rows += [_shares(covariates.OTHER, rest, known)] * any(rest)
    return f"{title}, n (%)", rows + [[covariates.MISSING, *missing, ""]] * any(missing)


def _describe_spacing(columns: Sequence[pd.DataFrame]) -> Iterator[Row]:
    """Describe the pixels' size in the image plane, of images."""
    rows = columns[-1]
    names = [name for name in covariates.SPACING if name in rows]
    if len(names) == 2 and (rows[names[0]] == rows[names[1]]).all():
        names = names[:1]
    for name in names:
        side = {"spacing_y_mm": " high", "spacing_x_mm": " wide"}[name] if len(names) > 1 else ""
        numbers = [Covariate(name, column[name]).numbers for column in columns]
        yield _numbers(f"pixel{side} in mm (images)", numbers)


def _numbers(title: str, columns: Sequence[pd.Series]) -> Row:
    """Write a number a column, that of all last; and how far parts lie apart."""
    cells = map(show_quartiles, columns)
    apart = _show_apart([(one.mean(), one.var()) for one in columns[:-1]])
    return [f"{title}, median [quartiles]", *cells, apart]


def _shares(title: str, counts: Sequence[int], totals: Sequence[int]) -> Row:
    """Write a share a column, that of all last; and how far parts lie apart."""
    pairs = list(zip(counts, totals, strict=True))
    shares = [number / n if number <= n > 0 else math.nan for number, n in pairs[:-1]]
    apart = _show_apart([(share, share * (1 - share)) for share in shares])
    return [title, *(_show_share(*pair) for pair in pairs), apart]


def _show_apart(parts: Sequence[tuple[float, float]]) -> str:
    """Write the largest difference between two parts of (mean, variance) each; "" of one part."""
    apart = [standardised_difference(*first, *second) for first, second in combinations(parts, 2)]
    known = [value for value in apart if not math.isnan(value)]
    if not known:
        return UNDEFINED * bool(apart)
    return "∞" if math.isinf(max(known)) else show_score(max(known))


def standardised_difference(mean: float, variance: float, other: float, of_other: float) -> float:
    """Return how many standard deviations two means lie apart; infinite where neither varies.

    A share is a mean of 0 and 1; of several levels each is compared by itself.

    Reference:
        Austin: Using the standardized difference to compare the prevalence of a binary variable
        between two groups in observational research, 2009, doi:10.1080/03610910902859574.
    """
    gap, spread = abs(mean - other), math.sqrt((variance + of_other) / 2)
    return gap / spread if spread else math.inf if gap else 0.0


def _notes(run: RunFiles) -> Iterator[str]:
    yield "Percentages are of those whose value is known."
    yield NOTE
    if sizes := run.get("card.facts.sizes"):
        shapes = [f"{size.replace('x', ' × ')} ({number})" for size, number in sizes.items()]
        counts = run.get("card.facts.flow.kept") or {}
        rest = counts.get("images", sum(sizes.values())) - sum(list(sizes.values())[:SIZES])
        more = f" and {rest} images of other sizes" if rest > 0 else ""
        yield f"Height × width of the files' images: {', '.join(shapes[:SIZES])}{more}."
    if (run.rows["origin"] == "generated").any():
        yield "Generated images are not counted."


def _show_share(number: int, total: int) -> str:
    """Write `12 (40 %)`."""
    return f"{number} ({100 * number / total:.0f} %)" if total else str(number)


def show_quartiles(values: pd.Series) -> str:
    """Write `63 [55–71]` of what is known."""
    known = values.dropna()
    if known.empty:
        return UNDEFINED
    return _show_middle(*(float(known.quantile(q)) for q in (0.5, 0.25, 0.75)))


def _show_middle(middle: float | None, low: float | None, high: float | None) -> str:
    if middle is None:
        return UNDEFINED
    texts = [f"{value:.4g}" for value in (middle, low, high)]
    return texts[0] if texts[1] == texts[2] else f"{texts[0]} [{texts[1]}{UNDEFINED}{texts[2]}]"
