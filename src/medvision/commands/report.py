"""`medvision report`: one self-contained page of a run, or of all runs of a sweep."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

import medvision.files as files
from medvision.evaluation.covariates import read_rows
from medvision.evaluation.report.run_report import write_report
from medvision.evaluation.report.scores import print_scores
from medvision.evaluation.report.table import Row, Table
from medvision.evaluation.sweep.ranking import Ranking
from medvision.evaluation.sweep.report import write_sweep_report
from medvision.evaluation.sweep.summary import Sweep, describe_sweep
from medvision.runs import Run, find_runs, joint_folder
from medvision.tasks.generation.tables import print_fidelity

FEW_CELLS = 12  # runs of a sweep that are printed one by one
FEW_ARMS = 20
WIDTH = 160  # of what nobody watches


def run(run: str) -> None:
    """Write the report of a run, its scores computed once more, or of a sweep, its arms ranked.

    run=RUN      a run folder, `last`, or a unique beginning of its name
    run=SWEEP    the folder or name of a sweep, or a pattern such as 'lr_sweep/*seed=1*'
    """
    found = find_runs(run)
    if len(found) == 1:
        report_run(found[0])
    else:
        report_sweep(found)


def report_run(run: Run) -> None:
    """Recompute the scores from the stored predictions, say if they differ, write report.html."""
    from medvision.commands.evaluate import compute_metrics, read_stored
    from medvision.model import load_model

    remarks: list[str] = []
    if run.metrics.exists() and "gate" in (recorded := files.read_json(run.metrics)):
        print_fidelity(recorded)
    elif run.metrics.exists():
        rows = read_rows(run.manifest)
        fresh = compute_metrics(read_stored(run.folder), load_model(run.model), rows)
        if "subgroups" not in recorded:  # of a run from before they were scored
            fresh.pop("subgroups", None)
        differing = list(find_differences(recorded, fresh))
        if differing:
            remarks.append(
                f"metrics.json does not follow from the stored predictions "
                f"({len(differing)} values differ, such as {differing[0]})"
            )
        print_scores(recorded)
    for remark in remarks:
        print(f"warning: {remark}")
    print(f"report: {write_report(run.folder, remarks)}")


def find_differences(recorded: Any, fresh: Any, place: str = "") -> Iterator[str]:
    """Yield the dotted places where two results differ beyond rounding."""
    if isinstance(recorded, Mapping) and isinstance(fresh, Mapping):
        for key in recorded.keys() | fresh.keys():
            yield from find_differences(
                recorded.get(key), fresh.get(key), f"{place}.{key}".strip(".")
            )
    elif isinstance(recorded, float) and isinstance(fresh, float):
        if abs(recorded - fresh) > 1e-9:
            yield place
    elif recorded != fresh:
        yield place


def report_sweep(runs: Sequence[Run]) -> Path:
    """Print the ranked table of a sweep and write its report; return the page."""
    folder, name = place_report(runs)
    sweep = describe_sweep(runs, name)
    page = write_sweep_report(sweep, folder)
    print_sweep(sweep)
    print(f"report: {page}")
    return page


def place_report(runs: Sequence[Run]) -> tuple[Path, str]:
    """Return where the report goes and its title: the sweep's own folder if these are all of it."""
    parents = list(dict.fromkeys(run.folder.parent for run in runs))
    names = " + ".join(parent.name for parent in parents)
    if len(parents) == 1:
        whole = {run.folder for run in find_runs(parents[0])}
        if whole == {run.folder for run in runs}:
            return parents[0], names
        names = f"{names} ({len(runs)} of {len(whole)} runs)"
    return joint_folder("report", *(str(run.folder) for run in runs)), names


def print_sweep(sweep: Sweep, console: Console | None = None) -> None:
    """Print verdict, ranked table, pooled folds, failures and what to type."""
    console = console or Console()
    if not console.is_terminal:
        console = Console(file=console.file, width=max(console.width, WIDTH))
    _say(console, sweep.verdict, "bold")
    for remark in sweep.remarks:
        _say(console, f"warning: {remark}", "yellow")
    few = len(sweep.folders) <= FEW_CELLS
    for ranking in sweep.rankings:
        _shorten(ranking, few).print(console)
        for note in ranking.table.notes:
            _say(console, note, "dim")
    for name, table, missing in sweep.pooled:
        _say(console, f"\nPooled out-of-fold predictions (test){f': {name}' if name else ''}")
        table.print(console)
        for sentence in [*table.notes, *missing]:
            _say(console, sentence, "dim")
    if sweep.unfinished:
        for words, status, reason, _ in sweep.unfinished.rows[:FEW_CELLS]:
            _say(console, f"{status}: {words}: {reason}")
        if (left := len(sweep.unfinished.rows) - FEW_CELLS) > 0:
            _say(console, f"{left} more are not done; the report names them")
        for note in sweep.unfinished.notes:
            _say(console, note, "dim")
    for sentence in sweep.cost:
        _say(console, sentence, "dim")
    for what, line in sweep.commands:
        _say(console, f"{what}:\n  {line}")


def _shorten(ranking: Ranking, few: bool) -> Table:
    """Take the first arms, and below each its runs where they are few."""
    head, rows = ranking.table.head, list[Row]()
    tested = head[-1].startswith("test ")
    for row, lines in list(zip(ranking.table.rows, ranking.lines, strict=True))[:FEW_ARMS]:
        rows.append(row)
        for place, status, *scores in lines.rows if few and len(lines.rows) > 1 else ():
            blank = [""] * (len(head) - 3 - tested)
            said = "" if status == "done" else status
            cells = ["", *blank[1:], place] if blank else [""]
            rows.append([*cells, said or ("" if blank else place), *scores[: 1 + tested]])
    left = len(ranking.table.rows) - FEW_ARMS
    if left > 0:
        rows.append(["…", f"{left} more in the report", *[""] * (len(head) - 2)])
    return Table(head, rows)


def _say(console: Console, sentence: str, style: str = "") -> None:
    """Print a user's words as they are, without rich's own markup or line breaks."""
    console.print(Text(sentence, style), soft_wrap=True)
