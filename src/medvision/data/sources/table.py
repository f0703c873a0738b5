"""Any CSV that names image files, whatever its columns are called."""

from collections.abc import Mapping
from pathlib import Path

from medvision.data.manifest.manifest import MANIFEST, read_manifest
from medvision.data.sources.found import Found
from medvision.errors import MedvisionError

USUAL = (MANIFEST, "labels.csv")


def find_table(input: Path, *, columns: Mapping[str, str | None] | None = None) -> Found:  # noqa: A002 -- the command's own word
    """Read a table of images; columns that are none of ours are carried along.

    Args:
        input: the CSV, or a folder with one `manifest.csv`, `labels.csv` or other CSV. Paths in
            it are seen from its folder.
        columns: ours → theirs, as in `read_manifest`.

    Raises:
        MedvisionError: no CSV or several, or a table that breaks a rule of the manifest.
    """
    manifest = read_manifest(_choose_csv(Path(input)), columns)
    table = manifest.table
    for name in manifest.file_columns:
        folder = manifest.path.parent
        table[name] = [str(folder / path) if path else "" for path in table[name]]
    card, named = manifest.card, table["dataset"].unique()
    facts = {"table": manifest.path.name, "carried": manifest.carried, "notes": manifest.notes}
    if card.key is not None:
        facts["hashed_with"] = card.key  # by an earlier `prepare`
    dataset = str(named[0]) if len(named) == 1 else card.dataset
    return Found(table, dataset, card.patient_rule, card.classes, card.facts | facts)


def _choose_csv(place: Path) -> Path:
    if not place.is_dir():
        return place
    there = sorted(path for path in place.iterdir() if path.suffix.lower() == ".csv")
    usual = [path for path in there if path.name in USUAL]
    chosen = usual or there
    if len(chosen) == 1:
        return chosen[0]
    told = f"several tables ({', '.join(p.name for p in chosen[:5])})" if chosen else "no CSV"
    raise MedvisionError(f"{place} holds {told}; say which table with input=FILE.csv")
