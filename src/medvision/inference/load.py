"""A trained model as a script has it: it reads new files and answers with a table."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

import medvision.files as files
from medvision.data.batches.read import OnUnreadable
from medvision.data.units.series_form import OnGap
from medvision.inference.answer import Answers, answer_files
from medvision.inference.checks import OnUnlike
from medvision.inference.ensemble import load_ensemble
from medvision.model import Model, load_model
from medvision.runs import find_run

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


@dataclass(frozen=True)
class Predictor:
    """A frozen model, or several that answer together, with all that was decided on val.

    Attributes:
        models: what `model.pt` holds, the net among it.
    """

    models: list[Model]

    def predict(self, paths: Paths, **words: Any) -> pd.DataFrame:
        """Return the table that `medvision predict` would write, a row an image or a series.

        Args:
            paths: what `input=` may be, or several of these; then the column `path` is as seen from
                the folder that holds all of them.
            words: `columns`, `on_unreadable`, `on_foreign` and `on_gap`, as the command takes them.

        Raises:
            MedvisionError: what the command would refuse.
        """
        return self.answer(paths, **words).table

    def answer(
        self,
        paths: Paths,
        *,
        columns: Mapping[str, str | None] | None = None,
        on_unreadable: OnUnreadable = "stop",
        on_foreign: OnUnlike = "stop",
        on_gap: OnGap | None = None,
    ) -> Answers:
        """Return the same table with that of the slices, and with notes on what is odd."""
        several = [paths] if isinstance(paths, str | os.PathLike) else paths
        sources = [files.find_input(path) for path in several]
        return answer_files(
            self.models, sources, columns, on_unreadable=on_unreadable, on_foreign=on_foreign,
            on_gap=on_gap,
        )  # fmt: skip


def load(run: str | Path | Sequence[str | Path]) -> Predictor:
    """Load what a run trained, to answer for new files.

    Args:
        run: a run folder, `last`, a unique beginning of a run's name, or a `model.pt` anywhere;
            several runs are an ensemble, as `runs=` is.

    Raises:
        MedvisionError: there is no such run, it has not finished, or it makes images.
    """
    if not isinstance(run, str | Path):
        return Predictor(load_ensemble("predict", None, run).models)
    path = Path(run).expanduser()
    return Predictor([load_model(path if path.is_file() else find_run(run).model)])
