"""What a judge said of a generator, as tables for the report and the terminal."""

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.text import Text

from medvision.evaluation.report.table import UNDEFINED, Table, count_words, show_score

Metrics = Mapping[str, Any]
SHOWN = ("coverage", "density", "precision", "recall", "diversity", "fd", "kid")
_HEADS = {"fd": "FD", "kid": "KID × 1000"}


def phrase_gate(metrics: Metrics) -> str:
    """Say the verdict of `metrics.json` in one sentence; "" where nobody judged."""
    gate = metrics.get("gate")
    if not gate:
        return ""
    spaces = " and ".join(gate["spaces"])
    passed = "passed" if gate["passed"] else "failed"
    reasons = f": {'; '.join(gate['reasons'])}" if gate["reasons"] else ""
    return f"Gate {passed} (score {show_score(gate['score'])}, seen by {spaces}){reasons}."


def list_tables(metrics: Metrics) -> Iterator[tuple[str, Table]]:
    """Yield title and table of what the gate asks, the scores of each class, and the ladder."""
    if metrics.get("gate"):
        yield "What the gate asks", _gate_table(metrics)
        yield "Generated beside real images", _fidelity_table(metrics)
        yield "What the gate can see: real images, spoilt", _ladder_table(metrics)


def _gate_table(metrics: Metrics) -> Table:
    """Lay out the three criteria, what was found and where it was worst."""
    scores, asked = metrics["fidelity"], metrics["floor"]["asked"]
    coverage, copying = scores["coverage"], scores["copying"]
    agreement = scores["label_agreement"]
    rows = [
        ["coverage, share of real", show_score(coverage["relative"]),
         f"≥ {show_score(asked['coverage'])}", f"{coverage['class']}, {coverage['space']}"],
        ["label agreement, share of real",
         UNDEFINED if agreement is None else show_score(agreement["relative"]),
         f"≥ {show_score(asked['agreement'])}", "" if agreement is None else agreement["class"]],
        ["copies of training images", show_score(copying["copied"]),
         f"≤ {show_score(asked['copied'])}", copying["space"]],
    ]  # fmt: skip
    return Table(["", "found", "asked", "worst in"], rows, notes=[_describe_rest(scores)])


def _describe_rest(scores: Metrics) -> str:
    """Say what is reported and decides nothing."""
    copying, critic = scores["copying"], scores.get("critic") or {}
    facts = [
        f"Nearer to a training than to a held-out image: {show_score(copying['rate'])}, of unseen "
        f"real images {show_score(copying['null'])}",
        f"near-duplicates of training images {show_score(scores['near_duplicates'])}",
    ]
    if critic.get("auc") is not None:
        facts.append(f"the critic tells training from held-out images with AUROC "
                    f"{show_score(critic['auc'])}")  # fmt: skip
    if critic.get("overfit_ratio") is not None:
        facts.append(f"overfit ratio {show_score(critic['overfit_ratio'])}")
    if inception := scores.get("inception"):
        facts.append(f"FID {inception['fid']:.1f} in the features of Inception, floor "
                    f"{inception['floor_fid']:.1f} (n {inception['n']})")  # fmt: skip
    return "; ".join(facts) + "."


def _fidelity_table(metrics: Metrics) -> Table:
    """Lay out the scores of each class in each space, and below them what real images reach."""
    rows = []
    for space, found in metrics["fidelity"]["spaces"].items():
        floors = metrics["floor"]["spaces"][space]["classes"]
        for name, scores in found["classes"].items():
            for side, held in (("generated", scores), ("real", floors[name])):
                cells = [_show(key, held.get(key)) for key in SHOWN]
                rows.append([f"{name}, {space}, {side}", *cells])
    heads = [_HEADS.get(key, key) for key in SHOWN]
    n = metrics.get("n") or {}
    counts = "; ".join(f"{part} {count_words(n[part])}" for part in n)
    note = f"Real: training images in the place of generated ones. {counts}."
    return Table(["", *heads], rows, notes=[note])


def _show(key: str, value: float | None) -> str:
    if value is None:
        return UNDEFINED
    return f"{1000 * value:.2f}" if key == "kid" else show_score(value)


def _ladder_table(metrics: Metrics) -> Table:
    """Lay out the corruption ladder, and what the gate is blind to."""
    ladder = metrics["floor"]["ladder"]
    spaces = list(next(iter(ladder.values()))["coverage"])
    rows = []
    for name, rung in ladder.items():
        agreement = rung["agreement"]
        rows.append([
            name, *(show_score(rung["coverage"][space]) for space in spaces),
            UNDEFINED if agreement is None else show_score(agreement), show_score(rung["copied"]),
            ", ".join(rung["flagged"]) or "not noticed",
        ])  # fmt: skip
    heads = ["", *(f"coverage, {space}" for space in spaces), "agreement", "copies", "noticed by"]
    blind = metrics["floor"]["blind"]
    note = f"{'; '.join(blind)}." if blind else "The gate notices every rung."
    return Table(heads, rows, notes=[note[0].upper() + note[1:]])


def print_fidelity(metrics: Metrics, console: Console | None = None) -> None:
    """Print what the gate asks, and its verdict."""
    console, gate = console or Console(), _gate_table(metrics)
    gate.print(console)
    for sentence in (*gate.notes, phrase_gate(metrics)):
        console.print(Text(sentence), soft_wrap=True)
