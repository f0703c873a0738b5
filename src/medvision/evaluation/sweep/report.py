"""`report.html`, `report.md` and `landscape.png` of a sweep."""

import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import medvision.files as files
from medvision.evaluation.comparison.settings import label_keys, show_setting
from medvision.evaluation.figures.style import save_figure
from medvision.evaluation.report.page import embed_figure, render_page
from medvision.evaluation.report.table import Table
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


def list_lines(ranking: Ranking) -> Table:
    """Put the runs of all arms into one table, the arm in front."""
    named = bool(ranking.standings[0].arm.name)
    head = ["arm"] * named + [*ranking.lines[0].head]
    pairs = zip(ranking.standings, ranking.lines, strict=True)
    rows = [[s.arm.name] * named + [*row] for s, lines in pairs for row in lines.rows]
    return Table(head, rows)


def render_html(sweep: Sweep, figures: list[Path], folder: Path) -> str:
    """Return the page; runs are linked where they have one of their own."""
    links = {
        title: quote(os.path.relpath(run.folder, folder)) + "/report.html"
        for title, run in sweep.folders.items()
        if (run.folder / "report.html").exists()
    }
    drawn = [embed_figure(path) for path in figures]
    captions = [_caption(ranking) for ranking in sweep.rankings]
    lines = [list_lines(ranking) for ranking in sweep.rankings]
    return render_page(
        "sweep.html", sweep=sweep, links=links, figures=drawn, captions=captions, all_lines=lines
    )


def render_markdown(sweep: Sweep, figures: list[Path]) -> str:
    """Return the same content as GitHub reads it."""
    lines = [list_lines(ranking) for ranking in sweep.rankings]
    return render_page("sweep.md", sweep=sweep, figures=figures, all_lines=lines)
