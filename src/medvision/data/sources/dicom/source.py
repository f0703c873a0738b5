"""A tree of DICOM studies and series: every image of it becomes a row, in order, with its place."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

import pandas as pd

import medvision.files as files
from medvision.data.manifest.pseudonyms import describe_rule, is_rule, patients_from_names
from medvision.data.sources.dicom.channels import join_channels
from medvision.data.sources.dicom.header import Slice
from medvision.data.sources.dicom.series import SERIES_BY, DicomOptions, Series, group_series
from medvision.data.sources.dicom.tree import read_tree
from medvision.data.sources.found import Found
from medvision.data.sources.label_table import KEYS, join_labels, read_sidecar
from medvision.errors import MedvisionError, collect, did_you_mean

Order = Literal["alone", "instance"]
OnGap = Literal["stop", "keep"]
_OnOdd = Literal["stop", "exclude"]
_Localisers = Literal["exclude", "keep"]
WAY_OUT = "Mend them, or leave them out, counted, with on_odd=exclude"
MM_DIGITS = 4  # more than a scanner writes


def find(
    input: Path,  # noqa: A002 -- the command's own word
    *,
    columns: Mapping[str, str | None] | None = None,
    labels: str | Path | None = None,
    channels: Mapping[str, str] | None = None,
    order: Order = "alone",
    series_by: str | Sequence[str] = (),
    on_gap: OnGap = "stop",
    on_odd: _OnOdd = "stop",
    localisers: _Localisers = "exclude",
) -> Found:
    """Find the images of a tree by what their headers say, whatever the files are called.

    `position` counts slices along row × column of the image plane (`dicom_geometry.normal`) and
    `position_mm` is the place on it. Ids and the site are raw, `prepare` hashes them; dates become
    `day`, counted from the patient's first study; of other texts nothing is kept.

    Args:
        input: the folder on top.
        columns: ours → theirs in `labels`; `patient` may also be a rule: `path` makes each study
            its own patient, or a pattern with one group is searched in the file name as seen from
            `input`. Else PatientID tells it.
        labels: a CSV of labels by patient, study or series (`sidecar`).
        channels: name → glob on folder or description: series of one study become one series.
        order: for images without a position: `alone`, a series each, or `instance`, by number.
        series_by: tells series apart beside their id: echo, phase, acquisition, b_value, type,
            orientation, size or spacing; each becomes a column of ranks.
        on_gap: `keep` takes series with missing slices as they are, counted.
        on_odd: `exclude` leaves out series that cannot be used and broken files, counted.
        localisers: `exclude` leaves out images of the type LOCALIZER, counted.

    Raises:
        MedvisionError: no folder, no image, unknown patients, broken files, series that cannot be
            put in order, channels that do not fit, a sidecar that does not.
    """
    top = Path(input).absolute()
    if not top.is_dir():
        raise MedvisionError(f"{top} is no folder; source=dicom needs input=DIR")
    by = [series_by] if isinstance(series_by, str) else list(series_by)
    _check(order, by, on_gap, on_odd, localisers)
    rule, theirs = _tell_rule(columns or {}, labels)
    sidecar = read_sidecar(files.find_input(labels), theirs) if labels is not None else None
    slices, counts, left_out = _gather(top, on_odd, localisers)
    slices = _name_patients(slices, rule)
    aside = Counter({"broken files": len(left_out)})
    series, reasons = _keep_usable(group_series(slices, DicomOptions(order, by, on_gap)), on_odd)
    left_out += reasons
    aside["series that cannot be used"] = len(reasons)
    if channels is not None:
        series, counts["series without a channel"], odd = join_channels(series, _globs(channels))
        left_out += _settle(odd, on_odd, "studies cannot be joined into channels")
        aside["studies that do not join into channels"] = len(odd)
    if not series:
        raise collect(f"no usable series is left in {top}", left_out, "See what was left out")
    table = _tabulate(top, series)
    facts: dict[str, Any] = _count(series) | {"not taken": dict(+counts), "excluded": left_out}
    facts["set aside"] = dict(+aside)
    if sidecar is not None:
        table["label"], facts["labels"] = join_labels(sidecar, table)
    made = ("study", "day", "spacing_from", *by)
    return Found(table, top.name, _describe(rule), facts=facts, ids=("study", "site"), made=made)


def _gather(
    top: Path, on_odd: _OnOdd, localisers: _Localisers
) -> tuple[list[Slice], Counter[str], list[str]]:
    """Return the images of a tree, what else lies there, and broken files that are left out."""
    tree = read_tree(top)
    slices = [each for each in tree.slices if localisers == "keep" or not each.is_localiser]
    counts = tree.others + Counter({"localiser": len(tree.slices) - len(slices)})
    broken = [f"{name!r} is damaged or has no pixels" for name in tree.broken]
    left_out = _settle(broken, on_odd, "files should be DICOM images and are not")
    if not slices:
        seen = counts + Counter({"broken": len(broken)})
        told = ", ".join(f"{number} {kind}" for kind, number in seen.items()) or "it is empty"
        way_out = "keep localisers with localisers=keep" if counts["localiser"] else "check input="
        raise MedvisionError(f"no DICOM image to use was found in {top} ({told}); {way_out}")
    return slices, counts, left_out


def _check(order: str, by: Sequence[str], on_gap: str, on_odd: str, localisers: str) -> None:
    choices = {
        "order": (order, Order), "on_gap": (on_gap, OnGap),
        "on_odd": (on_odd, _OnOdd), "localisers": (localisers, _Localisers),
    }  # fmt: skip
    for name, (value, kind) in choices.items():
        if value not in get_args(kind):
            known = get_args(kind)
            near = did_you_mean(str(value), known)
            raise MedvisionError(f"{name}={value} cannot be{near}; choose {' or '.join(known)}")
    for name in by:
        if name not in SERIES_BY:
            near = did_you_mean(str(name), SERIES_BY)
            raise MedvisionError(f"series_by={name} cannot be{near}; use {', '.join(SERIES_BY)}")


def _globs(channels: Any) -> Mapping[str, str]:
    if not isinstance(channels, Mapping):
        raise MedvisionError(
            f"channels={channels} has no names; say channels.NAME=GLOB, as in channels.t1='*T1*'"
        )
    return channels


def _tell_rule(
    columns: Mapping[str, str | None], labels: object
) -> tuple[str | None, dict[str, str | None]]:
    """Part the patient rule from the names of the sidecar's columns."""
    theirs, patient = dict(columns), None
    named = theirs.get("patient")
    if named is not None and (labels is None or is_rule(named)):
        patient, theirs = named, {k: v for k, v in theirs.items() if k != "patient"}
    if patient is not None and not is_rule(patient):
        raise MedvisionError(
            f"columns.patient={patient} is no rule; leave it out to take PatientID, or say path "
            "or a pattern with one group"
        )
    unread = sorted(set(theirs) - {"patient"}) if labels is None else sorted(
        set(theirs) - {"label", *KEYS}
    )  # fmt: skip
    if unread:
        raise MedvisionError(
            f"columns.{unread[0]} means nothing to source=dicom; it reads label and "
            f"{' or '.join(KEYS)} from labels=FILE.csv, and columns.patient as a rule"
        )
    return patient, theirs


def _name_patients(slices: list[Slice], rule: str | None) -> list[Slice]:
    """Give each slice its patient.

    Raises:
        MedvisionError: a header without PatientID, or names a pattern does not fit.
    """
    if rule == "path":
        ids = [each.study or each.series or each.name for each in slices]
        first = {uid: each.name for uid, each in zip(ids[::-1], slices[::-1], strict=True)}
        return [replace(each, patient=first[uid]) for uid, each in zip(ids, slices, strict=True)]
    if rule is not None:
        names = [each.name for each in slices]
        told = patients_from_names(names, [each.frame for each in slices], rule)
        return [replace(each, patient=name) for each, name in zip(slices, told, strict=True)]
    nameless = list(dict.fromkeys(repr(each.name) for each in slices if not each.patient))
    if nameless:
        raise collect(
            f"{len(nameless)} files have no PatientID", nameless,
            "Fill it in, or tell patients by columns.patient='(pattern)' on the file name, or say "
            "columns.patient=path if each study is a patient of its own",
        )  # fmt: skip
    return slices


def _describe(rule: str | None) -> str:
    if rule is None:
        return "PatientID of the headers"
    return describe_rule(rule).replace("image", "study")  # all of a study are of one person


def _settle(problems: list[str], on_odd: _OnOdd, what: str) -> list[str]:
    """Stop on problems, or return them as what is left out."""
    if problems and on_odd == "stop":
        raise collect(f"{len(problems)} {what}", problems, WAY_OUT)
    return problems


def _keep_usable(series: list[Series], on_odd: _OnOdd) -> tuple[list[Series], list[str]]:
    problems = [f"{s.name} {' and '.join(s.oddities)}" for s in series if s.oddities]
    reasons = _settle(problems, on_odd, f"of {len(series)} series cannot be used")
    return [each for each in series if not each.oddities], reasons


def _tabulate(top: Path, series: list[Series]) -> pd.DataFrame:
    """Make a row a slice; columns without a word in them are left out."""
    rows = [
        {
            "path": str(top / each.name), "frame": each.frame, "patient": each.patient,
            "series": held.uid, "study": each.study, "position": rank,
            "position_mm": None if held.mm is None else round(held.mm[rank], MM_DIGITS),
            "time_s": each.time_s, "channel": held.channel,
            "spacing_y_mm": each.spacing_mm and each.spacing_mm[0],
            "spacing_x_mm": each.spacing_mm and each.spacing_mm[1],
            "site": each.site, "day": each.date, **each.facts, **held.told,
        }
        for held in series
        for rank, each in enumerate(held.slices)
    ]  # fmt: skip
    table = pd.DataFrame(rows)
    table["day"] = _count_days(table)
    silent = (table.isna() | (table == "")).all()
    kept = {"path", "frame", "patient", "series", "study", "position"}
    return table.drop(columns=[name for name in table if silent[name] and name not in kept])


def _count_days(table: pd.DataFrame) -> pd.Series:
    """Return days since the patient's first study; missing where the date is."""
    dates = pd.to_datetime(table["day"].str.replace(".", ""), format="%Y%m%d", errors="coerce")
    return (dates - dates.groupby(table["patient"]).transform("min")).dt.days.astype("Int64")


def _count(series: list[Series]) -> dict[str, Any]:
    """Count what was found; numbers only."""
    slices = [each for held in series for each in held.slices]
    return {
        "studies": len({(each.patient, each.study) for each in slices}),
        "series": len({held.uid for held in series}),
        "ordered by": dict(Counter(held.by for held in series)),
        "series with gaps": sum(held.gaps > 0 for held in series),
        "burned in": sum(bool(each.facts.get("burned_in")) for each in slices),
    }
