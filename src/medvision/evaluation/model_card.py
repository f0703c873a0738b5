"""The model card: what the model is for, what it was made of, what it can do, and its limits."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from medvision.evaluation.answers_data import ANSWERS as DATA
from medvision.evaluation.answers_model import ANSWERS as MODEL
from medvision.evaluation.checklist import Answer
from medvision.evaluation.report.run_files import RunFiles
from medvision.evaluation.report.summary import describe_choices, describe_verdict, find_limits
from medvision.evaluation.report.table import show_interval

STATUS = "Research software, not a medical device. Not for diagnosis or treatment."


@dataclass(frozen=True)
class Section:
    """A heading and what is said below it."""

    title: str
    answers: Sequence[Answer]


def write_card(found: RunFiles) -> list[Section]:
    """Return the sections of the card; none of a run without a model or its configuration."""
    if not found.record.get("model") or not found.config or not found.metrics:
        return []
    return [
        Section("Intended use", [
            Answer("", "who should use it, for whom, and for which decision"),
        ]),
        Section("Out of scope", [Answer(STATUS), *map(Answer, _scope(found))]),
        Section("Data", [
            *_say(found, DATA, ("sources", "labels", "partitions", "centres")),
            Answer("", "when, where and of whom the images were taken"),
        ]),
        Section("Model and training", _say(
            found, MODEL, ("model", "initialisation", "training", "selection", "imbalance"))),
        Section("Decisions", [Answer(text) for text in describe_choices(found)]),
        Section("Performance", [Answer(text) for text in _performance(found)]),
        Section("Limits", [*map(Answer, find_limits(found)),
                           Answer("", "limits that no file can tell")]),
    ]  # fmt: skip


def _say(found: RunFiles, known: Mapping[str, object], names: Sequence[str]) -> list[Answer]:
    told = (known[name](found) for name in names)  # type: ignore[operator]
    return [Answer(text) for text in told if text]


def _scope(found: RunFiles) -> Iterator[str]:
    size = found.setting("data.reader.size")
    yield (
        "Images unlike those of the training part in modality, size, spacing or values"
        f"{f'; it sees {size[0]} × {size[1]} pixels' if isinstance(size, list) else ''}."
    )
    names = [str(name) for name in found.record.get("classes") or found.classes]
    if names and not found.makes_images:
        yield f"Findings other than {', '.join(names)}: it gives one of these to any image."


def _performance(found: RunFiles) -> Iterator[str]:
    yield describe_verdict(found)
    scores = found.metrics.get(found.part) or {}
    told = [
        f"{name} {show_interval(scores[key])}"
        for key, name in (("brier", "Brier score"), ("ece", "expected calibration error"))
        if (scores.get(key) or {}).get("value") is not None
    ]
    if told:
        yield f"Calibration: {', '.join(told)}."
