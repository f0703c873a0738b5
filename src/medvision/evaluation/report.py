"""`report.html`: one page made from the files of a run folder alone, whatever of them there is."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import OmegaConf

import medvision.files as files
from medvision.evaluation.figures import find_best_epoch
from medvision.evaluation.gate_tables import fidelity_grids, phrase_gate
from medvision.evaluation.pages import embed_figure, render_page
from medvision.evaluation.style import show_score
from medvision.evaluation.tables import (
    PARTS,
    UNDEFINED,
    class_table,
    confusion_table,
    count_table,
    count_words,
    label_of,
    score_table,
    show_interval,
    show_seconds,
)

CAPTIONS = {
    "roc": ("ROC curve", "Sensitivity over 1 - specificity; a circle is the operating point."),
    "precision_recall": ("Precision and recall", "The dashed line is what chance would reach."),
    "confusion": ("Confusion matrix", "Counts, and their share of the true class."),
    "reliability": ("Reliability", "On the diagonal, predicted probabilities come true as said."),
    "scores": ("Predicted probabilities", "Where each class falls, and the threshold."),
    "learning_curves": ("Learning curves", "The dot is the epoch that was kept."),
    "cases": (
        "The surest misses, then hits",
        "Above, the true class; below, the decision with its probability, and what spoke for it.",
    ),
    "case": (
        "A series, slice by slice",
        "Misses first. Below the slices Grad-CAM: what spoke for the decision; bars are the weight "
        "of each slice, its heaviest three framed.",
    ),
    "samples": ("Generated images", "Of the chosen epoch, from fresh noise; none sorted out."),
    "neighbours": (
        "The likeliest copies",
        "Generated images over the nearest training image of each; unseen real images are 1 apart.",
    ),
    "preview": ("Training images as the net sees them", "After random, label-safe changes."),
}
SHOWN_ELSEWHERE = {"command", "status", "reason", "error", "test_openings", "patient_rule"}


@dataclass(frozen=True)
class Evidence:
    """What a run folder holds; empty where a file is missing."""

    folder: Path
    record: Mapping[str, Any]
    audit: Mapping[str, Any]
    metrics: Mapping[str, Any]
    history: pd.DataFrame
    config: str
    classes: Sequence[str]

    @property
    def part(self) -> str:
        """The part the report is about: test, or val where no test part was scored."""
        return "test" if self.metrics.get("test") else "val"


def read_evidence(run: Path) -> Evidence:
    """Read what there is; missing files are empty.

    Raises:
        MedvisionError: a file is there but broken.
    """
    config = run / "config.yaml"
    return Evidence(
        folder=run,
        record=_read(run / "record.json"),
        audit=_read(run / "audit.json"),
        metrics=_read(run / "metrics.json"),
        history=_read_table(run / "history.csv"),
        config=config.read_text(encoding="utf-8") if config.exists() else "",
        classes=_read_classes(run),
    )


def write_report(run: Path, remarks: Sequence[str] = ()) -> Path:
    """Write `report.html` beside the files it is made from.

    Args:
        run: the run folder; finished, running or failed.
        remarks: sentences stamped at the top, such as scores that differ when recomputed.
    """
    return files.write_text(run / "report.html", render_report(read_evidence(run), remarks))


def render_report(found: Evidence, remarks: Sequence[str] = ()) -> str:
    """Return the page; every text of the user is escaped by the template."""
    return render_page(
        "report.html",
        name=f"{found.folder.parent.name} / {found.folder.name}",
        status=found.record.get("status", ""),
        verdict=describe_verdict(found),
        remarks=remarks,
        part=found.part,
        scores=score_table(found.metrics),
        fidelity=list(fidelity_grids(found.metrics)),
        per_class=class_table(found.metrics, found.part),
        confusion=confusion_table(found.metrics, found.part, found.classes),
        figures=list(_embed_figures(found.folder / "figures")),
        data=count_table(found.audit.get("counts") or found.metrics.get("n") or {}),
        leaks=list(describe_data(found)),
        choices=list(describe_choices(found)),
        openings=[
            [str(o.get(key, "")) for key in ("date", "model", "command")]
            for o in found.record.get("test_openings") or []
        ],
        command=_as_text(found.record.get("command", "")),
        facts=list(describe_facts(found.record)),
        config=found.config,
    )


def describe_verdict(found: Evidence) -> str:
    """Say the result in one sentence, and first what stands in its way."""
    status = found.record.get("status")
    reason = found.record.get("reason") or found.record.get("error")
    states = {
        "failed": "This run failed" + (f": {str(reason).rstrip('.')}." if reason else "."),
        "interrupted": "This run was interrupted; the same command resumes it.",
        "running": "This run has not finished; what follows is what it has written so far.",
    }
    words = [states[status]] if status in states else []
    scores, part = found.metrics.get(found.part) or {}, found.part
    told = [
        f"{label_of(name)} {_spoken(scores[name])}"
        for name in ("auroc", "balanced_accuracy", "accuracy")
        if (scores.get(name) or {}).get("value") is not None
    ]
    if told:
        counted = count_words((found.metrics.get("n") or {}).get(part))
        size = re.sub(r" (images|series), ", rf" {part} \1 of ", counted) or f"the {part} part"
        words.append(f"On {size}: {', '.join(told[:2])}.")
        if part == "val":
            words.append("No test part was scored; the run was chosen on these very patients.")
    elif gate := phrase_gate(found.metrics):
        words.append(gate)
    elif not words:
        words.append("This run has no scores yet.")
    return " ".join(words)


def _spoken(score: Mapping[str, Any]) -> str:
    value, _, between = show_interval(score).partition(" (")
    return f"{value} (95 % CI {between}" if score.get("low") is not None else value


def describe_data(found: Evidence) -> Iterator[str]:
    """Say who was counted as a patient, what overlapped and what was left out."""
    for rule in dict.fromkeys(_find("patient_rule", [found.audit, found.record])):
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


def describe_choices(found: Evidence) -> Iterator[str]:
    """Say how epoch, temperature and threshold were chosen and how often test was opened."""
    if "epoch" in found.history and len(found.history):
        yield f"Trained for {int(found.history['epoch'].nunique())} epochs{_best(found)}."
    point = found.metrics.get("operating_point") or {}
    if (threshold := point.get("threshold")) is not None:
        each = _each_class(threshold, found.classes)
        yield f"Operating point: {each}; chosen on val by {point.get('rule')}, then frozen."
    elif found.metrics and "gate" not in found.metrics:
        yield "Operating point: none; the class with the highest probability is decided for."
    if (temperature := found.metrics.get("temperature")) is not None:
        how = "fitted on val" if temperature != 1 else "not fitted, since val could not tell"
        yield f"Temperature: {temperature:.3f}, {how}; logits are divided by it."
    if found.record:
        openings = len(found.record.get("test_openings") or [])
        times = {0: "never opened", 1: "opened once"}.get(openings, f"opened {openings} times")
        more = "; only the first look is untouched by what was seen" if openings > 1 else ""
        yield f"The test part was {times}{more}."


def _best(found: Evidence) -> str:
    monitor = str(_parse(found.config).get("monitor", ""))
    epoch = found.record.get("best_epoch", find_best_epoch(found.history, monitor))
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
    return key.replace("_", " "), _as_text(value)


def _as_text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {_as_text(v)}" for k, v in value.items())
    if isinstance(value, list):
        return f"{len(value)} entries" if len(value) > 8 else ", ".join(map(_as_text, value))
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _each_class(values: Any, classes: Sequence[str]) -> str:
    """Write one threshold, or one a class."""
    if not isinstance(values, list):
        return f"probability {show_score(float(values))}"
    names = classes if len(classes) == len(values) else range(len(values))
    pairs = zip(names, values, strict=True)
    return ", ".join(f"{k} {UNDEFINED if v is None else show_score(v)}" for k, v in pairs)


def _embed_figures(folder: Path) -> Iterator[dict[str, Any]]:
    """Read the PNGs in reading order; one of an unknown name is shown under it."""
    order = list(CAPTIONS)
    found = [(*_name_figure(path.relative_to(folder)), path) for path in folder.rglob("*.png")]
    ranked = sorted(found, key=lambda f: (order.index(f[0]) if f[0] in order else 99, f[2]))
    for kind, part, path in ranked:
        image = embed_figure(path)
        title, text = CAPTIONS.get(kind, (kind.replace("_", " "), ""))
        yield {
            "title": f"{title} ({part})" if part else title,
            "text": text,
            "wide": image["width"] > 1000,  # a grid of images
        } | image


def _name_figure(path: Path) -> tuple[str, str]:
    """Split `test_roc.png`, `roc_test.png` or `test/roc.png` into what is drawn and the part."""
    words = "_".join(path.with_suffix("").parts).split("_")
    if words[0] == "case":  # numbered
        return "case", ""
    for place in (0, -1):
        if len(words) > 1 and words[place] in PARTS:
            part = words.pop(place)
            return "_".join(words), part
    return "_".join(words), ""


def _find(key: str, places: Sequence[Any]) -> Iterator[str]:
    """Yield every text under `key`, however deep."""
    for place in places:
        if isinstance(place, Mapping):
            if isinstance(place.get(key), str):
                yield place[key]
            yield from _find(key, list(place.values()))
        elif isinstance(place, list):
            yield from _find(key, place)


def _parse(config: str) -> dict[str, Any]:
    content = OmegaConf.to_container(OmegaConf.create(config or "{}"))
    return {str(k): v for k, v in content.items()} if isinstance(content, dict) else {}


def _read(path: Path) -> dict[str, Any]:
    return dict(files.read_json(path)) if path.exists() else {}


def _read_table(path: Path) -> pd.DataFrame:
    return pd.read_csv(path) if path.exists() and path.stat().st_size else pd.DataFrame()


def _read_classes(run: Path) -> list[str]:
    """Return the classes in order, as the predictions name their columns."""
    for part in ("test", "val"):
        if (path := run / "predictions" / f"{part}.csv").exists():
            columns = pd.read_csv(path, nrows=0).columns
            return [c.removeprefix("prob_") for c in columns if c.startswith("prob_")]
    return []
