"""`medvision predict`: probabilities and decisions of frozen models for new files."""

import errno
import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

from rich.console import Console

import medvision.files as files
from medvision.data.units.series_form import OnGap
from medvision.devices import limit_threads
from medvision.errors import MedvisionError
from medvision.evaluation.evaluator import Evaluator
from medvision.evaluation.predictions import write_predictions
from medvision.inference.answer import Answers, answer_files, is_read
from medvision.inference.checks import OnUnlike
from medvision.inference.ensemble import load_ensemble
from medvision.inference.trace import write_trace

_DISCLAIMER = "research software, not a medical device"
SHOWN = 5  # files left out that are named on the terminal; all are in the table


def run(
    input: Path,  # noqa: A002 -- the word users type
    output: Path,
    run: str | None = None,
    runs: list[str] | None = None,
    columns: Mapping[str, str | None] | None = None,
    on_unreadable: Literal["stop", "exclude"] = "stop",
    on_foreign: OnUnlike = "stop",
    on_gap: OnGap | None = None,
    threads: int | None = None,
) -> None:
    """Write probabilities and decisions for new files; labels and patients are not needed.

    run=RUN                a run folder, `last`, or a unique beginning of its name
    runs=[A,B]             an ensemble: the mean of the calibrated probabilities, cut at the mean
                           of the frozen thresholds; an item is a run, a sweep folder or a pattern
                           such as 'NAME/*seed=1*'; put "…" around one with a comma
    input=PATH             an image (DICOM and NIfTI too), a clip, a folder (searched with all
                           folders in it), or a CSV with a `path` column as seen from the CSV, and
                           perhaps `frame`; for a model of series a volume, a clip, a folder of
                           those or of DICOM, or a CSV with `path`, `series` and `position`
    columns.path=THEIRS    for a CSV with foreign column names
    output=FILE.csv        path (as seen from the input), frame, prob_<class>…, pred, status;
                           FILE.trace.json beside it says how they came about, row by row
    on_unreadable=exclude  keep broken files as rows whose status says why, without a prediction
    on_foreign=warn        predict also images that are unlike those the model was trained on
                           (modality, colour, size, spacing, values); their status says in what
    on_gap=exclude         series with missing slices: error, exclude, or keep what is there;
                           default: as the model was trained
    threads=1              of torch on a CPU; default: as the machine has them

    A model of series answers with a row a series, and in FILE_slices.csv with a row a slice.
    npz, npy, NIfTI, DICOM files and clips give a row an image unless the CSV says which frame.
    """
    limit_threads(threads)
    source = files.find_input(input)
    place = _check_output(Path(output), source)
    ensemble = load_ensemble("predict", run, runs)
    _refuse_covering(place, source, ensemble.evaluator.tables)
    answers = answer_files(
        ensemble.models, [source], columns, on_unreadable=on_unreadable, on_foreign=on_foreign,
        on_gap=on_gap, folder=place.with_name(f"{place.stem}_files"),
    )  # fmt: skip
    answers.notes[:0] = ensemble.stamps
    choices: dict[str, str] = {"on_unreadable": on_unreadable, "on_foreign": on_foreign}
    choices |= {} if answers.unit.alone else {"on_gap": answers.unit.form.on_gap}
    written = [_name_output(place, name) for name in answers.tables]
    for output, table in zip(written, answers.tables.values(), strict=True):
        write_predictions(output, table)
    written.append(write_trace(place, ensemble, answers, choices))
    _print_summary(answers, ensemble.evaluator)
    names = [path.name for path in written[1:]]
    names += [f"{folder.name}/" for folder in dict.fromkeys(p.parent for p in answers.files)]
    beside = " and ".join(names)
    print(f"written: {place}\n         {beside} beside it\n{_DISCLAIMER}")


def _name_output(output: Path, name: str) -> Path:
    """Name the table of samples, "", or that of their images beside it."""
    return output.with_name(f"{output.stem}_{name}.csv") if name else output


def _refuse_covering(output: Path, source: Path, tables: Iterable[str]) -> None:
    """Refuse to write one of these tables over the input."""
    if source.resolve() in [_name_output(output, name).resolve() for name in tables]:
        raise MedvisionError(f"output={output} would cover the input itself; choose another name")


def _check_output(output: Path, source: Path) -> Path:
    """Refuse, before any work, an output that cannot be or would cover the input."""
    place = output.expanduser().absolute()
    if place.suffix.lower() != ".csv" or place.is_dir():
        raise MedvisionError(f"output={output} is no CSV file; give output=FILE.csv")
    _refuse_covering(place, source, [""])
    there = next(folder for folder in place.parents if folder.exists())
    if not os.access(there, os.W_OK):
        raise files.explain_refusal(PermissionError(errno.EACCES, ""), place)
    return place


def _print_summary(answers: Answers, evaluator: Evaluator) -> None:
    """Print what was predicted, what was left out and what is odd."""
    table, there = answers.table, is_read(answers.table)
    read = table[there]
    unit = answers.unit.counted
    summary = evaluator.sum_up_predictions(read, unit)
    replace(summary, title=f"predictions: {len(read)} {unit}").print(Console())
    for note in answers.notes:
        print(f"note       {note}")
    if answers.others:
        print(f"left out   {answers.others} files that are no images by their endings")
    reasons = table.loc[~there, "status"]
    if len(reasons):
        print(f"left out   {len(reasons)} of {len(table)} {unit} that cannot be read:")
    for reason in reasons.head(SHOWN):
        print(f"           {reason}")
    if len(reasons) > SHOWN:
        print(f"           and {len(reasons) - SHOWN} more, all in the column status")
