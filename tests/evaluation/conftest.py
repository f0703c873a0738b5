"""A run folder as it would be after a training, made of small tables."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medvision.data.audit.flow import count_units, trace_losses
from medvision.evaluation.covariates import read_rows
from medvision.evaluation.evaluator import open_evaluator
from medvision.evaluation.predictions import write_predictions
from medvision.evaluation.scoring import prepare_parts, score_parts

CLASSES = ["healthy", "sick"]
CONFIG = """
name: cohort
monitor: val/auroc
tta: 0
data:
  source: {name: folder}
  reader: {_target_: medvision.data.store.reader.Reader, size: [32, 32], fit: pad, center: 1.0}
  on_unreadable: exclude
  unit: image
  split_seed: 0
  batch_size: 8
augment: {_target_: medvision.augment.draw.Augment, gamma: 0.1, blur: 0.0}
model:
  net: {_target_: medvision.nets.convnet.ConvNet, _partial_: true, widths: [8, 16]}
  optimizer: {_target_: torch.optim.AdamW, _partial_: true, lr: 0.01}
  class_weights: balanced
"""


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    """A binary run of 60 patients with two images each: sites, an age, a sex, one lost file."""
    run = tmp_path / "cohort" / "seed=0-0a1b2c3d"
    run.mkdir(parents=True)
    rng = np.random.default_rng(0)
    rows = pd.DataFrame({"path": [f"hashed-{k}" for k in range(120)], "frame": 0})
    number = np.arange(120) // 2
    rows["patient"] = [f"p{k:012x}" for k in number]
    rows["dataset"], rows["series"], rows["channel"], rows["origin"] = "clinic", "", "", "real"
    rows["label"] = [CLASSES[k] for k in rng.integers(0, 2, 120)]
    rows.loc[0, "label"] = ""
    rows["split"] = np.array(["train", "val", "test"])[np.minimum(number // 20, 2)]
    rows["site"] = np.array(["A", "B"])[number % 2]
    rows["x_age_years"] = [str(40 + k) for k in number]
    rows.loc[110:, "x_age_years"] = ""
    rows["x_sex"] = np.array(["f", "m"])[number % 3 % 2]
    rows.to_csv(run / "manifest.csv", index=False)
    parts = {}
    for part in ("val", "test"):
        own = rows[rows["split"] == part]
        held = own[["dataset", "patient", "series", "label"]].assign(index=own.index)
        sure = np.where(own["label"] == "sick", 0.65, 0.35) + rng.normal(0, 0.15, len(own))
        held["prob_healthy"] = 1 - sure.clip(0.01, 0.99)
        held["prob_sick"] = sure.clip(0.01, 0.99)
        held["pred"] = np.where(held["prob_sick"] >= 0.5, "sick", "healthy")
        parts[part] = held
        write_predictions(run / "predictions" / f"{part}.csv", held)
    decision = {"temperature": 1.2, "rule": "youden", "threshold": 0.5}
    target = {"classes": CLASSES, "kind": "binary"}
    evaluator = open_evaluator("classification", target, decision)
    scored = prepare_parts({part: {"": table} for part, table in parts.items()}, evaluator)
    table = read_rows(run / "manifest.csv")
    metrics = score_parts(scored, evaluator, table, resamples=50)
    write(run / "metrics.json", metrics)
    (run / "config.yaml").write_text(CONFIG)
    write(run / "audit.json", audit_of(rows))
    broken = pd.concat([rows, rows.iloc[-1:].assign(patient="gone")], ignore_index=True)
    early = trace_losses(broken, [("unreadable", rows)])
    write(run / "card.json", {
        "dataset": "clinic", "key": "abcd1234", "patient_rule": "the pattern (p.)",
        "facts": {"flow": early, "skipped": 3, "sizes": {"32x32": 120},
                  "audit": {"near_copies": {"pairs": 2, "across": 1}}},
    })  # fmt: skip
    write(run / "record.json", {
        "status": "done", "kind": "binary", "classes": CLASSES, "seed": 0, "model": "ab" * 32,
        "versions": {"torch": "2.15"}, "python": "3.11", "command": "medvision train", "epochs": 3,
        "code": {"digest": "c0de"}, "device": "a CPU", "seconds": 9, "test_openings": [{}],
    })  # fmt: skip
    return run


def audit_of(rows: pd.DataFrame) -> dict:
    """Write down what a training would of these rows."""
    flow = trace_losses(rows, []) | {"joined": [], "parts": {}}
    for part, own in rows.groupby("split"):
        known = own[own["label"] != ""]
        flow["parts"][part] = count_units(own) | {
            "samples": len(own), "unlabelled": len(own) - len(known),
            "per_class": {c: int((known["label"] == c).sum()) for c in CLASSES},
            "patients_per_class": {
                c: known.loc[known["label"] == c, "patient"].nunique() for c in CLASSES
            },
        }  # fmt: skip
    counts = {part: {"images": h["images"], "patients": h["patients"]}
              for part, h in flow["parts"].items()}  # fmt: skip
    nothing = {"patients": 0, "images": 0}
    return {"mode": "patient", "counts": counts, "overlaps": nothing, "remaining": nothing,
            "flow": flow, "notes": ["only 2 patients of 'sick' in val"]}  # fmt: skip


def write(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content))


@pytest.fixture
def change():
    """Change a JSON file of a run: keys to new values, None takes a key away."""

    def change_file(path: Path, **changes: object) -> None:
        content = json.loads(path.read_text())
        for key, value in changes.items():
            content[key] = value
            if value is None:
                del content[key]
        write(path, content)

    return change_file
