"""`medvision prepare`: files on disk become a manifest, and a data card is printed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from rich.console import Console
from rich.table import Table

from medvision.data.prepare import Prepared, prepare


def run(
    source: str,
    output: Path,
    input: Path | None = None,  # noqa: A002 -- the word users type
    columns: Mapping[str, str | None] | None = None,
    dataset: str | None = None,
    deidentify: bool = True,
    on_unreadable: Literal["stop", "exclude"] = "stop",
    **options: Any,
) -> None:
    r"""Write manifest.csv and card.json into a folder.

    source=phantom|folder|table|medmnist   what to read
    input=PATH                             where it lies (also looked for under MEDVISION_DATA)
    output=DIR                             where manifest.csv and card.json go
    columns.OURS=THEIRS                    e.g. columns.label=diagnosis; columns.patient='(p\d+)'
                                           reads it from the file name; columns.patient=path says
                                           "each image is its own patient"
    dataset=NAME                           keeps patients of different origin apart
    deidentify=false                       keep patient ids as they are
    on_unreadable=exclude                  leave broken files out, counted
    other key=value                        go to the source (phantom: patients, slices, …)
    """
    prepared = prepare(
        source, Path(output), input=Path(input) if input else None, columns=columns,
        dataset=dataset, deidentify=deidentify, on_unreadable=on_unreadable, **options,
    )  # fmt: skip
    print_card(prepared)


def print_card(prepared: Prepared) -> None:
    """Print images, patients and classes by split, sizes, copies and problems."""
    console = Console(markup=False, highlight=False)
    table, card = prepared.table, prepared.card
    split = table["split"] if "split" in table else pd.Series("", index=table.index)
    label = table["label"] if "label" in table else pd.Series("", index=table.index)
    names = sorted(set(label.str.split("|").explode()) - {""})
    parts = [part for part in ("train", "val", "test", "") if (split == part).any()]
    grid = Table(title=f"data card: {card.dataset}", title_justify="left")
    for column in ("part", "images", "patients", *names):
        grid.add_column(column, justify="left" if column == "part" else "right")
    for part in [*parts, *(["all"] if len(parts) > 1 else [])]:
        rows = table if part == "all" else table[split == part]
        found = label[rows.index].str.split("|").explode().value_counts()
        counts = [str(found.get(name, 0)) for name in names]
        shown = part or "not split"
        grid.add_row(shown, str(len(rows)), str(rows["patient"].nunique()), *counts)
    console.print(grid)
    sizes = ", ".join(f"{size} ({n})" for size, n in list(prepared.sizes.items())[:5])
    console.print(f"sizes      {sizes}{' …' if len(prepared.sizes) > 5 else ''}")
    console.print(f"copies     {prepared.copies} images repeat another one, pixel for pixel")
    console.print(f"patients   told by: {card.patient_rule}; " + (
        f"hashed with your key {card.key}" if card.key else "ids kept as given"))  # fmt: skip
    for problem in prepared.left_out[:5]:
        console.print(f"left out   {problem}")
    if len(prepared.left_out) > 5:
        console.print(f"           and {len(prepared.left_out) - 5} more, all named in card.json")
    console.print(f"written    {prepared.manifest}")
    console.print(
        f"next       medvision train data=manifest data.manifest={prepared.manifest}",
        soft_wrap=True,
    )
