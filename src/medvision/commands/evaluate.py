"""`medvision evaluate`: stored predictions and evidence, of a run's own parts or of other rows."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pandas as pd

import medvision.files as files
from medvision.commands.infer import predict_logits, tabulate
from medvision.data.assemble import assemble_foreign
from medvision.data.classes import Classes
from medvision.data.manifest import Manifest, read_manifest
from medvision.data.readers import Reader
from medvision.data.samples import Samples
from medvision.errors import MedvisionError
from medvision.evaluation.evidence import build_metrics, read_predictions, write_predictions
from medvision.evaluation.plates import draw_plates
from medvision.evaluation.report import write_report
from medvision.evaluation.tables import print_table
from medvision.model import Model, load_model
from medvision.runs import Run, command_line, find_run, record_opening

FOREIGN = "scored on rows of another manifest with a frozen model: nothing was fitted on them"


def run(
    run: str,
    data: dict[str, Any] | None = None,
    split: str = "test",
    allow_overlap: bool = False,
    on_unreadable: Literal["stop", "exclude"] = "stop",
) -> None:
    """Score a frozen model: net, temperature and threshold stay as they were trained.

    run=RUN                    a run folder, `last`, or a unique beginning of its name
    data.manifest=FILE.csv     other rows (external validation): path, patient, label are enough;
                               results go to RUN/evaluations/, the run's own files stay
    data.columns.OURS=THEIRS   for a table with foreign column names
    data.rename.THEIRS=OURS    for foreign label names
    split=test                 which rows; without a split column all rows are taken
    allow_overlap=true         go on although rows were seen in training; counted and stamped
    on_unreadable=exclude      leave broken files out, counted
    """
    chosen = find_run(run)
    place, columns, rename = read_data_words(data or {})
    if place is None and split not in ("val", "test"):
        raise MedvisionError(f"split={split}: a run is scored on its val or test part")
    model = load_model(chosen.model)
    manifest = read_manifest(files.find_input(place) if place else chosen.manifest, columns)
    classes = Classes(model.classes, model.kind, model.negative, model.rename | rename)
    reader = Reader.from_contract(model.contract)
    samples = assemble_foreign(manifest, reader, classes, on_unreadable, split)
    if len(samples.rows(split)) == 0:
        raise MedvisionError(f"{manifest.path} has no rows of split={split}; name another split")
    if place is None:
        metrics, folder = evaluate_parts(chosen, model, samples, [split]), chosen.folder
        write_report(folder)
    else:
        metrics, folder = evaluate_foreign(chosen, model, manifest, samples, split, allow_overlap)
    print_table(metrics)
    print(f"written: {folder}")


def evaluate_parts(
    run: Run, model: Model, samples: Samples, parts: Sequence[str]
) -> dict[str, Any]:
    """Predict parts of a run's own rows and derive the evidence from all stored predictions."""
    for part in parts:
        if part == "test":
            record_opening(run, files.digest_file(run.model))
        store_predictions(run.folder, model, samples, part)
    return derive_evidence(run.folder, model)


def evaluate_foreign(
    run: Run, model: Model, manifest: Manifest, samples: Samples, part: str, allow_overlap: bool
) -> tuple[dict[str, Any], Path]:
    """Score rows the run never had, beside the run's own evidence, never over it.

    Raises:
        MedvisionError: the rows show patients or images the model was trained or chosen on.
    """
    stamps = check_overlap(model, manifest, samples, part, allow_overlap)
    model_digest = files.digest_file(run.model)
    code = files.digest(manifest.digest, model_digest, part)[:8]
    folder = run.folder / "evaluations" / files.file_safe(f"{manifest.card.dataset}-{code}")
    files.write_json(folder / "record.json", {
        "command": command_line(), "finished": files.today(),
        "manifest": manifest.digest, "model": model_digest, "stamps": stamps, "status": "done",
    })  # fmt: skip
    store_predictions(folder, model, samples, part)
    if part == "test":
        record_opening(Run(folder), model_digest)
    metrics = derive_evidence(folder, model, [FOREIGN, *stamps])
    write_report(folder, metrics["stamps"])
    return metrics, folder


def store_predictions(folder: Path, model: Model, samples: Samples, part: str) -> None:
    """Write `predictions/<part>.csv`: everything later is computed from it."""
    rows = samples.rows(part)
    table = tabulate(model, samples.facts_for(rows), predict_logits(model, samples, rows))
    write_predictions(folder / "predictions" / f"{part}.csv", table)


def derive_evidence(folder: Path, model: Model, stamps: Sequence[str] = ()) -> dict[str, Any]:
    """Write `metrics.json` and the figures of a folder from its stored predictions alone."""
    stored = read_stored(folder)
    metrics = compute_metrics(stored, model)
    if stamps:
        metrics["stamps"] = list(stamps)
        metrics.get("val", {}).pop("fitted_on", None)
    files.write_json(folder / "metrics.json", metrics)
    shown = "test" if "test" in stored else "val"
    draw_plates(folder, stored[shown], metrics["confusion"][shown], model)
    return metrics


def read_stored(folder: Path) -> dict[str, pd.DataFrame]:
    """Read all predictions of a folder, part → table."""
    paths = sorted((folder / "predictions").glob("*.csv"))
    return {path.stem: read_predictions(path) for path in paths}


def compute_metrics(stored: Mapping[str, pd.DataFrame], model: Model) -> dict[str, Any]:
    """Compute the content of `metrics.json`."""
    return build_metrics(
        stored, model.classes, model.kind, model.temperature, model.rule, model.threshold
    )


def check_overlap(
    model: Model, manifest: Manifest, samples: Samples, part: str, allow_overlap: bool
) -> list[str]:
    """Refuse rows the model has seen; return what every table must be stamped with."""
    seen, key, rows = model.seen, manifest.card.key, samples.rows(part)
    tested = samples.table["patient"].to_numpy()[rows]
    patients, images = seen.meet(tested, [samples.digest[row] for row in rows], key)
    stamps = []
    if key is None or key != seen.key:
        stamps.append("patients not checked: the manifest was not prepared with the model's key")
    if not patients and not images:
        return stamps
    overlap = (
        f"{len(patients)} patients and {len(images)} images were seen in training or validation"
    )
    if not allow_overlap:
        raise MedvisionError(
            f"{manifest.path}: {overlap}, so a score on them would prove nothing; "
            "remove them, or go on with allow_overlap=true, which stamps every table"
        )
    return [*stamps, overlap]


def read_data_words(
    words: Mapping[str, Any],
) -> tuple[str | None, dict[str, Any] | None, dict[str, Any]]:
    """Split `data.…` words into the manifest, the columns and the renamed labels."""
    place, columns, rename = None, {}, {}
    for key, value in words.items():
        group, _, name = key.partition(".")
        if key == "manifest":
            place = str(value)
        elif group == "columns" and name:
            columns[name] = value
        elif group == "rename" and name:
            rename[name] = str(value)
        else:
            raise MedvisionError(
                f"medvision evaluate has no argument data.{key}; "
                "it takes data.manifest, data.columns.… and data.rename.…"
            )
    return place, columns or None, rename
