"""What a run says of itself, in sentences: its result, its data, its choices, its machine."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from medvision.evaluation.covariates import find_covariates, real_rows
from medvision.evaluation.figures.common import find_best_epoch
from medvision.evaluation.figures.style import show_score
from medvision.evaluation.report.run_files import RunFiles
from medvision.evaluation.report.table import (
    UNDEFINED,
    count_words,
    show_interval,
    show_seconds,
)

SHOWN_ELSEWHERE = {"command", "status", "reason", "error", "test_openings", "patient_rule"}


def describe_verdict(found: RunFiles) -> str:
    """Say the result in one sentence, and first what stands in its way."""
    status = found.record.get("status")
    reason = found.record.get("reason") or found.record.get("error")
    states = {
        "failed": "This run failed" + (f": {str(reason).rstrip('.')}." if reason else "."),
        "interrupted": "This run was interrupted; the same command resumes it.",
        "running": "This run has not finished; what follows is what it has written so far.",
    }
    words = [states[status]] if status in states else []
    if result := found.evaluator.sentences(found).get("result"):
        words += result
        if found.part == "val" and found.evaluator.opens_test:
            words.append("No test part was scored; the run was chosen on these very patients.")
    elif not words:
        words.append("This run has no scores yet.")
    return " ".join(words)


def count_scored(found: RunFiles) -> str:
    """Write how much was scored: `60 test images of 30 patients`."""
    counted = count_words((found.metrics.get("n") or {}).get(found.part))
    return re.sub(r" (images|series), ", rf" {found.part} \1 of ", counted) or (
        f"the {found.part} part"
    )


def speak_score(score: Mapping[str, Any]) -> str:
    """Write a score and its interval as prose does."""
    value, _, between = show_interval(score).partition(" (")
    return f"{value} (95 % CI {between}" if score.get("low") is not None else value


def describe_data(found: RunFiles) -> Iterator[str]:
    """Say who was counted as a patient, what overlapped and what was left out."""
    for rule in dict.fromkeys(found.find("patient_rule")):
        yield f"Patients: {rule}"
    if mode := found.audit.get("mode"):
        yield f"Split: {mode}."
    if overlaps := found.audit.get("overlaps"):
        what = " and ".join(f"{number} {name}" for name, number in overlaps.items())
        yield f"Found in more than one part as given: {what}."
    if dropped := {k: v for k, v in (found.audit.get("dropped") or {}).items() if v}:
        words = {"patients_rows": "for their patient", "copies_rows": "as copies of an image"}
        yield f"Rows left out: {', '.join(f'{v} {words.get(k, k)}' for k, v in dropped.items())}."
    if remaining := found.audit.get("remaining"):
        what = " and ".join(f"{number} {name}" for name, number in remaining.items())
        yield f"In more than one part after that, checked again: {what}."
    yield from (str(note) for note in found.audit.get("notes") or [])


def describe_choices(found: RunFiles) -> Iterator[str]:
    """Say how the epoch and what else was fitted were chosen, and how often test was opened."""
    if "epoch" in found.history and len(found.history):
        yield f"Trained for {int(found.history['epoch'].nunique())} epochs{tell_best_epoch(found)}."
    yield from found.evaluator.sentences(found).get("choices", ())
    if found.record:
        openings = len(found.record.get("test_openings") or [])
        times = {0: "never opened", 1: "opened once"}.get(openings, f"opened {openings} times")
        more = "; only the first look is untouched by what was seen" if openings > 1 else ""
        yield f"The test part was {times}{more}."


def tell_best_epoch(found: RunFiles) -> str:
    """Say which epoch was kept and why, to end a sentence; "" where nothing tells."""
    monitor = str(found.setting("monitor") or "")
    epoch = found.record.get("best_epoch")
    if epoch is None:
        epoch = find_best_epoch(found.history, monitor, found.evaluator)
    if epoch is None or monitor not in found.history:
        return ""
    values = found.history.loc[found.history["epoch"] == epoch, monitor].dropna()
    if values.empty:
        return ""
    value = values.iloc[-1]
    return f"; epoch {epoch} was best by {monitor} ({show_score(float(value))})"


def describe_facts(record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Name and value of what else the record holds; long lists, such as digests, are counted."""
    for key, value in record.items():
        if key not in SHOWN_ELSEWHERE and value not in (None, "", [], {}):
            yield _describe_fact(key, value)


def _describe_fact(key: str, value: Any) -> tuple[str, str]:
    if key == "seconds":
        return "wall time", show_seconds(float(value))
    if key.endswith("_mb"):
        return key.removesuffix("_mb").replace("_", " "), f"{value} MB"
    return key.replace("_", " "), as_text(value)


def as_text(value: Any) -> str:
    """Write a value of the record; long lists are counted."""
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {as_text(v)}" for k, v in value.items())
    if isinstance(value, list):
        return f"{len(value)} entries" if len(value) > 8 else ", ".join(map(as_text, value))
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def tell_threshold(values: Any, classes: Sequence[str]) -> str:
    """Write one threshold, or one a class."""
    if not isinstance(values, list):
        return f"probability {show_score(float(values))}"
    names = classes if len(classes) == len(values) else range(len(values))
    pairs = zip(names, values, strict=True)
    return ", ".join(f"{k} {UNDEFINED if v is None else show_score(v)}" for k, v in pairs)


FEW = 100  # patients: intervals of a part below are wide, whatever the score


def find_limits(found: RunFiles) -> Iterator[str]:
    """Yield one sentence a limit, the gravest first."""
    if not found.makes_images:
        yield from _limits_of_scores(found)
    yield from _limits_of_data(found)
    yield from _limits_of_training(found)


def _limits_of_scores(found: RunFiles) -> Iterator[str]:
    patients = found.patients(found.part)
    if found.part == "val" and found.metrics.get("val"):
        yield "Scored only on val, which chose epoch, temperature and threshold: optimistic."
    if found.metrics and patients is not None and patients < FEW:
        yield f"Only {patients} patients in {found.part}: the intervals are wide."
    openings = len(found.record.get("test_openings") or [])
    if openings > 1:
        yield f"The test part was opened {openings} times: only the first look is untouched."
    yield from found.evaluator.sentences(found).get("limits", ())
    evaluations = found.folder / "evaluations"
    if found.metrics and not any(evaluations.glob("*/metrics.json")):
        yield "Not evaluated on data from elsewhere."


def _limits_of_data(found: RunFiles) -> Iterator[str]:
    rows = real_rows(found.rows)
    if found.facts.get("simulated"):
        yield "The images are simulated: nothing here speaks of patients."
    if len(rows):
        yield from _limits_of_rows(found)
    near = (found.facts.get("audit") or {}).get("near_copies") or {}
    if pairs := near.get("pairs"):
        across = near.get("across")
        kept = f", {across} of them across given parts" if across else ""
        yield f"{pairs} pairs of images of different patients are near copies{kept}."
    for shortcut in (found.facts.get("audit") or {}).get("shortcuts") or []:
        yield _tell_shortcut(shortcut)
    for note in found.audit.get("notes") or []:
        if str(note).startswith("only "):  # few patients of a class in a part
            yield f"{note[0].upper()}{note[1:]}."


def _tell_shortcut(shortcut: Mapping[str, Any]) -> str:
    return (
        f"{shortcut['label']} can be told from {shortcut['fact']} alone (AUROC "
        f"{show_score(shortcut['auroc'])}): a model may have learnt that."
    )


def _limits_of_rows(found: RunFiles) -> Iterator[str]:
    rows = real_rows(found.rows)
    sites, seen = set(rows["site"]) - {""} if "site" in rows else set(), rows["split"] == "train"
    if len(sites) == 1:
        yield "All patients are of one site."
    elif not sites:
        yield "Sites are not recorded, so differences between them cannot be seen."
    elif set(rows.loc[rows["split"] == found.part, "site"]) <= set(rows.loc[seen, "site"]):
        yield f"No site of {found.part} is new to the model: it was trained on images of each."
    if not any(one.name.startswith("x_") for one in find_covariates(rows)):
        yield "No age, sex or other covariate is recorded, so fairness cannot be looked at."
    if "manufacturer" not in rows:
        yield "Devices are not recorded; others than those of the training images were not tried."


def _limits_of_training(found: RunFiles) -> Iterator[str]:
    if made := found.audit.get("generated"):
        number = sum(one.get("images", 0) for one in made)
        yield f"{number} generated images joined the training part."
    if "each image is its own patient" in str(found.card.get("patient_rule", "")):
        yield "Each image counts as a patient: images of one person may lie in two parts."
    if found.card and found.card.get("key") is None:
        yield "Patients are given as they stand in the manifest, not hashed."
