"""Frozen models that answer together: the mean of what they predict."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import medvision.files as files
import medvision.trust.integrity as integrity
from medvision.errors import MedvisionError, collect
from medvision.evaluation.evaluator import Evaluator
from medvision.inference.predictor import open_model_evaluator, open_model_unit
from medvision.model import Model, load_model
from medvision.runs import Run, find_run, find_runs

SAME = ("channels", "max_slices", "on_gap")  # of rows that belong together: which samples they make


@dataclass(frozen=True)
class Ensemble:
    """One frozen model, or several that predict the same.

    Attributes:
        runs: where the models come from.
        models: one a run.
    """

    runs: list[Run]
    models: list[Model]

    @cached_property
    def digests(self) -> list[str]:
        """SHA-256 of each `model.pt`."""
        return [files.digest_file(run.model) for run in self.runs]

    @cached_property
    def joined(self) -> Model:
        """The model that decides for all."""
        return join(self.models)

    @cached_property
    def evaluators(self) -> list[Evaluator]:
        """What evaluates each model, by its own decision."""
        return [open_model_evaluator(model) for model in self.models]

    @cached_property
    def evaluator(self) -> Evaluator:
        """What evaluates all of them together."""
        return open_model_evaluator(self.joined)

    @property
    def stamps(self) -> list[str]:
        """What is said of runs that are not this user's own."""
        alone = len(self.runs) == 1
        return [
            text if alone else f"{run.title}: {text}"
            for run in self.runs if (text := run.stamp)
        ]  # fmt: skip

    @property
    def stamp(self) -> str:
        """How its numbers come about, for every table of them."""
        count = "1 run" if len(self.runs) == 1 else f"{len(self.runs)} runs"
        return f"ensemble of {count}: {self.evaluator.averaged}"


def load_ensemble(
    command: str, run: str | Path | None, runs: Sequence[str | Path] | None
) -> Ensemble:
    """Load the model of `run=`, or the members of `runs=`.

    Raises:
        MedvisionError: neither or both were given, a run twice, one that has not finished, or
            members that cannot be averaged.
    """
    names = [str(name) for name in ([runs] if isinstance(runs, str | Path) else runs or [])]
    if bool(run) == bool(names):
        raise MedvisionError(
            f"medvision {command} needs run=… or, for an ensemble, runs=[A,B], and not both"
        )
    members = [find_run(run)] if run else find_members(names)
    for member in members:
        integrity.check_files(member.folder, but=integrity.REWRITTEN)
    ensemble = Ensemble(members, [load_model(member.model) for member in members])
    check_agreement(ensemble)
    return ensemble


def find_members(names: Sequence[str]) -> list[Run]:
    """Find the runs that runs, sweep folders and patterns name; of several mentions one counts.

    Raises:
        MedvisionError: a run that is named by itself twice, or members that have not finished.
    """
    items = [find_runs(name) for name in names]
    alone = [item[0].folder for item in items if len(item) == 1]
    if len(set(alone)) < len(alone):
        raise MedvisionError(f"runs=[{','.join(names)}] names a run twice; name each member once")
    members = list({member.folder: member for item in items for member in item}.values())
    unfinished = [
        f"{member.title} ({member.status or 'no status'})"
        for member in members if member.status != "done"
    ]  # fmt: skip
    if unfinished:
        raise collect(
            f"{len(unfinished)} of {len(members)} members have not finished", unfinished,
            "Give their training command again, or name the finished runs alone in runs=[A,B]",
        )  # fmt: skip
    return members


def check_agreement(ensemble: Ensemble) -> None:
    """Refuse members whose predictions or decisions cannot be averaged."""
    models, questions = ensemble.models, [one.question for one in ensemble.evaluators]
    if len(set(questions)) > 1:
        what = ensemble.evaluators[0].predicted
        raise collect(
            f"the runs do not predict the same {what}",
            [f"{run.folder}: {text}" for run, text in zip(ensemble.runs, questions, strict=True)],
            f"An ensemble needs equal {what} in equal order; take each run alone",
        )
    units = [open_model_unit(model) for model in models]
    if len({type(unit) for unit in units}) > 1:
        kinds = " and some ".join(sorted({unit.taken for unit in units}))
        raise MedvisionError(
            f"the runs do not read the same: some take {kinds}; an ensemble is of one kind"
        )
    ways = [{key: unit.form.contract()[key] for key in SAME} for unit in units]
    if any(way != ways[0] for way in ways):
        described = [f"{run.folder}: {', '.join(f'{k}={v}' for k, v in way.items())}"
                     for run, way in zip(ensemble.runs, ways, strict=True)]  # fmt: skip
        raise collect(
            "the runs do not make the same series of rows", described,
            "An ensemble needs the same slices in the same order; take each run alone",
        )  # fmt: skip
    join(models)


def join(models: Sequence[Model]) -> Model:
    """Return the model that decides for all: the first one, with the decision of all.

    Raises:
        MedvisionError: their decisions have no mean.
    """
    members = [open_model_evaluator(model) for model in models]
    return replace(models[0], decision=members[0].join(members).decision)
