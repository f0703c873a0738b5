"""Rows that a frozen model has met before: a score on them would prove nothing."""

from medvision.commands.ensemble import Ensemble
from medvision.commands.rows import Rows
from medvision.data.manifest import Manifest
from medvision.errors import MedvisionError, collect

UNCHECKED = "the manifest was not prepared with the model's key"


def check_overlap(ensemble: Ensemble, rows: Rows, allow_overlap: bool) -> list[str]:
    """Refuse rows that any model has seen; return what every table must be stamped with.

    The models' own val part was chosen on, which the tables say elsewhere: there, only what was
    trained on counts.
    """
    key, alone = rows.manifest.card.key, len(ensemble.runs) == 1
    overlaps, unchecked = [], 0
    for number, (run, model) in enumerate(zip(ensemble.runs, ensemble.models, strict=True)):
        samples = rows.samples[number]
        places = samples.spread(rows.find(number))
        patients, images = model.seen.meet(
            samples.table["patient"].to_numpy()[places],
            [samples.digest[place] for place in places],
            key, train=rows.own and rows.part == "val",
        )  # fmt: skip
        if patients or images:
            overlaps.append(
                f"{'' if alone else run.title + ': '}{len(patients)} patients and {len(images)} "
                "images were seen in training or validation"
            )
        # Each run kept the patients of its own parts apart itself, whatever their key.
        unchecked += not rows.own and (key is None or key != model.seen.key)
    if overlaps and not allow_overlap:
        raise refuse_overlap(rows.manifest, overlaps)
    of = "" if unchecked == len(ensemble.runs) else f" for {unchecked} of {len(ensemble.runs)} runs"
    return ([f"patients not checked{of}: {UNCHECKED}"] if unchecked else []) + overlaps


def refuse_overlap(manifest: Manifest, overlaps: list[str]) -> MedvisionError:
    """Name each model that has seen some of the rows."""
    way_out = "remove them, or go on with allow_overlap=true, which stamps every table"
    if len(overlaps) == 1:
        return MedvisionError(
            f"{manifest.path}: {overlaps[0]}, so a score on them would prove nothing; {way_out}"
        )
    return collect(str(manifest.path), overlaps, f"A score on them would prove nothing; {way_out}")
