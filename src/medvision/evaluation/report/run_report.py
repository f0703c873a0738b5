"""`report.html`: one page made from the files of a run folder alone, whatever of them there is."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import medvision.files as files
from medvision.evaluation.checklist import fill_checklists
from medvision.evaluation.figures.gallery import GALLERY, STRIP, embed_figures, read_gallery
from medvision.evaluation.model_card import write_card
from medvision.evaluation.report.page import render_page
from medvision.evaluation.report.participants import describe_participants
from medvision.evaluation.report.run_files import RunFiles, read_run_files
from medvision.evaluation.report.summary import (
    as_text,
    describe_choices,
    describe_data,
    describe_facts,
    describe_verdict,
)
from medvision.evaluation.report.table import count_table, score_table
from medvision.evaluation.report.table_one import describe_cohort
from medvision.evaluation.subgroups import subgroup_table

BEFORE = {"flow": "Flow", "cohort": "Table 1", "scores": "Scores"}
AFTER = {
    "figures": "Figures", "gallery": "Failures", "subgroups": "Subgroups", "data": "Data",
    "choices": "Choices", "card": "Model card", "checklists": "Checklists",
    "repeat": "To repeat it",
}  # fmt: skip
"""The sections before and after those that only the run's task has."""


def write_report(run: Path, remarks: Sequence[str] = ()) -> Path:
    """Write `report.html` beside the files it is made from.

    Args:
        run: the run folder; finished, running or failed.
        remarks: sentences stamped at the top, such as scores that differ when recomputed.
    """
    return files.write_text(run / "report.html", render_report(read_run_files(run), remarks))


def render_report(found: RunFiles, remarks: Sequence[str] = ()) -> str:
    """Return the page; every text of the user is escaped by the template."""
    content = compose(found)
    return render_page(
        "report.html",
        name=f"{found.folder.parent.name} / {found.folder.name}",
        status=found.record.get("status", ""),
        verdict=describe_verdict(found),
        remarks=remarks,
        part=found.part,
        task=found.evaluator.template,
        contents=list(list_sections(found, content)),
        **content,
    )


def compose(found: RunFiles) -> dict[str, Any]:
    """Return what the sections of the page show, each empty where the run has nothing of it."""
    scores = score_table(found.metrics)
    command, facts = as_text(found.record.get("command", "")), list(describe_facts(found.record))
    openings = [
        [str(o.get(key, "")) for key in ("date", "model", "command")]
        for o in found.record.get("test_openings") or []
    ]
    cohort = describe_cohort(found)
    counts = count_table(found.audit.get("counts") or found.metrics.get("n") or {})
    figures = list(embed_figures(found.folder / "figures", found.evaluator))
    return {section.id: section.show(found) for section in found.evaluator.sections()} | {
        "flow": describe_participants(found),
        "cohort": cohort,
        "scores": scores if scores.rows else None,
        "figures": [figure for figure in figures if figure["kind"] != STRIP],
        "gallery": {
            "groups": list(read_gallery(found.folder / "figures" / GALLERY, found.evaluator)),
            "strips": [figure for figure in figures if figure["kind"] == STRIP],
        },
        "subgroups": subgroup_table(found.metrics, found.evaluator),
        "data": {"counts": None if cohort else counts, "leaks": list(describe_data(found))},
        "choices": {"sentences": list(describe_choices(found)), "openings": openings},
        "card": write_card(found),
        "checklists": fill_checklists(found),
        "repeat": {"command": command, "facts": facts, "config": found.config},
    }


def list_sections(found: RunFiles, content: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield id and title of the sections that are there."""
    own = {section.id: section.title for section in found.evaluator.sections()}
    for name, title in (BEFORE | own | AFTER).items():
        held = content[name]
        if any(held.values()) if isinstance(held, dict) else held:
            yield name, title
