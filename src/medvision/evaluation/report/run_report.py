"""`report.html`: one page made from the files of a run folder alone, whatever of them there is."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import medvision.files as files
from medvision.evaluation.figures.gallery import (
    GALLERY,
    STRIP,
    caption_figures,
    embed_figures,
    read_gallery,
)
from medvision.evaluation.report.checklist import fill_checklists, write_card
from medvision.evaluation.report.page import render_page
from medvision.evaluation.report.run_files import RunFiles, read_run_files
from medvision.evaluation.report.scores import count_table, score_table
from medvision.evaluation.report.summary import Sentences, as_text, describe_facts
from medvision.evaluation.report.table import Table
from medvision.evaluation.report.table_one import describe_cohort
from medvision.evaluation.subgroups import subgroup_table

_FIGURES = {"figures": "Figures", "gallery": "Failures"}
_REST = {
    "subgroups": "Subgroups", "flow": "Flow", "cohort": "Table 1", "data": "Data",
    "choices": "Choices", "card": "Model card", "checklists": "Checklists",
    "repeat": "To repeat it",
}  # fmt: skip


_HEAD = {"Date": "dated", "Data": "of_data", "Model": "of_model"}
"""What stands in the head of the page, and the sentence that says it."""


def write_report(run: Path, remarks: Sequence[str] = (), prevalence: float | None = None) -> Path:
    """Write `report.html` beside the files it is made from.

    Args:
        run: the run folder; finished, running or failed.
        remarks: sentences stamped at the top, such as scores that differ when recomputed.
        prevalence: as in `read_run_files`.
    """
    page = _render_report(read_run_files(run, prevalence), remarks)
    return files.write_text(run / "report.html", page)


def _render_report(run: RunFiles, remarks: Sequence[str] = ()) -> str:
    """Return the page; every text of the user is escaped by the template."""
    sentences = Sentences(run)
    content = compose(sentences)
    return render_page(
        "report.html",
        name=f"{run.folder.parent.name} / {run.folder.name}",
        status=run.record.get("status", ""),
        facts=[(title, text) for title, name in _HEAD.items() if (text := sentences.text(name))],
        verdict=sentences.text("verdict"),
        remarks=remarks,
        part=run.part,
        task=run.evaluator.template,
        figures_first=run.evaluator.figures_first,
        contents=list(_list_contents(run, content)),
        **content,
    )


def compose(sentences: Sentences) -> dict[str, Any]:
    """Return what the sections of the page show, each empty where the run has nothing of it."""
    run = sentences.run
    scores, cohort = score_table(run.metrics), describe_cohort(run)
    counts = count_table(run.audit.get("counts") or run.metrics.get("n") or {})
    openings = [
        [opening.get(key, "") for key in ("date", "model", "command")]
        for opening in run.record.get("test_openings") or []
    ]
    opening_table = Table(["date", "model", "command"], openings)
    figures = list(embed_figures(run.folder / "figures", run.evaluator))
    title, note = caption_figures(run.evaluator)["gallery"]
    return {section.id: section.show(run) for section in run.evaluator.sections()} | {
        "flow": sentences.flow,
        "cohort": cohort,
        "scores": scores if scores.rows else None,
        "figures": [figure for figure in figures if figure["kind"] != STRIP],
        "gallery": {
            "groups": list(read_gallery(run.folder / "figures" / GALLERY, run.evaluator)),
            "strips": [figure for figure in figures if figure["kind"] == STRIP],
        },
        "gallery_words": {"title": title, "note": note},
        "subgroups": subgroup_table(run.metrics, run.evaluator),
        "data": {"counts": None if cohort else counts, "leaks": sentences.lines("data")},
        "choices": {
            "sentences": sentences.lines("choices"),
            "openings": opening_table if openings else None,
        },
        "card": write_card(sentences),
        "checklists": fill_checklists(sentences),
        "repeat": {
            "command": as_text(run.record.get("command", "")),
            "facts": list(describe_facts(run.record)),
            "config": run.config,
        },
    }


def _list_contents(run: RunFiles, content: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield id and title of the sections that are there."""
    own = {section.id: section.title for section in run.evaluator.sections()}
    first = _FIGURES if run.evaluator.figures_first else {}
    for name, title in ({**first, "scores": "Scores"} | own | _FIGURES | _REST).items():
        held = content[name]
        if any(held.values()) if isinstance(held, dict) else held:
            yield name, title
