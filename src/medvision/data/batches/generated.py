"""Generated images on disk: their files, their card, and what it must say."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from PIL.PngImagePlugin import PngInfo

import medvision.files as files
from medvision.cells import guard_cells
from medvision.data.formats.decode import decode, pixel_digest
from medvision.data.manifest.card import Card
from medvision.data.manifest.manifest import CARD, MANIFEST, Manifest
from medvision.errors import MedvisionError

_SEEN = ("train_patients", "train_images", "val_patients", "val_images")
FACTS: dict[str, tuple[type, ...]] = {
    "generator": (str,), "run": (str,), "gate": (dict, type(None)), "ungated": (bool,),
    "seen": (dict,), "size": (list,), "channels": (int,), "reader": (dict,), "rows": (str,),
}  # fmt: skip


@dataclass(frozen=True)
class Generated:
    """Where generated images come from; on the card of their manifest these are its facts.

    Attributes:
        generator: digest of its `model.pt`.
        run: title of the run that trained it.
        gate: `passed`, `score`, `spaces`, `reasons`; None: it was never judged.
        ungated: the images were made although the gate failed, or is not there.
        seen: what the generator has seen, as `Seen` writes it down.
        size, channels: of the images.
        reader: the settings under which the generator saw its images.
        rows: digest of `manifest.csv`.
        key: fingerprint of the key behind the pseudonyms of `seen`; None: ids as given.
    """

    generator: str
    run: str
    gate: dict[str, Any] | None
    ungated: bool
    seen: dict[str, Any]
    size: list[int]
    channels: int
    reader: dict[str, Any]
    rows: str
    key: str | None

    def to_facts(self) -> dict[str, Any]:
        """Return plain types for a card, which says the key itself."""
        return {name: value for name, value in asdict(self).items() if name != "key"}


def describe_gate(gate: Mapping[str, Any] | None) -> str:
    """Say in a few words how a generator was judged."""
    if gate is None:
        return "generated without a gate"
    if not gate["passed"]:
        return f"generated while the gate failed: {'; '.join(gate['reasons'])}"
    notes = f" ({'; '.join(gate['reasons'])})" if gate["reasons"] else ""
    return f"its gate passed with score {gate['score']:.3g}{notes}"


def holds_generated(manifest: Manifest) -> bool:
    """Tell whether any row is generated."""
    return bool((manifest.table["origin"] == "generated").any())


def read_generated(manifest: Manifest) -> Generated:
    """Read the card of a generated manifest.

    Raises:
        MedvisionError: rows that were changed since, real rows among them, or a card that does not
            say what the generator has seen and how it was judged.
    """
    path, facts = manifest.path, manifest.card.facts
    if (manifest.table["origin"] != "generated").any():
        raise MedvisionError(
            f"{path} mixes real and generated rows; give each a manifest of its own in data.extra"
        )
    absent = object()
    if lacking := [n for n, kinds in FACTS.items() if not isinstance(facts.get(n, absent), kinds)]:
        raise MedvisionError(
            f"{path} holds generated images and its card does not say {', '.join(lacking)}, so "
            "nobody can tell whose images they are made of; make them with medvision generate"
        )
    _check_seen(facts["seen"], manifest)
    if files.digest_file(path) != facts["rows"] or (manifest.table["split"] != "train").any():
        raise MedvisionError(
            f"{path} was edited after it was generated; remove its folder and generate it again"
        )
    told = Generated(**{name: facts[name] for name in FACTS}, key=manifest.card.key)
    if not told.ungated and not (told.gate or {}).get("passed"):
        raise MedvisionError(
            f"{path}: {describe_gate(told.gate)}; train a better generator, or generate with "
            "allow_ungated=true, which is stamped"
        )
    return told


def _check_seen(seen: Mapping[str, Any], manifest: Manifest) -> None:
    if not set(_SEEN) <= set(seen) or not seen["train_images"]:
        raise MedvisionError(
            f"{manifest.path} does not say which images its generator has seen, so a leak into val "
            "or test cannot be ruled out; make them with medvision generate"
        )


_NOTICE = "made by a generative model; this is no image of a patient"


def write_png(path: Path, image: np.ndarray, facts: Mapping[str, str]) -> str:
    """Write uint8 `[H,W,C]` as a PNG that says in its text chunks that it is synthetic.

    Args:
        path: its folder is made where it is missing.
        image: grey or RGB.
        facts: further text chunks.

    Returns:
        the digest of its pixels, as they are read again.
    """
    told = PngInfo()
    for key, text in {
        "Software": f"medvision {version('medvision')}",
        "Synthetic": _NOTICE,
    }.items():
        told.add_text(key, text)
    for key, text in facts.items():
        told.add_text(key, text)
    shown = image[..., 0] if image.shape[-1] == 1 else image
    with files.written_aside(path) as aside:
        Image.fromarray(shown).save(aside, format="PNG", pnginfo=told)
    return pixel_digest(decode(path))


def write_generated(folder: Path, table: pd.DataFrame, card: Card) -> None:
    """Write `manifest.csv`, and a card that knows its digest, so that an edit is noticed."""
    text = guard_cells(table).to_csv(index=False, lineterminator="\n")
    place = files.write_text(folder / MANIFEST, text)
    facts = card.facts | {"rows": files.digest_file(place)}
    files.write_json(folder / CARD, card.to_json() | {"facts": facts})
