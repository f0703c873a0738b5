"""How predictions came about, beside them: models, settings, steps in order, each image."""

import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import medvision.files as files
from medvision.data.manifest.path_map import without_names
from medvision.evaluation.evaluator import Evaluator
from medvision.inference.answer import Answers, is_read
from medvision.inference.ensemble import Ensemble
from medvision.model import Model
from medvision.provenance import describe_process

_DECODERS = ("pydicom", "nibabel", "pillow")


def write_trace(
    output: Path, ensemble: Ensemble, answers: Answers, choices: Mapping[str, str]
) -> Path:
    """Write FILE.trace.json beside the predictions FILE.csv; a column of it a line.

    Names of files are left to the predictions: row by row, the columns are theirs.
    """
    process = describe_process(ensemble.models[0].seed)
    process["versions"] |= {name: version(name) for name in _DECODERS}
    head = process | dict(choices) | {
        "predictions": {"file": output.name, "digest": files.digest_file(output)},
        "models": _describe_members(ensemble),
        "decision": _describe_decision(ensemble),
        "counts": _count_rows(answers),
        "notes": [without_names(note) for note in answers.notes],
    }  # fmt: skip
    text = json.dumps(head, indent=2, ensure_ascii=False, allow_nan=False)
    columns = [f"    {json.dumps(name)}: {_fit_line(column)}"
               for name, column in _list_columns(answers).items()]  # fmt: skip
    whole = text.removesuffix("\n}") + ',\n  "files": {\n' + ",\n".join(columns) + "\n  }\n}\n"
    return files.write_text(output.with_suffix(".trace.json"), whole)


def _fit_line(column: list[Any]) -> str:
    return json.dumps(column, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _count_rows(answers: Answers) -> dict[str, int]:
    """Count images or series by what became of them; foreign ones were predicted."""
    table, read = answers.table, is_read(answers.table)
    return {
        answers.unit.counted: len(table), "predicted": int(read.sum()),
        "unreadable": int((~read).sum()), "foreign": int((read & (table["status"] != "ok")).sum()),
    }  # fmt: skip


def _describe_decision(ensemble: Ensemble) -> dict[str, Any]:
    """Say how predictions are decided."""
    several = {"by": ensemble.stamp} if len(ensemble.models) > 1 else {}
    return ensemble.evaluator.describe_decision() | several


def _describe_members(ensemble: Ensemble) -> list[dict[str, Any]]:
    """Return what is known of each model."""
    members = zip(
        ensemble.runs, ensemble.digests, ensemble.models, ensemble.evaluators, strict=True
    )
    return [{"run": run.title, "digest": digest, **_describe_model(model, evaluator)}
            for run, digest, model, evaluator in members]  # fmt: skip


def _describe_model(model: Model, evaluator: Evaluator) -> dict[str, Any]:
    """Return what of a frozen model decides a prediction, beside its weights."""
    return {
        **evaluator.describe(), "reader": model.contract, "series": model.unit,
        "steps": [*_list_steps(model), *evaluator.steps()], "tta": model.tta, "seed": model.seed,
        "trained_on": model.trained_on,
    }  # fmt: skip


def _list_steps(model: Model) -> list[str]:
    """Say in order what happens to an image on its way to what the net answers."""
    reader = model.contract
    size, channels, center = reader.get("size"), reader.get("channels", 1), reader.get("center", 1)
    steps = [
        "decode at full depth, DICOM and NIfTI in the units of their headers",
        f"window {reader.get('window')} to {reader.get('depth', 8)} bits",
        "invert MONOCHROME1",
        f"keep the middle {center:.0%} of each side" if center != 1 else "",
        "colour to luminance" if channels == 1 else "",
        f"{reader.get('fit')} to {size[0]} x {size[1]} pixels" if size else "",
        "grey to 3 equal channels" if channels == 3 else "",
        "scale to 0..1",
        f"the mean of {1 + model.tta} views, {model.tta} of them augmented" if model.tta else "",
    ]
    return [step for step in steps if step]


def _list_columns(answers: Answers) -> dict[str, list[Any]]:
    """Return what is known of each image, null where it could not be read."""
    rows = range(len(answers.table))
    first = [answers.taken[0].get(row) for row in rows]
    columns: dict[str, list[Any]] = {
        "digest": [taken and taken.digest for taken in first],
        "height": [taken and taken.native.height for taken in first],
        "width": [taken and taken.native.width for taken in first],
    }
    windows = [
        [(taken.get(row) or (None, None, None))[2] for row in rows] for taken in answers.taken
    ]
    if all(column == windows[0] for column in windows):
        columns["windows"] = windows[0]
    else:
        columns |= {f"windows of model {k}": column for k, column in enumerate(windows, start=1)}
    return columns | {"status": [without_names(text) for text in answers.table["status"]]}
