"""`medvision predict`: probabilities and decisions of frozen models for new files."""

import errno
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from rich.console import Console

import medvision.files as files
from medvision.data.inputs.files import NewImages, find_images
from medvision.data.inputs.profile import join_mismatches
from medvision.data.inputs.series import find_series
from medvision.data.inputs.stream import read_batches, refuse_unreadable
from medvision.data.manifest.path_map import reveal_paths
from medvision.data.store.reader import Reader
from medvision.data.units.series_form import OnGap
from medvision.errors import MedvisionError
from medvision.evaluation.evaluator import Evaluator
from medvision.evaluation.predictions import write_predictions
from medvision.inference.answer import (
    Answers,
    is_read,
    lay_out,
    note_unchecked,
    predict_series,
    unit_of,
    watch_inputs,
)
from medvision.inference.checks import OnUnlike, stamp_unlike_training
from medvision.inference.ensemble import load_ensemble
from medvision.inference.predictor import BATCH, run_net
from medvision.inference.rows import read_form
from medvision.inference.trace import write_trace
from medvision.model import Model

DISCLAIMER = "research software, not a medical device"
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

    A model of series answers with a row a series, and in FILE_slices.csv with a row a slice.
    npz, npy, NIfTI, DICOM files and clips give a row an image unless the CSV says which frame.
    """
    source = files.find_input(input)
    place = check_output(Path(output), source)
    ensemble = load_ensemble("predict", run, runs)
    modes = {"stop": on_unreadable == "stop", "refuse": on_foreign == "stop"}
    choices: dict[str, str] = {"on_unreadable": on_unreadable, "on_foreign": on_foreign}
    written, others = [place], 0
    forms = [form for model in ensemble.models if (form := read_form(model, on_gap))]
    if not forms:
        images = find_images(source, columns or {})
        answers, others = predict(ensemble.models, images, **modes), images.others
    else:
        exclude = on_unreadable == "exclude"
        found = [find_series(source, columns or {}, form, exclude) for form in forms]
        answers, slices = predict_series(ensemble.models, found, **modes)
        choices["on_gap"], others = forms[0].on_gap, found[0].others
        written.append(slices_beside(place))
        write_predictions(written[-1], slices)
    write_predictions(place, answers.table)
    written.append(write_trace(place, ensemble, answers, choices))
    print_summary(answers, ensemble.evaluator, others)
    beside = " and ".join(path.name for path in written[1:])
    print(f"written: {place}\n         {beside} beside it\n{DISCLAIMER}")


def slices_beside(output: Path) -> Path:
    """Name the table of slices beside that of their series."""
    return output.with_name(f"{output.stem}_slices.csv")


def check_output(output: Path, source: Path) -> Path:
    """Refuse, before any work, an output that cannot be or would cover the input."""
    place = output.expanduser().absolute()
    if place.suffix.lower() != ".csv" or place.is_dir():
        raise MedvisionError(f"output={output} is no CSV file; give output=FILE.csv")
    if source.resolve() in (place.resolve(), slices_beside(place).resolve()):
        raise MedvisionError(f"output={output} would cover the input itself; choose another name")
    there = next(folder for folder in place.parents if folder.exists())
    if not os.access(there, os.W_OK):
        raise files.explain_refusal(PermissionError(errno.EACCES, ""), place)
    return place


def predict(members: Sequence[Model], images: NewImages, *, stop: bool, refuse: bool) -> Answers:
    """Return the output table; an ensemble is the mean of its members' probabilities.

    Args:
        members: of the ensemble, or one model.
        images: to predict.
        stop: on unreadable files.
        refuse: images that are foreign to any of the members.

    Raises:
        MedvisionError: unreadable or foreign files where that is asked for, or nothing but
            unreadable files.
    """
    table = images.table
    # A file of many frames is read once, from front to back, however the table is ordered.
    order = table.assign(file=pd.factorize(table["path"])[0]).sort_values(["file", "frame"]).index
    rows = order.to_numpy()
    paths = [images.folder / path for path in reveal_paths(table["path"][rows].tolist())]
    frames = table["frame"][rows].tolist()
    reasons: dict[int, str] = {}
    several, watches = [], []
    for number, model in enumerate(members, start=1):
        task = "predicting" if len(members) == 1 else f"predicting {number} of {len(members)}"
        reader = Reader.from_contract(model.contract)
        watch = watch_inputs(model, refuse, table["path"][rows].tolist())
        read = read_batches(paths, frames, reader, BATCH, reasons, stop, watch)
        arrays = run_net(model, ({"image": image} for image in read), rows, task).arrays
        several.append({name: values[np.argsort(rows)] for name, values in arrays.items()})
        watches.append(watch)
    if len(reasons) == len(table):
        raise refuse_unreadable(reasons, len(table), "Give files that can be read")
    foreign = {row: found for watch in watches[::-1] for row, found in watch.foreign.items()}
    statuses = {k: f"ok, but {join_mismatches(found)}" for k, found in foreign.items()} | reasons
    told = {int(rows[k]): text for k, text in statuses.items()}
    return Answers(
        lay_out(members, several, {"": table}, told)[""],
        [{int(rows[k]): taken for k, taken in watch.taken.items()} for watch in watches],
        [*stamp_unlike_training(foreign, len(table)), *note_unchecked(members, watches)],
    )


def print_summary(answers: Answers, evaluator: Evaluator, others: int) -> None:
    """Print what was predicted, what was left out and what is odd."""
    table, there = answers.table, is_read(answers.table)
    read = table[there]
    unit = unit_of(answers)
    summary = evaluator.sum_up_predictions(read, unit)
    replace(summary, title=f"predictions: {len(read)} {unit}").print(Console())
    for note in answers.notes:
        print(f"note       {note}")
    if others:
        print(f"left out   {others} files that are no images by their endings")
    reasons = table.loc[~there, "status"]
    if len(reasons):
        print(f"left out   {len(reasons)} of {len(table)} {unit} that cannot be read:")
    for reason in reasons.head(SHOWN):
        print(f"           {reason}")
    if len(reasons) > SHOWN:
        print(f"           and {len(reasons) - SHOWN} more, all in the column status")
