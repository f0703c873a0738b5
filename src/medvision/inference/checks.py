"""Rows that a frozen model has met before, and rows unlike those it was trained on."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal

from medvision.data.inputs.profile import (
    Mismatch,
    find_mismatches,
    from_plain,
    note_unchecked_facts,
    refuse_unlike_training,
)
from medvision.data.manifest.manifest import Manifest
from medvision.data.units.image import Images
from medvision.errors import MedvisionError, collect
from medvision.inference.ensemble import Ensemble
from medvision.inference.rows import Rows

_UNCHECKED = "the manifest was not prepared with the model's key"


def check_overlap(ensemble: Ensemble, rows: Rows, allow_overlap: bool) -> list[str]:
    """Refuse rows that any model has seen; return what every table must be stamped with.

    The models' own val part was chosen on, which the tables say elsewhere: there, only what was
    trained on counts.
    """
    key, alone = rows.manifest.card.key, len(ensemble.runs) == 1
    overlaps, unchecked = [], 0
    for number, (run, model) in enumerate(zip(ensemble.runs, ensemble.models, strict=True)):
        samples = rows.samples[number]
        places = samples.unit.rows(rows.find(number))
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
        raise _refuse_overlap(rows.manifest, overlaps)
    of = "" if unchecked == len(ensemble.runs) else f" for {unchecked} of {len(ensemble.runs)} runs"
    return ([f"patients not checked{of}: {_UNCHECKED}"] if unchecked else []) + overlaps


def _refuse_overlap(manifest: Manifest, overlaps: list[str]) -> MedvisionError:
    """Name each model that has seen some of the rows."""
    way_out = "remove them, or go on with allow_overlap=true, which stamps every table"
    if len(overlaps) == 1:
        return MedvisionError(
            f"{manifest.path}: {overlaps[0]}, so a score on them would prove nothing; {way_out}"
        )
    return collect(str(manifest.path), overlaps, f"A score on them would prove nothing; {way_out}")


OnUnlike = Literal["stop", "warn"]


def check_unlike_training(ensemble: Ensemble, rows: Rows, on_foreign: OnUnlike) -> list[str]:
    """Refuse rows that are foreign to any model; return what every table must be stamped with.

    What could not be checked is said on the terminal. A run's own rows are what it was trained on.

    Raises:
        MedvisionError: foreign rows, unless `on_foreign` is `warn`.
    """
    if rows.own:
        return []
    foreign: dict[int, list[Mismatch]] = {}
    notes: list[str] = []
    lines: set[int] = set()
    for number, model in enumerate(ensemble.models):
        trained, samples = from_plain(model.trained_on), rows.samples[number]
        places = samples.unit.rows(rows.find(number))
        natives, own = samples.file_facts(places), samples.where[places, 1].tolist()
        lines.update(own)
        notes += note_unchecked_facts(trained, natives)
        for row, native in zip(own, natives, strict=True):
            found = find_mismatches(native, trained, model.contract.get("window"))
            if found:
                foreign.setdefault(row, found)
    if foreign and on_foreign == "stop":
        names = rows.manifest.table["path"]
        raise refuse_unlike_training(foreign, lambda row: names[row], len(lines))
    for note in dict.fromkeys(notes):
        print(f"note: {note}")
    return stamp_unlike_training(foreign, len(lines))


def stamp_unlike_training(
    foreign: Mapping[int, Sequence[Mismatch]], total: int, text: str = Images.unlike
) -> list[str]:
    """Count foreign images, and in what they are foreign, or the samples that hold some."""
    if not foreign:
        return []
    ways = Counter(about for row in foreign.values() for about in {o.about for o in row})
    counts = ", ".join(f"{about} {count}" for about, count in sorted(ways.items()))
    return [text.format(found=len(foreign), total=total, ways=counts)]
