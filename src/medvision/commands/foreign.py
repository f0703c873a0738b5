"""Rows of another manifest that are unlike what frozen models were trained on."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal

from medvision.commands.ensemble import Ensemble
from medvision.commands.rows import Rows
from medvision.data.contract import (
    Oddity,
    find_oddities,
    from_plain,
    refuse_foreign,
    tell_unchecked,
)
from medvision.data.native import natives_of

OnForeign = Literal["stop", "warn"]


def check_contracts(ensemble: Ensemble, rows: Rows, on_foreign: OnForeign) -> list[str]:
    """Refuse rows that are foreign to any model; return what every table must be stamped with.

    What could not be checked is said on the terminal. A run's own rows are what it was trained on.

    Raises:
        MedvisionError: foreign rows, unless `on_foreign` is `warn`.
    """
    if rows.own:
        return []
    foreign: dict[int, list[Oddity]] = {}
    notes: list[str] = []
    lines: set[int] = set()
    for number, model in enumerate(ensemble.models):
        trained, samples = from_plain(model.trained_on), rows.samples[number]
        places = samples.spread(rows.find(number))
        natives, own = natives_of(samples, places), samples.where[places, 1].tolist()
        lines.update(own)
        notes += tell_unchecked(trained, natives)
        for row, native in zip(own, natives, strict=True):
            found = find_oddities(native, trained, model.contract.get("window"))
            if found:
                foreign.setdefault(row, found)
    if foreign and on_foreign == "stop":
        names = rows.manifest.table["path"]
        raise refuse_foreign(foreign, lambda row: names[row], len(lines))
    for note in dict.fromkeys(notes):
        print(f"note: {note}")
    return stamp_foreign(foreign, len(lines))


def stamp_foreign(foreign: Mapping[int, Sequence[Oddity]], total: int) -> list[str]:
    """Count foreign images, and in what they are foreign."""
    if not foreign:
        return []
    ways = Counter(about for row in foreign.values() for about in {o.about for o in row})
    counts = ", ".join(f"{about} {count}" for about, count in sorted(ways.items()))
    return [
        f"{len(foreign)} of {total} images are unlike those the model was trained on ({counts})"
    ]
