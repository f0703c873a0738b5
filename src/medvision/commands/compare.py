"""`medvision compare`: arms on the same test patients, their differences and what these prove."""

import shlex
import string
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

import medvision.files as files
from medvision.errors import MedvisionError, collect, did_you_mean
from medvision.evaluation.comparison.arms import Aligned, Arm, align, gather_arms, read_repeats
from medvision.evaluation.comparison.compare import Place, compare_arms, score_runs
from medvision.evaluation.comparison.figures import draw_differences
from medvision.evaluation.comparison.sweep_run import SweepRun, read_sweep_runs, stamp_runs
from medvision.evaluation.comparison.text import list_differences, print_comparison, write_page
from medvision.evaluation.evaluator import Evaluator, open_evaluator, target_of
from medvision.evaluation.figures.style import save_figure
from medvision.provenance import command_line
from medvision.runs import find_runs, joint_folder

FEWEST = 100  # resamples: fewer make no 95 % interval
LONGEST = 24  # characters of an arm's name in a table; longer ones become letters


@dataclass(frozen=True)
class Side:
    """One item of `runs=` and its finished trainings, by (seed, split_seed, fold)."""

    word: str
    cells: dict[Place, SweepRun]
    unfinished: dict[Place, SweepRun]

    @cached_property
    def evaluator(self) -> Evaluator:
        """What scores its task; runs of before only say in their model what they predict."""
        cell = next(iter(self.cells.values()))
        if target_of(cell.record).keys() >= {"classes", "kind"} or "task" in cell.record:
            return cell.evaluator
        from medvision.inference.predictor import open_model_evaluator
        from medvision.model import load_model

        trained = open_model_evaluator(load_model(cell.run.model))
        return open_evaluator(trained.task, trained.target)


def run(
    runs: list[str],
    split: Literal["val", "test"] = "test",
    metric: str | None = None,
    resamples: int = 2000,
    output: Path | None = None,
) -> None:
    """Compare arms (a setting, trained once or over seeds and folds) on the same patients.

    runs=[A,B]         a run, a sweep folder or a pattern such as 'NAME/*lr=0.001*', each one arm;
                       put "…" around a name that holds a comma
    split=test         the stored predictions compared; val is possible, and stamped as optimistic
    metric=auroc       the score that is tested; default: the main one of the runs' task
    resamples=2000     of the paired patient bootstrap
    output=DIR         default: a folder under runs/_joint/
    """
    found = compare(runs, split=split, metric=metric, resamples=resamples, output=output)
    print_comparison(found.results, found.evaluator)
    print(f"written: {found.folder}")


class Comparison(NamedTuple):
    """What `comparison.json` holds, the folder it lies in, and what scored the arms."""

    results: dict[str, Any]
    folder: Path
    evaluator: Evaluator


def compare(
    runs: Sequence[str | Path],
    *,
    split: Literal["val", "test"] = "test",
    metric: str | None = None,
    resamples: int = 2000,
    output: str | Path | None = None,
) -> Comparison:
    """Do what `medvision compare` does, which says what the words mean, and print no table.

    Raises:
        MedvisionError: what the command would refuse.
    """
    _check_resamples(resamples)
    sides = _gather_sides(runs)
    evaluator = sides[0].evaluator
    metric = _check_metric(metric, evaluator)
    check_pairing(sides)
    _check_predictions(sides, split)
    results = compare_sides(sides, split, metric, resamples)
    cells = [cell for side in sides for cell in side.cells.values()]
    parts = [*(str(cell.run.folder) for cell in cells), split, metric, str(resamples)]
    folder = Path(output).expanduser() if output else joint_folder("compare", *parts)
    _write_comparison(folder, results, sides)
    return Comparison(results, folder, evaluator)


def _check_metric(metric: str | None, evaluator: Evaluator) -> str:
    """Return the score that is tested; refuse one that the task does not have."""
    name, known = metric or evaluator.primary, [n for n, m in evaluator.metrics.items() if m.better]
    if name not in known:
        near = did_you_mean(str(name), known)
        raise MedvisionError(f"metric={name} is no score{near}; choose {', '.join(known)}")
    return name


def _check_resamples(resamples: int) -> None:
    """Refuse what makes no interval."""
    if not isinstance(resamples, int) or resamples < FEWEST:
        raise MedvisionError(f"resamples={resamples} is too few; take {FEWEST} or more")


def _gather_sides(runs: Sequence[str | Path]) -> list[Side]:
    """Find what each item names.

    Raises:
        MedvisionError: fewer than two items, an item of several arms or of no finished run, a run
            in two items, or two runs of one cell.
    """
    words = [str(name) for name in ([runs] if isinstance(runs, str | Path) else runs)]
    if len(words) < 2:
        raise MedvisionError("medvision compare needs at least two arms: runs=[A,B]")
    sides = [gather_side(word) for word in words]
    seen: dict[Path, str] = {}
    for side in sides:
        for cell in side.cells.values():
            if (other := seen.setdefault(cell.run.folder, side.word)) != side.word:
                raise MedvisionError(
                    f"runs={other} and runs={side.word} both hold {cell.run.title}; "
                    "name each arm once"
                )
    if len(set(words)) < len(words):
        raise MedvisionError(f"runs=[{','.join(words)}] names an arm twice; name each arm once")
    return sides


def gather_side(word: str) -> Side:
    """Read the one arm that an item names."""
    cells = read_sweep_runs(find_runs(word))
    arms = gather_arms(cells)
    if len(arms) > 1:
        raise collect(
            f"runs={word} holds {len(arms)} arms", [arm.name for arm in arms],
            f"Name one arm an item, such as '{_name_pattern(arms[0])}'",
        )  # fmt: skip
    done: dict[Place, SweepRun] = {}
    unfinished: dict[Place, SweepRun] = {}
    for cell in arms[0].cells if arms else []:
        place = cell.place
        if cell.status == "done" and place in done:
            raise MedvisionError(
                f"runs={word} holds two runs of {name_place(place)}: {done[place].run.title} "
                f"and {cell.run.title}; name one of them"
            )
        (done if cell.status == "done" else unfinished)[place] = cell
    if not done:
        raise MedvisionError(f"runs={word} holds no finished run; train it first")
    return Side(word, dict(sorted(done.items(), key=lambda item: str(item[0]))), unfinished)


def _name_pattern(arm: Arm) -> str:
    """Write a pattern that finds an arm by the settings that tell it apart."""
    told = [f"{key.rpartition('.')[2]}={arm.settings[key]}" for key in sorted(arm.settings)]
    return f"{arm.cells[0].run.folder.parent.name}/*{'*'.join(told)}*"


def name_place(place: Place) -> str:
    """Write (seed, split_seed, fold) as a user types it."""
    seed, split_seed, fold = place
    words = [f"seed={seed}", f"data.split_seed={split_seed}" if split_seed else ""]
    return " ".join(word for word in [*words, "" if fold is None else f"data.fold={fold}"] if word)


def check_pairing(sides: Sequence[Side]) -> None:
    """Refuse arms that were not trained in the same cells: luck would be compared as well."""
    every = {place for side in sides for place in side.cells}
    problems = []
    for side in sides:
        if missing := sorted(every - set(side.cells), key=str):
            cell = side.unfinished.get(missing[0])
            status = f" (status: {cell.status})" if cell else ""
            problems.append(
                f"{side.word} has {len(side.cells)} of {len(every)}, "
                f"without {name_place(missing[0])}{status}"
            )
    if problems:
        raise collect(
            "the arms were not trained with the same seeds and folds", problems,
            "Train what is missing, or name runs that all arms have",
        )  # fmt: skip


def _check_predictions(sides: Sequence[Side], split: str) -> None:
    """Refuse runs whose predictions are missing or cannot be pooled, or of other questions."""
    cells = [cell for side in sides for cell in side.cells.values()]
    lacking = [cell.run for cell in cells if not cell.run.predictions(split).exists()]
    if lacking:
        way_out = f"`medvision evaluate run={shlex.quote(str(lacking[0].folder))} split={split}`"
        instead = ", or compare on split=val" if split == "test" else ""
        raise MedvisionError(
            f"{len(lacking)} of {len(cells)} runs have no {split} predictions, such as "
            f"{lacking[0].title}; make them with {way_out}{instead}"
        )
    if split == "val" and len({cell.fold for cell in cells}) > 1:
        raise MedvisionError(
            "split=val cannot be pooled over folds, where a patient is in val of several; "
            "take split=test, or the runs of one fold"
        )
    if len({side.evaluator.question for side in sides}) > 1:
        listed = [f"{side.word}: {side.evaluator.question}" for side in sides]
        what = f"the arms do not predict the same {sides[0].evaluator.predicted}"
        raise collect(what, listed, "Compare equal ones")


def compare_sides(sides: Sequence[Side], split: str, metric: str, resamples: int) -> dict[str, Any]:
    """Return the content of `comparison.json`."""
    evaluator = sides[0].evaluator
    repeats = [read_repeats(Arm("", {}, list(side.cells.values())), split) for side in sides]
    arms = [align(some, evaluator) for some in repeats]
    for side, arm in zip(sides[1:], arms[1:], strict=True):
        _check_rows(sides[0].word, arms[0], side.word, arm)
    cells = [score_runs(some, evaluator, metric) for some in repeats]
    folds = {place[2] for place in cells[0]} - {None}
    unit = next(iter(sides[0].cells.values())).unit
    ratio = _measure_ratio(sides, split) if len(folds) > 1 else 0.0  # asked for by folds alone
    scores, pairs = compare_arms(arms, cells, evaluator, metric, ratio, resamples)
    names = _choose_names(sides)
    for pair in pairs:
        pair |= {"first": names[pair["first"]], "second": names[pair["second"]]}
    chosen = evaluator.sentences().get("chosen_on_val", "epoch")
    every = [cell for side in sides for cell in side.cells.values()]
    optimistic = f"Compared on val, which chose {chosen}: read every score as optimistic."
    return {
        "part": split, "metric": metric, "resamples": resamples,
        "n": {unit: len(arms[0].keys), "patients": len(set(arms[0].patients))},
        "trainings": len(cells[0]), "folds": len(folds),
        "arms": [
            {"name": name, "runs": [cell.run.title for cell in side.cells.values()], "scores": held}
            for name, side, held in zip(names, sides, scores, strict=True)
        ],
        "pairs": pairs,
        "stamps": [*stamp_runs(every), *([optimistic] if split == "val" else []),
                   *_gather_stamps(names, sides)],
    }  # fmt: skip


def _gather_stamps(names: Sequence[str], sides: Sequence[Side]) -> list[str]:
    """Return what the tables of the runs are stamped with, each once an arm."""
    told = [f"{name}: {stamp}" for name, side in zip(names, sides, strict=True)
            for cell in side.cells.values()
            for stamp in cell.metrics.get("stamps", ())]  # fmt: skip
    return list(dict.fromkeys(told))


def _check_rows(first: str, a: Aligned, second: str, b: Aligned) -> None:
    """Refuse arms tested on other images, patients or labels, or in other folds."""
    if a.keys != b.keys:
        only = [sorted(set(x.keys) - set(y.keys)) for x, y in ((a, b), (b, a))]
        path = name_image((only[0] or only[1])[0])
        raise MedvisionError(
            f"{first} and {second} were not tested on the same images: {_count_rows(a)} and "
            f"{_count_rows(b)}, {len(only[0])} images only in the first and {len(only[1])} only in "
            f"the second, such as {path}; evaluate both on the same manifest and split"
        )
    for what, mine, theirs in (
        ("annotations", a.truth, b.truth),
        ("patients", a.patients, b.patients),
        ("folds", a.strata, b.strata),
    ):
        rows = [n for n, (x, y) in enumerate(zip(mine, theirs, strict=True)) if x != y]
        if rows:
            raise MedvisionError(
                f"{first} and {second} have other {what} for {len(rows)} of {len(a.keys)} images, "
                f"such as {name_image(a.keys[rows[0]])}; train both on the same manifest and folds"
            )


def name_image(key: tuple[str, str, int]) -> str:
    """Name an image by its path, and its frame if not the first."""
    return f"{key[1]} frame {key[2]}" if key[2] else key[1]


def _count_rows(arm: Aligned) -> str:
    """Write how much an arm was tested on."""
    return f"{len(arm.keys)} images of {len(set(arm.patients))} patients"


def _measure_ratio(sides: Sequence[Side], split: str) -> float:
    """Return patients tested over patients trained on, the mean of all trainings."""
    ratios = []
    for cell in (cell for side in sides for cell in side.cells.values()):
        counts = files.read_json(cell.run.folder / "audit.json")["counts"]
        ratios.append(counts[split]["patients"] / counts["train"]["patients"])
    return float(np.mean(ratios))


def _choose_names(sides: Sequence[Side]) -> list[str]:
    """Name the arms by what tells them apart, else as typed, else by letters if that is long."""
    cells = [cell for side in sides for cell in side.cells.values()]
    told = {cell.run.folder: arm.name for arm in gather_arms(cells) for cell in arm.cells}
    told_apart = [told.get(next(iter(side.cells.values())).run.folder, "") for side in sides]
    for names in (told_apart, [side.word for side in sides]):
        if len(set(names)) == len(names) and all(0 < len(name) <= LONGEST for name in names):
            return names
    return [string.ascii_uppercase[n % 26] * (n // 26 + 1) for n in range(len(sides))]


def _write_comparison(folder: Path, comparison: dict[str, Any], sides: Sequence[Side]) -> None:
    """Write the numbers, the figure, the page, and what they were made of."""
    used = [
        {"arm": arm["name"], "run": str(cell.run.folder), "model": _digest_model(cell)}
        for arm, side in zip(comparison["arms"], sides, strict=True) for cell in side.cells.values()
    ]  # fmt: skip
    evaluator = sides[0].evaluator
    files.write_json(folder / "comparison.json", comparison)
    if rows := list_differences(comparison, evaluator):
        save_figure(draw_differences(rows), folder / "differences.png")
    files.write_text(folder / "comparison.md", write_page(comparison, evaluator))
    record = {"command": command_line(), "finished": files.today(), "status": "done", "runs": used}
    files.write_json(folder / "record.json", record)


def _digest_model(cell: SweepRun) -> str:
    """Return the digest of the weights behind the predictions."""
    return str(cell.record.get("model") or files.digest_file(cell.run.model))
