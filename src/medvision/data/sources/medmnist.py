"""The npz files of MedMNIST: a part an array, labels as numbers, no patient ids.

Reference:
    Yang et al., MedMNIST v2: a large-scale lightweight benchmark for 2D and 3D biomedical image
    classification. Scientific Data 10:41, 2023.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pandas as pd

import medvision.files as files
from medvision.class_order import order_classes
from medvision.data.manifest.pseudonyms import NO_RULE, describe_rule, patients_from_names
from medvision.data.sources.found import Found, read_patient_rule
from medvision.errors import MedvisionError, did_you_mean

PARTS = ("train", "val", "test")
CLASSES = {  # of the labels 0 and 1; in BreastMNIST 1 is what is normal or benign
    "pneumoniamnist": ["normal", "pneumonia"],
    "breastmnist": ["malignant", "not malignant"],
}
NOTHING = "none"


def find(
    input: Path | None = None,  # noqa: A002 -- the command's own word
    *,
    columns: Mapping[str, str | None] | None = None,
    name: str | None = None,
    size: int = 28,
) -> Found:
    """Point at the images inside one npz, with the official split.

    Labels are class names where we know them, else the numbers as text. Those of a multi-label set
    are joined by `|`, and a row without any finding is `none` (also on the card, as `negative`).

    Args:
        input: the npz, or a folder that holds it; None downloads it with the `medmnist` package.
        columns: `patient` alone, and `path`: there are no ids, each image is its own patient.
        name: such as `pneumoniamnist`; the file's name where None.
        size: side of the images in pixels, to choose a file; not looked at where one is given.

    Raises:
        MedvisionError: no file, not such an npz, no or another patient rule, no download.
    """
    patient = read_patient_rule(columns, "medmnist")
    path = _download(name, int(size)) if input is None else _choose_npz(input, name, int(size))
    if patient != "path":
        given = "no patient rule was given" if patient is None else f"columns.patient={patient}"
        raise MedvisionError(
            f"{given} for {path}, which has no patient ids (its images are called "
            f"'{path.name}#0'); {NO_RULE.split(',')[0]}"
        )
    name = name or re.sub(r"_\d+$", "", path.stem)
    shapes, labels = _read(path)
    table, multilabel, classes = _tabulate(path, shapes, labels, CLASSES.get(name))
    table["patient"] = patients_from_names([path.name] * len(table), list(table["frame"]), "path")
    facts = {"multilabel": True, "negative": NOTHING} if multilabel else {}
    return Found(table, name, describe_rule("path"), classes, facts)


def _file_name(name: str, size: int) -> str:
    return f"{name}.npz" if size == 28 else f"{name}_{size}.npz"


def _choose_npz(place: Path, name: str | None, size: int) -> Path:
    place = Path(place).absolute()
    if not place.is_dir():
        return place
    there = files.list_visible(place, "*.npz")
    named = [path for path in there if name and path.name == _file_name(name, size)]
    chosen = named if name else there
    if len(chosen) == 1:
        return chosen[0]
    wanted = _file_name(name, size) if name else "one npz file"
    held = ", ".join(path.name for path in there[:5]) or "none"
    raise MedvisionError(f"{place} should hold {wanted} (npz files there: {held}); say input=FILE")


def _read(path: Path) -> tuple[dict[str, tuple[int, ...]], dict[str, np.ndarray]]:
    """Return the shape of each image array, in stored order, and the labels by part.

    Only headers are read of the images: a large set is many gigabytes unpacked.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            labels = {part: archive[f"{part}_labels"] for part in PARTS
                      if f"{part}_labels" in archive.files}  # fmt: skip
            shapes = {}
            for name in archive.files:
                with archive.zip.open(f"{name}.npy") as stream:
                    version = np.lib.format.read_magic(stream)
                    header = getattr(np.lib.format, f"read_array_header_{version[0]}_0")
                    shapes[name] = header(stream)[0]
    except (OSError, ValueError, EOFError, KeyError, AttributeError, BadZipFile) as error:
        raise MedvisionError(f"{path} is not a readable npz ({error}); check the file") from error
    images = {name: shape for name, shape in shapes.items() if len(shape) > 2}
    expected = [f"{part}_images" for part in PARTS]
    if not images or not set(images) <= set(expected):
        raise MedvisionError(
            f"{path} holds the arrays {', '.join(shapes)}; a MedMNIST file has "
            f"{', '.join(expected)} and their labels (source=folder takes any npz)"
        )
    volumes = [name for name, shape in images.items() if len(shape) > 3 and shape[3:] != (3,)]
    if volumes:
        raise MedvisionError(f"{path} holds volumes in {volumes[0]}; only 2-D sets can be read")
    return images, labels


def _tabulate(
    path: Path,
    shapes: dict[str, tuple[int, ...]],
    labels: dict[str, np.ndarray],
    names: list[str] | None,
) -> tuple[pd.DataFrame, bool, list[str] | None]:
    """Make a row an image, counted through the arrays; also tell multi-label sets and classes."""
    numbers = {part: _as_numbers(path, part, array) for part, array in labels.items()}
    multilabel = any(array.shape[1] > 1 for array in numbers.values())
    count = max((a.shape[1] if multilabel else a.max(initial=-1) + 1 for a in numbers.values()),
                default=0)  # fmt: skip
    names = names or [str(number) for number in range(count)]
    if count > len(names):
        raise MedvisionError(
            f"{path} has the label {count - 1}, but {', '.join(names)} are all its classes; "
            "say name= if it is another set than its file name tells"
        )
    rows: list[tuple[str, str, str]] = []
    for key, shape in shapes.items():
        part = key.removesuffix("_images")
        told = _name(numbers[part], names, multilabel) if part in numbers else [""] * shape[0]
        if len(told) != shape[0]:
            raise MedvisionError(
                f"{path} has {shape[0]} images but {len(told)} labels in {part}; get it anew"
            )
        rows += [(str(path), label, part) for label in told]
    table = pd.DataFrame(rows, columns=["path", "label", "split"])
    table["frame"] = range(len(table))
    return table, multilabel, order_classes(names) or None


def _as_numbers(path: Path, part: str, array: np.ndarray) -> np.ndarray:
    """Return labels as int64 `[N,1]`, or `[N,K]` of 0 and 1."""
    whole = np.issubdtype(array.dtype, np.number) and array.ndim in (1, 2)
    if not whole or (array != array.astype(np.int64)).any() or (array < 0).any():
        raise MedvisionError(f"{path}: {part}_labels must be whole numbers from 0; get it anew")
    return array.astype(np.int64).reshape(len(array), -1)


def _name(numbers: np.ndarray, names: list[str], multilabel: bool) -> list[str]:
    if not multilabel:
        return [names[number] for number in numbers[:, 0]]
    return ["|".join(names[k] for k in np.flatnonzero(row)) or NOTHING for row in numbers]


def _download(name: str | None, size: int) -> Path:
    """Let the `medmnist` package fetch a file into the cache."""
    if name is None:
        raise MedvisionError("source=medmnist needs input=FILE.npz, or name= to download a set")
    by_hand = f"get {_file_name(name, size)} on another machine and say input=FILE.npz"
    try:
        import medmnist
    except ImportError as error:
        raise MedvisionError(
            f"the package medmnist is not installed, so {name} cannot be downloaded; "
            f"install medvision[medmnist], or {by_hand}"
        ) from error
    sets: dict[str, Any] = medmnist.INFO
    if name not in sets:
        raise MedvisionError(
            f"name={name} is no set of MedMNIST{did_you_mean(name, sets)}; "
            f"there are {', '.join(sets)}"
        )
    folder = files.cache_folder() / "downloads"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        fetch = getattr(medmnist, sets[name]["python_class"])
        fetch(split="train", download=True, size=size, root=str(folder))
    except (OSError, RuntimeError, ValueError, AssertionError) as error:
        raise MedvisionError(f"{name} could not be downloaded ({error}); {by_hand}") from error
    return folder / _file_name(name, size)
