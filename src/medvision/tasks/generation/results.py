"""What was measured of a generator, read back: its tables, its verdict, which way its scores go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import numpy as np

from medvision.errors import MedvisionError
from medvision.evaluation.evaluator import Evaluator, Metric, Scored, Section, Tables

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

    from medvision.evaluation.report.run_files import RunFiles
    from medvision.target import Encoded

BETTER: dict[str, Literal["high", "low"]] = {
    "gate_score": "high", "coverage": "high", "diversity": "high", "label_agreement": "high",
    "copied": "low",
}  # fmt: skip


class GenerationEvaluator(Evaluator):
    """Scores are of images, against floors, and written when training ends: nothing is predicted.

    Args:
        target, decision: as of any evaluator; neither changes what is read.
    """

    task = "generation"
    predicted = "images"
    opens_test = False
    figures_first = True
    template = "medvision.tasks.generation/report.html"
    primary = "gate_score"
    tables = {}  # noqa: RUF012 -- read only
    captions = {  # noqa: RUF012 -- read only
        "samples": ("Generated images", "Of the chosen epoch, from fresh noise; none sorted out."),
        "learning_curves": ("Learning curves", "The dot is the epoch that was kept."),
        "neighbours": (
            "The likeliest copies",
            "Generated images over the nearest training image of each; unseen real images are 1 "
            "apart.",
        ),
    }

    def __init__(self, target: Mapping[str, Any], decision: Mapping[str, Any]) -> None:
        super().__init__(target, decision)
        self.metrics = {
            name: Metric(
                name,
                name.replace("_", " "),
                better,
                lambda _, weights: np.full(len(weights), np.nan),
                lambda _: "is measured of images, not of rows",
            )
            for name, better in BETTER.items()
        }

    def tabulate(self, outputs: Encoded, facts: Tables) -> dict[str, pd.DataFrame]:
        _refuse()

    def combine(self, several: Sequence[Encoded], members: Sequence[Evaluator]) -> Encoded:
        _refuse()

    def join(self, members: Sequence[Evaluator]) -> Evaluator:
        _refuse()

    def fit(
        self, outputs: Encoded, truth: Encoded, rule: str,
        patients: Sequence[str] | None = None,
    ) -> dict[str, Any]:  # fmt: skip
        _refuse()

    def read(self, tables: Tables) -> Scored:
        _refuse()

    def print_scores(self, metrics: Mapping[str, Any], console: Console) -> bool:
        """Print what the gate asks, and its verdict."""
        from medvision.tasks.generation.tables import print_fidelity

        print_fidelity(metrics, console)
        return True

    def sections(self) -> Sequence[Section]:
        """Return what was measured, as tables."""
        return (Section("fidelity", "Fidelity", _list_tables),)

    def sentences(self) -> dict[str, str]:
        """Return the verdict of the gate; no limit is one of scores."""
        from medvision.evaluation.report.page import read_sentences

        return read_sentences("medvision.tasks.generation/sentences.toml")

    def phrase_gate(self, metrics: Mapping[str, Any]) -> str:
        """Say the verdict in one sentence, as the template of the result asks."""
        from medvision.tasks.generation.tables import phrase_gate

        return phrase_gate(metrics)


def _list_tables(found: RunFiles) -> list[Any]:
    from medvision.tasks.generation.tables import list_tables

    return list(list_tables(found.metrics))


def _refuse() -> NoReturn:
    raise MedvisionError(
        "a generator predicts nothing that could be scored; make images with it: "
        "medvision generate run=RUN per_class=500"
    )
