"""What a run folder can say of its data where a checklist asks; "" = unknown."""

from collections.abc import Callable

from medvision.evaluation.covariates import SPACING, find_covariates, real_rows
from medvision.evaluation.report.participants import describe_participants
from medvision.evaluation.report.run_files import RunFiles, plain
from medvision.evaluation.report.summary import as_text
from medvision.evaluation.report.table import PARTS

DEVICES = ("modality", "manufacturer", "body_part", "view")
SHOWN = 6  # different words of one column


def _sources(found: RunFiles) -> str:
    if found.rows.empty:
        return ""
    held = real_rows(found.rows).groupby("dataset")["patient"].nunique()
    told = ", ".join(
        f"{name or 'one data set'} ({number} patients)" for name, number in held.items()
    )
    how = found.setting("data.source.name")
    simulated = ", simulated" if found.facts.get("simulated") else ""
    return f"{told}{f', read by source={how}' if how else ''}{simulated}."


def _exclusions(found: RunFiles) -> str:
    flow = describe_participants(found)
    if flow is None:
        return ""
    told = [*flow.steps[0].lines, *(line for box in flow.steps for line in box.aside)]
    return f"By the program: {'; '.join(told) or 'nothing was left out'}."


def _preprocessing(found: RunFiles) -> str:
    reader = plain(found.setting("data.reader"))
    if not reader:
        return ""
    augment = {k: v for k, v in plain(found.setting("augment")).items() if v}
    changes = f" Training images are changed at random: {as_text(augment)}." if augment else ""
    return f"Images are read with {as_text(reader)}.{changes}"


def _subsets(found: RunFiles) -> str:
    if not found.setting("data") or not found.flow:
        return ""
    names = ("channels", "max_slices", "neighbours", "difference")
    chosen = {name: value for name in names if (value := found.setting(f"data.{name}"))}
    told = f" of {found.unit} with {as_text(chosen)}" if chosen else ""
    center = found.setting("data.reader.center")
    cut = f", of each image the middle {center:g} of both sides" if center not in (None, 1) else ""
    return f"All rows of the manifest that could be used{told}{cut}; see the flow."


def _deidentification(found: RunFiles) -> str:
    if not (key := found.card.get("key")):
        return ""
    burned = found.facts.get("burned in")
    doubt = f" {burned} images may show text in their pixels." if burned else ""
    return (
        f"Ids of patients and series are keyed pseudonyms (key {key}); files have stand-ins.{doubt}"
    )


def _missing(found: RunFiles) -> str:
    if not found.setting("data") or not found.flow:
        return ""
    bare = sum(counts["unlabelled"] for counts in found.flow["parts"].values())
    told = [f"Unreadable images: {found.setting('data.on_unreadable')}"]
    if found.unit == "series":
        told.append(f"series with missing slices: {found.setting('data.on_gap')}")
    told.append(f"without a label, and left out of training and scores: {bare}")
    return f"{'; '.join(told)}. Nothing was imputed."


def _acquisition(found: RunFiles) -> str:
    rows = real_rows(found.rows)
    told = [
        f"{name.replace('_', ' ')} {', '.join(rows.loc[rows[name] != '', name].unique()[:6])}"
        for name in DEVICES
        if name in rows
    ]
    told += [f"{n.replace('_', ' ')} in table 1" for n in SPACING[:1] if n in rows]
    return f"{'; '.join(told)}." if told else ""


def _labels(found: RunFiles) -> str:
    names = [str(name) for name in found.record.get("classes") or found.classes]
    if not names:
        return ""
    positive = f"; positive is {names[-1]}" if found.record.get("kind") == "binary" else ""
    return f"Classes: {', '.join(names)}{positive}."


def _partitions(found: RunFiles) -> str:
    mode = found.audit.get("mode")
    if not mode:
        return ""
    how = {"given": "as the manifest says", "patient": "at random by patient, classes alike",
           "site": "whole sites as test", "fold": f"fold {found.setting('data.fold')} of "
           f"{found.setting('data.folds')} as test"}  # fmt: skip
    drawn = "" if mode == "given" else f", split seed {found.setting('data.split_seed')}"
    return f"Parts are made {how.get(str(mode), mode)}{drawn}: {_proportions(found)}."


def _proportions(found: RunFiles) -> str:
    counts = {p: found.patients(p) for p in PARTS if found.patients(p)}
    return ", ".join(f"{part} {number} patients" for part, number in counts.items())


def _disjoint(found: RunFiles) -> str:
    remaining = found.audit.get("remaining")
    if not remaining or any(remaining.values()):
        return ""
    return (
        "By patient, and by image: copies of an image count as one patient. Measured again in the "
        "result: no patient and no image in two parts."
    )


def _sizes(found: RunFiles) -> str:
    return f"{_proportions(found)}." if found.audit.get("counts") else ""


def _inputs(found: RunFiles) -> str:
    if not found.setting("data.reader"):
        return ""
    return f"The pixels of {found.unit} alone; no column of the manifest enters the model."


def _centres(found: RunFiles) -> str:
    rows = real_rows(found.rows)
    sites = set(rows["site"]) - {""} if "site" in rows else set()
    return f"{len(sites)} {'site' if len(sites) == 1 else 'sites'}." if sites else ""


def _flow(found: RunFiles) -> str:
    flow = describe_participants(found)
    return flow.sentence if flow else ""


def _events(found: RunFiles) -> str:
    parts = found.flow.get("parts") or {}
    told = [f"{part}: {as_text(c['patients_per_class'])} of {c['patients']} patients"
            for part, c in parts.items()]  # fmt: skip
    return f"Patients with each label: {'; '.join(told)}." if told else ""


def _characteristics(found: RunFiles) -> str:
    names = [one.title for one in find_covariates(real_rows(found.rows))]
    return f"Table 1, with {', '.join(names)}." if names else ""


ANSWERS: dict[str, Callable[[RunFiles], str]] = {
    "sources": _sources,
    "exclusions": _exclusions,
    "preprocessing": _preprocessing,
    "subsets": _subsets,
    "deidentification": _deidentification,
    "missing": _missing,
    "acquisition": _acquisition,
    "labels": _labels,
    "partitions": _partitions,
    "disjoint": _disjoint,
    "sizes": _sizes,
    "inputs": _inputs,
    "centres": _centres,
    "flow": _flow,
    "events": _events,
    "characteristics": _characteristics,
}
