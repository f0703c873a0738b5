"""`medvision predict`: probabilities and decisions of frozen models for new files."""

import errno
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

import medvision.files as files
from medvision.commands.ensemble import join, load_ensemble
from medvision.commands.infer import BATCH, run_net
from medvision.data.newfiles import NewImages, find_images
from medvision.data.readers import Reader
from medvision.data.streaming import read_batches, refuse_unreadable
from medvision.errors import MedvisionError
from medvision.evaluation.calibration import apply_temperature
from medvision.evaluation.evidence import decide_labels, write_predictions
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
) -> None:
    """Write probabilities and decisions for new files; labels and patients are not needed.

    run=RUN                a run folder, `last`, or a unique beginning of its name
    runs=[A,B]             an ensemble: the mean of the calibrated probabilities, cut at the mean
                           of the frozen thresholds; an item is a run, a sweep folder or a pattern
                           such as 'NAME/*seed=1*'; put "…" around one with a comma
    input=PATH             an image, a folder (searched with all folders in it), or a CSV
                           with a `path` column as seen from the CSV, and perhaps `frame`
    columns.path=THEIRS    for a CSV with foreign column names
    output=FILE.csv        path (as seen from the input), frame, prob_<class>…, pred, status
    on_unreadable=exclude  keep broken files as rows whose status says why, without a prediction

    npz, npy and DICOM files of several images give a row each unless the CSV says which frame.
    """
    source = files.find_input(input)
    place = check_output(Path(output), source)
    members = load_ensemble("predict", run, runs).models
    images = find_images(source, columns or {})
    table = predict(members, images, stop=on_unreadable == "stop")
    write_predictions(place, table)
    print_summary(table, members[0].classes, images.others)
    print(f"written: {place}\n{DISCLAIMER}")


def check_output(output: Path, source: Path) -> Path:
    """Refuse, before any work, an output that cannot be or would cover the input."""
    place = output.expanduser().absolute()
    if place.suffix.lower() != ".csv" or place.is_dir():
        raise MedvisionError(f"output={output} is no CSV file; give output=FILE.csv")
    if place.resolve() == source.resolve():
        raise MedvisionError(f"output={output} is the input itself; choose another name")
    there = next(folder for folder in place.parents if folder.exists())
    if not os.access(there, os.W_OK):
        raise files.explain_refusal(PermissionError(errno.EACCES, ""), place)
    return place


def predict(members: Sequence[Model], images: NewImages, *, stop: bool) -> pd.DataFrame:
    """Return the output table; an ensemble is the mean of its members' probabilities.

    Raises:
        MedvisionError: unreadable files where `stop`, or nothing but unreadable files.
    """
    table = images.table
    # A file of many frames is read once, from front to back, however the table is ordered.
    order = table.assign(file=pd.factorize(table["path"])[0]).sort_values(["file", "frame"]).index
    rows = order.to_numpy()
    paths = [images.folder / path for path in table["path"][rows]]
    frames = table["frame"][rows].tolist()
    reasons: dict[int, str] = {}
    parts = []
    for number, model in enumerate(members, start=1):
        task = "predicting" if len(members) == 1 else f"predicting {number} of {len(members)}"
        reader = Reader.from_contract(model.contract)
        batches = read_batches(paths, frames, reader, BATCH, reasons, stop)
        logits = run_net(model, batches, rows, task).numpy()
        parts.append(apply_temperature(logits, model.temperature, model.kind))
    if len(reasons) == len(table):
        raise refuse_unreadable(reasons, len(table), "Give files that can be read")
    probs = np.mean(parts, axis=0)[np.argsort(rows)]
    return lay_out(join(members), table, probs, {int(rows[k]): v for k, v in reasons.items()})


def lay_out(
    model: Model, images: pd.DataFrame, probs: np.ndarray, reasons: Mapping[int, str]
) -> pd.DataFrame:
    """Put probabilities `[N,K]`, decisions and status beside the images; unreadable ones get none.

    Args:
        model: decides.
        images: `path` and `frame`.
        probs: a row an image.
        reasons: why a row could not be read.
    """
    table = images.copy()
    for k, name in enumerate(model.classes):
        table[f"prob_{name}"] = probs[:, k]
    table["pred"] = decide_labels(probs, model.classes, model.kind, model.threshold)
    table["status"] = [reasons.get(row, "ok") for row in range(len(table))]
    unread = table["status"] != "ok"
    table.loc[unread, [f"prob_{name}" for name in model.classes]] = np.nan
    table.loc[unread, "pred"] = ""
    return table


def print_summary(table: pd.DataFrame, classes: Sequence[str], others: int) -> None:
    """Print the number of images decided for each class, and what was left out."""
    read = table[table["status"] == "ok"]
    decided = read["pred"].str.split("|").explode().value_counts()
    grid = Table(title=f"predictions: {len(read)} images", title_justify="left")
    grid.add_column("class")
    for column in ("images", "share", "mean probability"):
        grid.add_column(column, justify="right")
    for name in classes:
        count, mean = int(decided.get(name, 0)), read[f"prob_{name}"].mean()
        grid.add_row(name, str(count), f"{count / len(read):.1%}", f"{mean:.3f}")
    if "" in decided:  # of a multi-label model
        grid.add_row("none of them", str(decided[""]), f"{decided[''] / len(read):.1%}", "")
    Console(markup=False).print(grid)
    if others:
        print(f"left out   {others} files that are no images by their endings")
    reasons = table.loc[table["status"] != "ok", "status"]
    if len(reasons):
        print(f"left out   {len(reasons)} of {len(table)} images that cannot be read:")
    for reason in reasons.head(SHOWN):
        print(f"           {reason}")
    if len(reasons) > SHOWN:
        print(f"           and {len(reasons) - SHOWN} more, all in the column status")
