"""What can be wrong with the rows of a series, each fault in one sentence that names them.

Rows come with a `key` (equal for one series, "" = in none) and `at` (position, may be missing).
"""

from collections.abc import Hashable, Mapping, Sequence

import pandas as pd


def format_series(rule: str, found: Mapping[str, str], way_out: str, show: int = 5) -> list[str]:
    """Say in one sentence which series break a rule: the first `show`, the rest counted.

    Args:
        rule: what was expected.
        found: key of the series → what is wrong there; none gives no sentence.
        way_out: what to do.
        show: how many are written out.
    """
    told = [f"{key.rpartition(chr(31))[2]!r}{why}" for key, why in list(found.items())[:show]]
    more = f" and {len(found) - show} more" if len(found) > show else ""
    return [f"{rule} (series {', '.join(told)}{more}): {way_out}"] if told else []


def find_faults(rows: pd.DataFrame) -> list[str]:
    """Return all faults but gaps."""
    lone, own = int((rows["key"] == "").sum()), rows[rows["key"] != ""]
    problems = [f"{lone} of {len(rows)} rows have no `series`: fill the column"] if lone else []
    return problems + _check_patients(own) + _check_positions(own) + _check_labels(own)


def find_lacking(rows: pd.DataFrame, channels: Sequence[str]) -> dict[tuple[str, int], str]:
    """Return the positions (key, at) that lack one of the channels, and what each lacks."""
    placed = rows[rows["at"].notna()]
    held = placed.groupby(["key", "at"], sort=False)["channel"].nunique()
    partial = list(held.index[held < len(channels)])
    some = placed[pd.MultiIndex.from_frame(placed[["key", "at"]]).isin(partial)]
    found = {}
    for (key, at), there in some.groupby(["key", "at"], sort=False)["channel"]:
        gone = ", ".join(word for word in channels if word not in set(there))
        found[key, at] = f" has no {gone} at {at}"
    return found


def find_jumps(rows: pd.DataFrame) -> dict[str, str]:
    """Return series with a step between positions at least twice as long as their shortest."""
    places = rows.loc[rows["at"].notna(), ["key", "at"]].drop_duplicates()
    places = places.sort_values(["key", "at"])
    steps = places.groupby("key")["at"].diff().astype("float64")
    wide = places[steps >= 2 * steps.groupby(places["key"]).transform("min")]
    ends = zip(wide["key"], wide["at"], steps[wide.index], strict=True)
    found: dict[str, str] = {}
    for key, high, step in ends:
        found.setdefault(key, f" has none between {high - int(step)} and {high}")
    return found


def _check_patients(own: pd.DataFrame) -> list[str]:
    held = own.groupby("key", sort=False)["patient"].nunique()
    found = {key: f" of {count} patients" for key, count in held[held > 1].items()}
    way_out = "mend `patient`, or name series so that no two patients share a name"
    return format_series("a series belongs to one patient", found, way_out)


def _check_positions(own: pd.DataFrame) -> list[str]:
    bare = own[own["at"].isna()].groupby("key", sort=False).size()
    found = {key: f" in {count} rows" for key, count in bare.items()}
    way_out = "say columns.position=NAME of the column that orders the slices"
    problems = format_series("slices have no `position`", found, way_out)
    twice = own[own.duplicated(["key", "at", "channel"]) & own["at"].notna()]
    found = {k: f" at {at}" for k, at in zip(twice["key"], twice["at"], strict=True)}
    way_out = "tell them apart with columns.channel=NAME, or name them as series of their own"
    return problems + format_series("a position is there twice", found, way_out)


def _check_labels(own: pd.DataFrame) -> list[str]:
    whole = "series_label" if "series_label" in own else "label"
    way_out = "give the series one label"
    way_out += "" if whole == "series_label" else ", or a `series_label` column beside its slices'"
    found = _find_torn(own, whole, ["key"])
    problems = format_series(f"rows of a series must agree on `{whole}`", found, way_out)
    if whole == "label":
        return problems
    found = _find_torn(own, "label", ["key", "at"])
    return problems + format_series(
        "channels of a slice must agree on `label`", found, "mend `label`"
    )


def _find_torn(own: pd.DataFrame, column: str, by: list[str]) -> dict[str, str]:
    said = own[own[column].fillna("") != ""]
    kinds = said.groupby(by, sort=False)[column].nunique()
    torn: list[Hashable] = list(kinds.index[kinds > 1])
    keys = [key[0] if isinstance(key, tuple) else key for key in torn]
    words = said[said["key"].isin(keys[:5])].groupby("key")[column].unique()
    told = {key: f" says {' and '.join(sorted(words[key])[:3])}" for key in keys[:5]}
    return {str(key): told.get(key, "") for key in keys}
