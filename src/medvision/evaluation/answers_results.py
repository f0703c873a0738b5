"""What a run folder can say of its results where a checklist asks; "" = unknown."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import medvision.files as files
from medvision.evaluation.account import describe_verdict, speak_score
from medvision.evaluation.gallery import HIT, INDEX
from medvision.evaluation.limits import find_limits
from medvision.evaluation.run_folder import Evidence
from medvision.evaluation.tables import label_of


def _metrics(found: Evidence) -> str:
    names = [label_of(n) for n, s in _scores(found).items() if s.get("value") is not None]
    return f"{', '.join(names)}." if names else ""


def _uncertainty(found: Evidence) -> str:
    if not any(score.get("low") is not None for score in _scores(found).values()):
        return ""
    return "95 % percentile intervals of a bootstrap over patients. No test of significance."


def _internal(found: Evidence) -> str:
    return describe_verdict(found) if found.part == "test" and _scores(found) else ""


def _performance(found: Evidence) -> str:
    return "Table of scores, with n and intervals." if _internal(found) else ""


def _accuracy(found: Evidence) -> str:
    scores = {
        n: _scores(found).get(n) or {} for n in ("auroc", "recall", "specificity", "accuracy")
    }
    told = [
        f"{label_of(n)} {speak_score(s)}" for n, s in scores.items() if s.get("low") is not None
    ]
    return f"{'; '.join(told)} ({found.part})." if told and found.part == "test" else ""


def _external(found: Evidence) -> str:
    told = list(_evaluations(found.folder / "evaluations"))
    return f"On other manifests: {'; '.join(told)}." if told else ""


def _evaluations(folder: Path) -> Iterator[str]:
    for path in sorted(folder.glob("*/metrics.json")):
        metrics = files.read_json(path)
        score = (metrics.get("test") or metrics.get("val") or {}).get("auroc") or {}
        if score.get("value") is not None:
            yield f"{path.parent.name}, AUROC {speak_score(score)}"


def _subgroups(found: Evidence) -> str:
    by = (found.metrics.get("subgroups") or {}).get("by") or {}
    names = [name.removeprefix("x_").replace("_", " ") for name in by]
    return f"Scores by {', '.join(names)}, exploratory." if names else ""


def _heterogeneity(found: Evidence) -> str:
    by = (found.metrics.get("subgroups") or {}).get("by") or {}
    return "Scores of each site with intervals, in the subgroups." if "site" in by else ""


def _explanations(found: Evidence) -> str:
    figures = found.folder / "figures"
    drawn = (figures / "cases" / INDEX).exists() or any(figures.glob("case*.png"))
    return "Grad-CAM of the surest misses and hits, where the net has maps." if drawn else ""


def _failures(found: Evidence) -> str:
    path = found.folder / "figures" / "cases" / INDEX
    if not path.exists():
        return ""
    counts = files.read_json(path)["counts"]
    told = [f"{number} {kind}" for kind, number in counts.items() if kind != HIT]
    return f"Gallery of the surest; in all: {', '.join(told) or 'no error'}."


def _limits(found: Evidence) -> str:
    return " ".join(find_limits(found))


def _scores(found: Evidence) -> dict[str, Mapping[str, Any]]:
    held = found.metrics.get(found.part) or {}
    return {k: v for k, v in held.items() if isinstance(v, Mapping) and "value" in v}


ANSWERS: dict[str, Callable[[Evidence], str]] = {
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
