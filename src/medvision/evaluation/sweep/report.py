"""`report.html`, `report.md` and `landscape.png` of a sweep, and what the terminal shows of it."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import quote

from rich.console import Console
from rich.text import Text

import medvision.files as files
from medvision.evaluation.comparison.settings import label_keys, show_setting
from medvision.evaluation.figures.style import save_figure
from medvision.evaluation.report.page import embed_figure, render_page
from medvision.evaluation.report.table import Row, Table
from medvision.evaluation.sweep.parallel_coordinates import draw_parallel_coordinates
from medvision.evaluation.sweep.ranking import Ranking
from medvision.evaluation.sweep.summary import Sweep, describe_sweep
from medvision.runs import Run, find_runs, joint_folder

_FEW_CELLS = 12  # runs of a sweep that are printed one by one
_FEW_ARMS = 20
_CAPTION = (
    "Each line is an arm, from its settings to its mean score; the thick one is the best.",
    "Each point is a run, each dash an arm's mean.",
)


def write_sweep_report(sweep: Sweep, folder: Path) -> Path:
    """Write the report into `folder` and return its page; the same content is the same bytes."""
    figures = [path for path in _draw_figures(sweep, folder) if path]
    files.write_text(folder / "report.md", _render_markdown(sweep, figures))
    return files.write_text(folder / "report.html", _render_html(sweep, figures, folder))


def _draw_figures(sweep: Sweep, folder: Path) -> Iterator[Path]:
    """Draw the landscape of each ranking of at least two arms with a score."""
    for n, ranking in enumerate(sweep.rankings):
        path = folder / ("landscape.png" if n == 0 else f"landscape_{n + 1}.png")
        arms = [standing.arm for standing in ranking.standings if standing.values]
        labels = label_keys([standing.arm.settings for standing in ranking.standings])
        if len(arms) > 1 and labels:
            settings = [
                {labels[k]: show_setting(v, k) if k.endswith("_target_") else v
                 for k, v in arm.settings.items()} for arm in arms
            ]  # fmt: skip
            scores = [standing.values for standing in ranking.standings if standing.values]
            evaluator = ranking.standings[0].arm.evaluator
            figure = draw_parallel_coordinates(settings, scores, ranking.monitor, evaluator)
            yield save_figure(figure, path)
        else:
            path.unlink(missing_ok=True)  # of an earlier report


def _caption(ranking: Ranking) -> str:
    return _CAPTION[len({key for s in ranking.standings for key in s.arm.settings}) == 1]


def _list_lines(ranking: Ranking) -> Table:
    """Put the runs of all arms into one table, the arm in front."""
    named = bool(ranking.standings[0].arm.name)
    head = ["arm"] * named + [*ranking.lines[0].head]
    pairs = zip(ranking.standings, ranking.lines, strict=True)
    rows = [[s.arm.name] * named + [*row] for s, lines in pairs for row in lines.rows]
    return Table(head, rows)


def _render_html(sweep: Sweep, figures: list[Path], folder: Path) -> str:
    """Return the page; runs are linked where they have one of their own."""
    links = {
        title: quote(os.path.relpath(run.folder, folder)) + "/report.html"
        for title, run in sweep.folders.items()
        if (run.folder / "report.html").exists()
    }
    drawn = [embed_figure(path) for path in figures]
    captions = [_caption(ranking) for ranking in sweep.rankings]
    lines = [_list_lines(ranking) for ranking in sweep.rankings]
    return render_page(
        "sweep.html", sweep=sweep, links=links, figures=drawn, captions=captions, all_lines=lines
    )


def _render_markdown(sweep: Sweep, figures: list[Path]) -> str:
    """Return the same content as GitHub reads it."""
    lines = [_list_lines(ranking) for ranking in sweep.rankings]
    return render_page("sweep.md", sweep=sweep, figures=figures, all_lines=lines)


def report_sweep(runs: Sequence[Run]) -> Path:
    """Print the ranked table of a sweep and write its report; return the page."""
    folder, name = place_report(runs)
    sweep = describe_sweep(runs, name)
    page = write_sweep_report(sweep, folder)
    _print_sweep(sweep)
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


def _print_sweep(sweep: Sweep, console: Console | None = None) -> None:
    """Print verdict, ranked table, pooled folds, failures and what to type."""
    console = console or Console()
    _say(console, sweep.verdict, "bold")
    for remark in sweep.remarks:
        _say(console, f"warning: {remark}", "yellow")
    few = len(sweep.folders) <= _FEW_CELLS
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
        for words, status, reason, _ in sweep.unfinished.rows[:_FEW_CELLS]:
            _say(console, f"{status}: {words}: {reason}")
        if (left := len(sweep.unfinished.rows) - _FEW_CELLS) > 0:
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
    for row, lines in list(zip(ranking.table.rows, ranking.lines, strict=True))[:_FEW_ARMS]:
        rows.append(row)
        for place, status, *scores in lines.rows if few and len(lines.rows) > 1 else ():
            blank = [""] * (len(head) - 3 - tested)
            said = "" if status == "done" else status
            cells = ["", *blank[1:], place] if blank else [""]
            rows.append([*cells, said or ("" if blank else place), *scores[: 1 + tested]])
    left = len(ranking.table.rows) - _FEW_ARMS
    if left > 0:
        rows.append(["…", f"{left} more in the report", *[""] * (len(head) - 2)])
    return Table(head, rows)


def _say(console: Console, sentence: str, style: str = "") -> None:
    """Print a user's words as they are, without rich's own markup or line breaks."""
    console.print(Text(sentence, style), soft_wrap=True)
