"""What a run folder can say of its results where a checklist asks; "" = unknown."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import medvision.files as files
from medvision.evaluation.evaluator import HIT
from medvision.evaluation.figures.gallery import INDEX
from medvision.evaluation.report.run_files import RunFiles
from medvision.evaluation.report.summary import describe_verdict, find_limits, speak_score


def _metrics(found: RunFiles) -> str:
    names = [name for name, s in _scores(found).items() if s.get("value") is not None]
    return f"{', '.join(map(found.evaluator.label, names))}." if names else ""


def _uncertainty(found: RunFiles) -> str:
    if not any(score.get("low") is not None for score in _scores(found).values()):
        return ""
    return "95 % percentile intervals of a bootstrap over patients. No test of significance."


def _internal(found: RunFiles) -> str:
    return describe_verdict(found) if found.part == "test" and _scores(found) else ""


def _performance(found: RunFiles) -> str:
    return "Table of scores, with n and intervals." if _internal(found) else ""


def _accuracy(found: RunFiles) -> str:
    scores = {
        n: _scores(found).get(n) or {} for n in ("auroc", "recall", "specificity", "accuracy")
    }
    told = [
        f"{found.evaluator.label(n)} {speak_score(s)}"
        for n, s in scores.items()
        if s.get("low") is not None
    ]
    return f"{'; '.join(told)} ({found.part})." if told and found.part == "test" else ""


def _external(found: RunFiles) -> str:
    told = list(_evaluations(found.folder / "evaluations"))
    return f"On other manifests: {'; '.join(told)}." if told else ""


def _evaluations(folder: Path) -> Iterator[str]:
    for path in sorted(folder.glob("*/metrics.json")):
        metrics = files.read_json(path)
        score = (metrics.get("test") or metrics.get("val") or {}).get("auroc") or {}
        if score.get("value") is not None:
            yield f"{path.parent.name}, AUROC {speak_score(score)}"


def _subgroups(found: RunFiles) -> str:
    by = (found.metrics.get("subgroups") or {}).get("by") or {}
    names = [name.removeprefix("x_").replace("_", " ") for name in by]
    return f"Scores by {', '.join(names)}, exploratory." if names else ""


def _heterogeneity(found: RunFiles) -> str:
    by = (found.metrics.get("subgroups") or {}).get("by") or {}
    return "Scores of each site with intervals, in the subgroups." if "site" in by else ""


def _explanations(found: RunFiles) -> str:
    figures = found.folder / "figures"
    drawn = (figures / "cases" / INDEX).exists() or any(figures.glob("case*.png"))
    return "Grad-CAM of the surest misses and hits, where the net has maps." if drawn else ""


def _failures(found: RunFiles) -> str:
    path = found.folder / "figures" / "cases" / INDEX
    if not path.exists():
        return ""
    counts = files.read_json(path)["counts"]
    told = [f"{number} {kind}" for kind, number in counts.items() if kind != HIT]
    return f"Gallery of the surest; in all: {', '.join(told) or 'no error'}."


def _limits(found: RunFiles) -> str:
    return " ".join(find_limits(found))


def _scores(found: RunFiles) -> dict[str, Mapping[str, Any]]:
    held = found.metrics.get(found.part) or {}
    return {k: v for k, v in held.items() if isinstance(v, Mapping) and "value" in v}


ANSWERS: dict[str, Callable[[RunFiles], str]] = {
    "metrics": _metrics,
    "uncertainty": _uncertainty,
    "internal": _internal,
    "performance": _performance,
    "accuracy": _accuracy,
    "external": _external,
    "subgroups": _subgroups,
    "heterogeneity": _heterogeneity,
    "explanations": _explanations,
    "failures": _failures,
    "limits": _limits,
}
