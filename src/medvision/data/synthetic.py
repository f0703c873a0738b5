"""Generated images as files that say so, and the manifest beside them."""

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from PIL.PngImagePlugin import PngInfo

import medvision.files as files
from medvision.data.card import Card
from medvision.data.decoding import decode, pixel_digest
from medvision.data.manifest import CARD, MANIFEST

NOTICE = "made by a generative model; this is no image of a patient"


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
    for key, text in {"Software": f"medvision {version('medvision')}", "Synthetic": NOTICE}.items():
        told.add_text(key, text)
    for key, text in facts.items():
        told.add_text(key, text)
    shown = image[..., 0] if image.shape[-1] == 1 else image
    with files.written_aside(path) as aside:
        Image.fromarray(shown).save(aside, format="PNG", pnginfo=told)
    return pixel_digest(decode(path))


def write_generated(folder: Path, table: pd.DataFrame, card: Card) -> None:
    """Write `manifest.csv`, and a card that knows its digest, so that an edit is noticed."""
    text = table.to_csv(index=False, lineterminator="\n")
    place = files.write_text(folder / MANIFEST, text)
    facts = card.facts | {"rows": files.digest_file(place)}
    files.write_json(folder / CARD, card.to_json() | {"facts": facts})
