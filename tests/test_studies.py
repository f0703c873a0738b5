"""Tests of what the scripts of experiments/gan_augmentation draw, copy and say."""

import runpy
import sys
from pathlib import Path

import pandas as pd
import pytest

STUDY = Path(__file__).parents[1] / "experiments" / "gan_augmentation"


def table(normal=8, pneumonia=2):
    """Return training rows of two classes, the first a copy of the one val row."""
    labels = ["normal"] * normal + ["pneumonia"] * pneumonia
    train = pd.DataFrame({"label": labels, "split": "train", "group": range(len(labels))})
    held = pd.DataFrame({"label": ["normal", "pneumonia"], "split": ["val", "test"],
                         "group": [0, 99]})  # fmt: skip
    return pd.concat([train, held], ignore_index=True)


def test_training_rows_are_drawn_by_class_without_copies_of_val():
    draw = runpy.run_path(str(STUDY / "draw.py"))["draw"]
    drawn = draw(table(), {"normal": 3})
    assert drawn["label"].value_counts().to_dict() == {"normal": 3, "pneumonia": 2}
    assert (drawn["split"] == "train").all()
    assert draw(table(), {}).index.tolist() == [*range(1, 10)]  # row 0 is a copy
    with pytest.raises(SystemExit, match="normal=8 cannot be drawn: there are 7 training rows"):
        draw(table(), {"normal": 8})


def test_duplicates_are_as_many_as_the_generated_images_and_of_their_classes():
    choose_rows = runpy.run_path(str(STUDY / "duplicate.py"))["choose_rows"]
    train = table()[lambda rows: rows["split"] == "train"]
    half = pd.Series(choose_rows(train, "0.5"))
    assert train.loc[half, "label"].value_counts().to_dict() == {"normal": 2, "pneumonia": 2}
    whole = pd.Series(choose_rows(train, "1"))
    assert whole.value_counts()[lambda n: n > 1].to_dict() in ({8: 3, 9: 2}, {8: 2, 9: 3})
    filled = pd.Series(choose_rows(train, "balance"))
    assert filled.value_counts().to_dict() == {8: 3, 9: 3}


def test_an_answer_is_made_of_the_verdicts(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(STUDY.parent), *sys.path])
    judge = runpy.run_path(str(STUDY / "judge.py"))
    study = tmp_path / "gan_augmentation"
    study.mkdir()
    page = study / "README.md"
    page.write_text(
        "**Question.** Does it?\n\nRun: `bash run.sh` (minutes).\n\n"
        "<!-- answer -->\n<!-- /answer -->\n"
        "**Verdict.** few: No proven benefit in AUROC: a − b +.001 (-.010, +.012); 98.3 % "
        "intervals over 5 seeds and 9 patients; such a study shows a benefit of .017.\n"
        "From 3 run folders, 2026-11-26, commit 0123456789, torch 2.\n"
    )
    front = [tmp_path.parent / name for name in ("README.md", "README.zh-CN.md")]
    for place in (tmp_path / "README.md", *front):
        place.write_text("<!-- ledger -->\n<!-- /ledger -->\n")
    scope = judge["answer"].__globals__
    monkeypatch.setitem(scope, "PAGE", page)
    monkeypatch.setitem(scope["fill_ledgers"].__globals__, "HERE", tmp_path)
    judge["answer"]()
    sys.modules.pop("tabulate", None)  # torch looks for another module of that name
    ledger = (tmp_path / "README.md").read_text()
    assert "| 2026-11-26 | Does it? | `bash run.sh` | few: No proven benefit in AUROC: " in ledger
    assert "such a study" not in ledger
    assert "9 patients. | 0123456789 |\n" in ledger


def test_the_readme_shows_the_cells_that_a_study_points_at(tmp_path, monkeypatch):
    ledger = runpy.run_path(str(STUDY.parent / "ledger.py"))
    (tmp_path / "one").mkdir()
    page = tmp_path / "one" / "README.md"
    page.write_text(
        "# One\n\n<!-- headline: data, net | AUROC | results | net | AUROC -->\n"
        "<!-- headline: data, plain | accuracy | results | plain | accuracy -->\n\n"
        "<!-- headline: later | AUROC | later | net | AUROC -->\n\n"
        "Run: `make one` (long).\n\n<!-- results -->\n\n"
        "| test | n images (patients) | AUROC | accuracy | AUROC |\n|---|---|---|---|---|\n"
        "| net, seed 0 | 9 (3) | .9 (.8–1.0) | .7 | .1 |\n| net, seed 1 | 9 (3) | .8 | .6 | .1 |\n"
        "| **net, mean** | | **.85** ± .05 | .65 | .1 |\n| plain | 8 (3) | .5 | .4 | .1 |\n\n"
        "From 3 run folders, 2026-11-26, commit 0123456789, abcdef0123, torch 2.\n"
        "<!-- /results -->\n<!-- later -->\n\n<!-- /later -->\n"
    )
    monkeypatch.setitem(ledger["write_results"].__globals__, "HERE", tmp_path)
    net, plain, later = [*ledger["write_results"]()][2:]
    assert net == (
        "| [one](experiments/one/README.md) | data, net | 9 images, 3 patients "
        "| AUROC .9 (.8–1.0) · .8 · .85 ± .05 | `make one` | 0123456789, abcdef0123 |"
    )
    assert "| 8 images, 3 patients | accuracy .4 |" in plain
    assert "| later |  | not run yet | `make one` |  |" in later
    page.write_text(page.read_text().replace("results | plain |", "results | lost |"))
    with pytest.raises(SystemExit, match="no row 'lost' with a column 'accuracy'"):
        list(ledger["write_results"]())


def test_the_ledgers_are_what_the_studies_say():
    ledger = runpy.run_path(str(STUDY.parent / "ledger.py"))
    top = STUDY.parents[1]
    front = {top / name: "write_results" for name in ("README.md", "README.zh-CN.md")}
    for page, write in {STUDY.parent / "README.md": "write_ledger", **front}.items():
        text = page.read_text(encoding="utf-8")
        assert "<!-- ledger -->\n\n" + "\n".join(ledger[write]()) + "\n\n<!-- /ledger -->" in text
