"""`report.html`, `report.md` and `landscape.png` of a sweep."""

import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import medvision.files as files
from medvision.evaluation.comparison.settings import label_keys, show_setting
from medvision.evaluation.figures.style import save_figure
from medvision.evaluation.report.page import (
    embed_figure,
    escape,
    render_page,
    write_grid,
    write_list,
)
from medvision.evaluation.report.table import Grid
from medvision.evaluation.sweep.parallel_coordinates import draw_parallel_coordinates
from medvision.evaluation.sweep.ranking import Ranking
from medvision.evaluation.sweep.summary import Sweep

CAPTION = (
    "Each line is an arm, from its settings to its mean score; the thick one is the best.",
    "Each point is a run, each dash an arm's mean.",
)


def write_sweep_report(sweep: Sweep, folder: Path) -> Path:
    """Write the report into `folder` and return its page; the same content is the same bytes."""
    figures = [path for path in draw_figures(sweep, folder) if path]
    files.write_text(folder / "report.md", render_markdown(sweep, figures))
    return files.write_text(folder / "report.html", render_html(sweep, figures, folder))


def draw_figures(sweep: Sweep, folder: Path) -> Iterator[Path]:
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
            yield save_figure(draw_parallel_coordinates(settings, scores, ranking.monitor), path)
        else:
            path.unlink(missing_ok=True)  # of an earlier report


def _caption(ranking: Ranking) -> str:
    return CAPTION[len({key for s in ranking.standings for key in s.arm.settings}) == 1]


def list_lines(ranking: Ranking) -> Grid:
    """Put the runs of all arms into one table, the arm in front."""
    named = bool(ranking.standings[0].arm.name)
    head = ["arm"] * named + ranking.lines[0].head
    pairs = zip(ranking.standings, ranking.lines, strict=True)
    rows = [[s.arm.name] * named + row for s, lines in pairs for row in lines.rows]
    return Grid(head, rows)


def render_html(sweep: Sweep, figures: list[Path], folder: Path) -> str:
    """Return the page; runs are linked where they have one of their own."""
    links = {
        title: quote(os.path.relpath(run.folder, folder)) + "/report.html"
        for title, run in sweep.folders.items()
        if (run.folder / "report.html").exists()
    }
    drawn = [embed_figure(path) for path in figures]
    captions = [_caption(ranking) for ranking in sweep.rankings]
    return render_page(
        "sweep.html", sweep=sweep, links=links, figures=drawn, captions=captions,
        all_lines=[list_lines(ranking) for ranking in sweep.rankings],
    )  # fmt: skip


def render_markdown(sweep: Sweep, figures: list[Path]) -> str:
    """Return the same content as GitHub reads it."""
    return "\n".join(_write_sections(sweep, figures))


def _write_sections(sweep: Sweep, figures: list[Path]) -> Iterator[str]:
    yield f"# {escape(sweep.name)}\n\n{escape(sweep.verdict)}\n"
    yield from (f"> {escape(remark)}\n" for remark in sweep.remarks)
    for ranking in sweep.rankings:
        yield f"## Ranked by {escape(ranking.monitor)}\n\n{write_grid(ranking.table)}"
        yield f"{escape(ranking.table.note)}\n"
        lines = write_grid(list_lines(ranking))
        yield f"<details><summary>All runs</summary>\n\n{lines}\n</details>\n"
    yield from (f"![Settings and the monitored score]({path.name})\n" for path in figures)
    for name, grid, missing in sweep.pooled:
        of = f": {escape(name)}" if name else ""
        yield f"## Pooled out-of-fold predictions (test){of}\n\n{write_grid(grid)}"
        yield f"{escape(grid.note)}\n"
        yield from ([write_list(missing)] if missing else [])
    if sweep.unfinished:
        yield f"## Not done\n\n{write_grid(sweep.unfinished)}"
        yield f"{escape(sweep.unfinished.note)}\n"
    yield f"## Cost\n\n{write_list(sweep.cost or ['No run has finished.'])}"
    yield f"## Openings of the test part\n\n{write_list(sweep.openings)}"
    if sweep.commands:
        yield "## What to type\n"
        yield from (f"{escape(what)}:\n\n```sh\n{line}\n```\n" for what, line in sweep.commands)
    yield "Research software, not a medical device. Not for diagnosis or treatment.\n"
