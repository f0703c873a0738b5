"""Any CSV that names image files, whatever its columns are called."""

from collections.abc import Mapping
from pathlib import Path

from medvision.data.manifest.columns import find_readers, names_files
from medvision.data.manifest.manifest import MANIFEST, read_manifest
from medvision.data.sources.found import Found
from medvision.errors import MedvisionError
from medvision.files import list_visible

_USUAL = (MANIFEST, "labels.csv")


def find(
    input: Path,  # noqa: A002 -- the command's own word
    *,
    columns: Mapping[str, str | None] | None = None,
    output: Path | None = None,
) -> Found:
    """Read a table of images with all its columns, of which `prepare` keeps those a run reads.

    Args:
        input: the CSV, or a folder with one `manifest.csv`, `labels.csv` or other CSV. Paths in
            it are seen from its folder.
        columns: ours → theirs, as in `read_manifest`.
        output: where the manifest will lie.

    Raises:
        MedvisionError: no CSV or several, a table that breaks a rule of the manifest, or one that
            the manifest would overwrite.
    """
    if output is not None:
        _refuse_overwriting(Path(input), output)
    manifest = read_manifest(choose_csv(Path(input)), columns)
    table = manifest.table
    folder = manifest.path.parent
    asked = [*manifest.carried, *find_readers(table)]
    named = [name for name in asked if names_files(table[name], folder)]
    for name in {*manifest.file_columns, *named}:
        table[name] = [str(folder / path) if path else "" for path in table[name]]
    card, datasets = manifest.card, table["dataset"].unique()
    facts = {"table": manifest.path.name, "carried": manifest.carried, "notes": manifest.notes}
    if card.key is not None:
        facts["hashed_with"] = card.key  # by an earlier `prepare`
    dataset = str(datasets[0]) if len(datasets) == 1 else card.dataset
    facts = card.facts | facts
    return Found(table, dataset, card.patient_rule, card.classes, facts, files=named)


def _refuse_overwriting(own: Path, output: Path) -> None:
    written = (output / MANIFEST).resolve()
    if written.exists() and written in (own, own / MANIFEST):
        raise MedvisionError(
            f"output={output} would overwrite its input {written}; name another folder"
        )


def choose_csv(place: Path) -> Path:
    """Return a table, or the one that a folder holds.

    Raises:
        MedvisionError: the folder holds none, or several.
    """
    if not place.is_dir():
        return place
    there = [path for path in list_visible(place, "*") if path.suffix.lower() == ".csv"]
    usual = [path for path in there if path.name in _USUAL]
    chosen = usual or there
    if len(chosen) == 1:
        return chosen[0]
    told = f"several tables ({', '.join(p.name for p in chosen[:5])})" if chosen else "no CSV"
    raise MedvisionError(f"{place} holds {told}; say which table with input=FILE.csv")
