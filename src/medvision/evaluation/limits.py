"""The limits of a run that its own files show."""

from collections.abc import Iterator, Mapping
from typing import Any

from medvision.evaluation.covariates import find_covariates, real_rows
from medvision.evaluation.run_folder import Evidence
from medvision.evaluation.style import show_score

FEW = 100  # patients: intervals of a part below are wide, whatever the score


def find_limits(found: Evidence) -> Iterator[str]:
    """Yield one sentence a limit, the gravest first."""
    if not found.makes_images:
        yield from _limits_of_scores(found)
    yield from _limits_of_data(found)
    yield from _limits_of_training(found)


def _limits_of_scores(found: Evidence) -> Iterator[str]:
    patients = found.patients(found.part)
    if found.part == "val" and found.metrics.get("val"):
        yield "Scored only on val, which chose epoch, temperature and threshold: optimistic."
    if found.metrics and patients is not None and patients < FEW:
        yield f"Only {patients} patients in {found.part}: the intervals are wide."
    openings = len(found.record.get("test_openings") or [])
    if openings > 1:
        yield f"The test part was opened {openings} times: only the first look is untouched."
    chosen = found.patients("val")
    point = found.metrics.get("operating_point") or {}
    if point.get("threshold") is not None and chosen is not None:
        few = ", few for a threshold" if chosen < FEW else ""
        yield f"The threshold was chosen on {chosen} val patients{few}."
    evaluations = found.folder / "evaluations"
    if found.metrics and not any(evaluations.glob("*/metrics.json")):
        yield "Not evaluated on data from elsewhere."


def _limits_of_data(found: Evidence) -> Iterator[str]:
    rows = real_rows(found.rows)
    if found.facts.get("simulated"):
        yield "The images are simulated: nothing here speaks of patients."
    if len(rows):
        yield from _limits_of_rows(found)
    near = (found.facts.get("audit") or {}).get("near_copies") or {}
    if pairs := near.get("pairs"):
        across = near.get("across")
        kept = f", {across} of them across given parts" if across else ""
        yield f"{pairs} pairs of images of different patients are near copies{kept}."
    for shortcut in (found.facts.get("audit") or {}).get("shortcuts") or []:
        yield _tell_shortcut(shortcut)
    for note in found.audit.get("notes") or []:
        if str(note).startswith("only "):  # few patients of a class in a part
            yield f"{note[0].upper()}{note[1:]}."


def _tell_shortcut(shortcut: Mapping[str, Any]) -> str:
    return (
        f"{shortcut['label']} can be told from {shortcut['fact']} alone (AUROC "
        f"{show_score(shortcut['auroc'])}): a model may have learnt that."
    )


def _limits_of_rows(found: Evidence) -> Iterator[str]:
    rows = real_rows(found.rows)
    sites, seen = set(rows["site"]) - {""} if "site" in rows else set(), rows["split"] == "train"
    if len(sites) == 1:
        yield "All patients are of one site."
    elif not sites:
        yield "Sites are not recorded, so differences between them cannot be seen."
    elif set(rows.loc[rows["split"] == found.part, "site"]) <= set(rows.loc[seen, "site"]):
        yield f"No site of {found.part} is new to the model: it was trained on images of each."
    if not any(one.name.startswith("x_") for one in find_covariates(rows)):
        yield "No age, sex or other covariate is recorded, so fairness cannot be looked at."
    if "manufacturer" not in rows:
        yield "Devices are not recorded; others than those of the training images were not tried."


def _limits_of_training(found: Evidence) -> Iterator[str]:
    if made := found.audit.get("generated"):
        number = sum(one.get("images", 0) for one in made)
        yield f"{number} generated images joined the training part."
    if "each image is its own patient" in str(found.card.get("patient_rule", "")):
        yield "Each image counts as a patient: images of one person may lie in two parts."
    if found.card and found.card.get("key") is None:
        yield "Patients are given as they stand in the manifest, not hashed."
