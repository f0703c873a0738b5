"""Rows that a frozen model has met before, and rows unlike those it was trained on."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal

from medvision.data.audit.descriptor import SMALLEST
from medvision.data.batches.near_copies import describe_store, find_between, recall_trained
from medvision.data.inputs.profile import (
    Mismatch,
    find_mismatches,
    from_plain,
    note_unchecked_facts,
    refuse_unlike_training,
)
from medvision.data.manifest.manifest import Manifest
from medvision.data.store.reader import Reader
from medvision.data.units.image import Images
from medvision.errors import MedvisionError, collect
from medvision.identity import count
from medvision.inference.ensemble import Ensemble
from medvision.inference.rows import Rows
from medvision.seen import Met, Seen, refuse_namesakes, stamp_namesakes


def check_overlap(
    ensemble: Ensemble, rows: Rows, allow_overlap: bool, different_patients: bool
) -> list[str]:
    """Refuse rows that any model has seen; return what every table must be stamped with.

    The models' own val part was chosen on, which the tables say elsewhere: there, only what was
    trained on counts.
    """
    titles = [run.title for run in ensemble.runs]
    told = [_meet(model.seen, rows, number) for number, model in enumerate(ensemble.models)]
    alone = len(ensemble.runs) == 1

    def name(run: str, sentence: str) -> str:
        return sentence if alone else f"{run}: {sentence}"

    overlaps = [
        name(run, f"{len(met.patients)} patients and {len(met.images)} images were seen in "
                  "training or validation")
        for run, met in zip(titles, told, strict=True) if met.patients or met.images
    ]  # fmt: skip
    if overlaps and not allow_overlap:
        raise _refuse_overlap(rows.manifest, overlaps)
    namesakes = [name(run, *stamp_namesakes(met.namesakes, "those seen in training or validation"))
                 for run, met in zip(titles, told, strict=True) if met.namesakes]  # fmt: skip
    if namesakes and not different_patients:
        found = set().union(*(met.namesakes for met in told))
        raise refuse_namesakes(
            f"{rows.manifest.path}: {count(len(found), 'patient id')} were seen in training or "
            "validation under another dataset name", "remove them"
        )  # fmt: skip
    unknown = [name(run, sentence) for run, model in zip(titles, ensemble.models, strict=True)
               for sentence in model.seen.unknown]  # fmt: skip
    # Each run kept the patients of its own parts apart itself, whatever their key.
    unchecked = [] if rows.own else _count_unchecked([met.unchecked for met in told])
    near = [] if rows.own else [
        name(run, sentence) for number, run in enumerate(titles)
        for sentence in _note_near_copies(ensemble, rows, number)
    ]  # fmt: skip
    return unchecked + unknown + overlaps + namesakes + near


def _meet(seen: Seen, rows: Rows, number: int) -> Met:
    """Compare rows with what a model has seen."""
    samples = rows.samples[number]
    shown = samples.shown_in(samples.unit.rows(rows.find(number)))
    return seen.meet(shown, train=rows.own and rows.part == "val")


def _note_near_copies(ensemble: Ensemble, rows: Rows, number: int) -> list[str]:
    """Count rows that are near copies of what a model has seen, if this machine knows that."""
    seen, samples = ensemble.models[number].seen, rows.samples[number]
    if min(samples.stores[0].array.shape[1:3]) < SMALLEST:
        return []
    reader = Reader.from_contract(ensemble.models[number].contract)
    manifests = ensemble.runs[number].record.get("manifest", [])
    trained = recall_trained(manifests, reader, seen.knows)
    if not trained.digests:
        return ["near copies not looked for: trained elsewhere, or with another cache"]
    places = samples.where[samples.unit.rows(rows.find(number)), 1].tolist()
    asked = describe_store(samples.stores[0], rows.manifest.digest, reader).take(places)
    near = len(find_between(asked, trained))
    told = (
        f"{near} of {len(places)} images are near copies of images seen in training or validation"
    )
    return [f"{told}: look at them"] if near else []


def _count_unchecked(told: Sequence[Sequence[str]]) -> list[str]:
    """Say what was not checked, and of an ensemble for how many of its runs."""
    counts = Counter(sentence for some in told for sentence in some)
    return [
        sentence if number == len(told)
        else sentence.replace(" not checked", f" not checked for {number} of {len(told)} runs")
        for sentence, number in counts.items()
    ]  # fmt: skip


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
