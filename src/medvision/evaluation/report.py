"""`report.html`: one page made from the files of a run folder alone, whatever of them there is."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import medvision.files as files
from medvision.evaluation.account import (
    as_text,
    describe_choices,
    describe_data,
    describe_facts,
    describe_verdict,
)
from medvision.evaluation.album import GALLERY, STRIP, embed_figures
from medvision.evaluation.checklist import fill_checklists
from medvision.evaluation.cohort import describe_cohort
from medvision.evaluation.flow import describe_flow
from medvision.evaluation.gallery import read_gallery
from medvision.evaluation.gate_tables import fidelity_grids
from medvision.evaluation.model_card import write_card
from medvision.evaluation.pages import render_page
from medvision.evaluation.run_folder import Evidence, read_evidence
from medvision.evaluation.subgroups import subgroup_table
from medvision.evaluation.tables import class_table, confusion_table, count_table, score_table

SECTIONS = {
    "flow": "Flow", "cohort": "Table 1", "scores": "Scores", "fidelity": "Fidelity",
    "classes": "Classes", "confusion": "Decisions", "figures": "Figures", "gallery": "Failures",
    "subgroups": "Subgroups", "data": "Data", "choices": "Choices", "card": "Model card",
    "checklists": "Checklists", "repeat": "To repeat it",
}  # fmt: skip


def write_report(run: Path, remarks: Sequence[str] = ()) -> Path:
    """Write `report.html` beside the files it is made from.

    Args:
        run: the run folder; finished, running or failed.
        remarks: sentences stamped at the top, such as scores that differ when recomputed.
    """
    return files.write_text(run / "report.html", render_report(read_evidence(run), remarks))


def render_report(found: Evidence, remarks: Sequence[str] = ()) -> str:
    """Return the page; every text of the user is escaped by the template."""
    content = compose(found)
    return render_page(
        "report.html",
        name=f"{found.folder.parent.name} / {found.folder.name}",
        status=found.record.get("status", ""),
        verdict=describe_verdict(found),
        remarks=remarks,
        part=found.part,
        contents=list(list_sections(content)),
        **content,
    )


def compose(found: Evidence) -> dict[str, Any]:
    """Return what the sections of the page show, each empty where the run has nothing of it."""
    scores = score_table(found.metrics)
    command, facts = as_text(found.record.get("command", "")), list(describe_facts(found.record))
    openings = [
        [str(o.get(key, "")) for key in ("date", "model", "command")]
        for o in found.record.get("test_openings") or []
    ]
    cohort = describe_cohort(found)
    counts = count_table(found.audit.get("counts") or found.metrics.get("n") or {})
    figures = list(embed_figures(found.folder / "figures"))
    return {
        "flow": describe_flow(found),
        "cohort": cohort,
        "scores": scores if scores.rows else None,
        "fidelity": list(fidelity_grids(found.metrics)),
        "classes": class_table(found.metrics, found.part),
        "confusion": confusion_table(found.metrics, found.part, found.classes),
        "figures": [figure for figure in figures if figure["kind"] != STRIP],
        "gallery": {
            "groups": list(read_gallery(found.folder / "figures" / GALLERY)),
            "strips": [figure for figure in figures if figure["kind"] == STRIP],
        },
        "subgroups": subgroup_table(found.metrics, found.classes),
        "data": {"counts": None if cohort else counts, "leaks": list(describe_data(found))},
        "choices": {"sentences": list(describe_choices(found)), "openings": openings},
        "card": write_card(found),
        "checklists": fill_checklists(found),
        "repeat": {"command": command, "facts": facts, "config": found.config},
    }


def list_sections(content: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield id and title of the sections that are there."""
    for name, title in SECTIONS.items():
        held = content[name]
        if any(held.values()) if isinstance(held, dict) else held:
            yield name, title
