"""Settings of runs: which differ, and how they are written in few words."""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

LONGEST = 4  # settings in a name


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Write nested mappings as dotted key → value; lists stay values."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def find_differing(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Keep the keys whose values differ; of copies under one last name the shortest."""
    keys = sorted({key for row in rows for key in row}, key=lambda key: (key.count("."), key))
    columns: dict[tuple[str, str], str] = {}
    for key in keys:
        values = [make_hashable(row.get(key, "(absent)")) for row in rows]
        if len(set(values)) > 1:
            columns.setdefault((key.rpartition(".")[2], "|".join(values)), key)
    kept = sorted(columns.values())
    return [{key: row[key] for key in kept if key in row} for row in rows]


def make_hashable(value: Any) -> str:
    """Write any value so that it can be compared and hashed."""
    return json.dumps(value, sort_keys=True, default=str)


def name_settings(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Name arms shortly: `lr=0.001, blocks=2`; a number where that tells nothing."""
    labels = label_keys(settings)
    said = [[f"{labels[k]}={show_setting(v, k)}" for k, v in row.items()] for row in settings]
    names = [_cut(words) for words in said]
    again = Counter(names)
    return [
        name if again[name] == 1 else f"{name} #{names[: n + 1].count(name)}".strip()
        for n, name in enumerate(names)
    ]


def label_keys(settings: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return key → its last part, or the whole key where the last part is ambiguous."""
    short = {key: _short_key(key) for row in settings for key in row}
    often = Counter(short.values())
    return {key: name if often[name] == 1 else key for key, name in sorted(short.items())}


def _cut(words: Sequence[str]) -> str:
    more = f", … (+{len(words) - LONGEST})" if len(words) > LONGEST else ""
    return ", ".join(words[:LONGEST]) + more


def _short_key(key: str) -> str:
    """Return the last part that says something: `model.net._target_` is the net."""
    return key.removesuffix("._target_").rpartition(".")[2]


def show_setting(value: Any, key: str = "") -> str:
    """Write a value as a user types it, of a `_target_` the last part alone."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, float):
        return _show_float(value)
    if isinstance(value, list | tuple):
        return f"[{','.join(map(show_setting, value))}]"
    return str(value).rpartition(".")[2] if key.endswith("_target_") else str(value)


def _show_float(value: float) -> str:
    """Write `0.001`, `3e-5` or `1e9`."""
    if value == 0 or 1e-4 <= abs(value) < 1e6 or not math.isfinite(value):
        return f"{value:.12g}"
    digits, _, power = f"{value:.11e}".partition("e")
    return f"{digits.rstrip('0').rstrip('.')}e{int(power)}"
