import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from omegaconf import OmegaConf

from medvision.errors import MedvisionError
from medvision.evaluation.comparison.arms import Repeat, align, gather_arms, read_repeats
from medvision.evaluation.comparison.settings import name_settings, show_setting
from medvision.evaluation.comparison.sweep_run import read_sweep_runs
from medvision.evaluation.evaluator import open_evaluator
from medvision.evaluation.predictions import write_predictions
from medvision.files import locked
from medvision.runs import Run

CLASSES = ["normal", "ill"]
BINARY, SEVERAL = (open_evaluator("classification", {"classes": CLASSES, "kind": kind})
                   for kind in ("binary", "multilabel"))  # fmt: skip


def make_run(sweep: Path, *words: str, record: Any = (), config: bool = True, **told: Any) -> Run:
    """Write a run folder; dotted words go into config.yaml, as Hydra would have it."""
    run = Run(sweep / f"run{len(list(sweep.glob('run*'))):02d}")
    content = OmegaConf.create({
        "name": sweep.name, "seed": 0, "monitor": "val/auroc", "test": True,
        "data": {"fold": None, "folds": 5, "split_seed": 0, "manifest": "m.csv", "seed": 0},
        "model": {"net": {"_target_": "nets.ConvNet", "widths": [8]}, "optimizer": {"lr": 0.003}},
    })  # fmt: skip
    for word in words:
        key, _, value = word.partition("=")
        if OmegaConf.is_missing(content, key) or not OmegaConf.is_dict(
            OmegaConf.select(content, key)
        ):
            OmegaConf.update(content, key, OmegaConf.create(f"v: {value}").v, merge=False)
    content.data.seed = content.seed  # as conf/data does
    if config:
        (run.folder).mkdir(parents=True)
        (run.folder / "config.yaml").write_text(OmegaConf.to_yaml(content))
    run.note(**{"status": "done", "monitor": "val/auroc", "overrides": list(words),
                "classes": CLASSES, "kind": "binary", **dict(record), **told})  # fmt: skip
    return run


def make_table(n: int = 12, seed: int = 0, first: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    p = rng.random(n)
    return pd.DataFrame({
        "index": range(n), "dataset": "d", "path": [f"{first + k}.png" for k in range(n)],
        "frame": 0, "patient": [f"p{(first + k) // 2}" for k in range(n)], "series": "",
        "label": [CLASSES[k % 2] for k in range(n)], "logit_normal": -p, "logit_ill": p,
        "prob_normal": 1 - p, "prob_ill": p, "pred": [CLASSES[int(x > 0.4)] for x in p],
    })  # fmt: skip


def test_arms_are_runs_equal_but_for_seed_fold_and_places(tmp_path):
    sweep = tmp_path / "s"
    for lr in ("0.001", "0.003"):
        for seed in (1, 0):
            make_run(sweep, f"model.optimizer.lr={lr}", f"seed={seed}", f"test={seed == 0}")
    make_run(sweep, "model.optimizer.lr=0.001", "seed=0", "data.fold=2", "data.split_seed=1")
    arms = gather_arms(read_sweep_runs([Run(p) for p in sorted(sweep.iterdir())]))
    assert [arm.name for arm in arms] == ["lr=0.001", "lr=0.003"]
    assert arms[0].settings == {"model.optimizer.lr": 0.001}
    assert [cell.place for cell in arms[0].cells] == [(0, 0, None), (1, 0, None), (0, 1, 2)]
    assert len(arms[1].cells) == 2


def test_folds_may_start_from_weights_of_their_own_and_drop_rows_of_their_own(tmp_path):
    def cells(name, *weights):
        return read_sweep_runs([
            make_run(tmp_path / name, f"data.fold={fold}", f"model.weights={text}",
                     manifest=["table", f"pixels of fold {fold}"])
            for fold, text in enumerate(weights)
        ])  # fmt: skip

    own = cells("own", "sizes/data.fold=0", "sizes/data.fold=1")
    (arm,) = gather_arms(own)
    assert [cell.fold for cell in arm.cells] == [0, 1]
    assert len(gather_arms(cells("mixed", "sizes/data.fold=0", "others/data.fold=1"))) == 2
    assert len(gather_arms(cells("foreign", "sizes/data.fold=1", "sizes/data.fold=0"))) == 2
    single = [make_run(tmp_path / "one", f"seed={n}", manifest=["table", f"pixels {n}"])
              for n in (0, 1)]  # fmt: skip
    assert len(gather_arms(read_sweep_runs(single))) == 2


def test_the_only_arm_has_no_name(tmp_path):
    runs = [make_run(tmp_path / "s", f"seed={seed}") for seed in (0, 1)]
    (arm,) = gather_arms(read_sweep_runs(runs))
    assert (arm.name, arm.settings, len(arm.cells)) == ("", {}, 2)


def test_a_refused_job_is_a_cell_of_no_arm(tmp_path):
    words = ("model.optimizer.lr=-1",)
    refused = make_run(tmp_path / "s", *words, config=False, status="failed", reason="too low")
    cells = read_sweep_runs([refused, make_run(tmp_path / "s")])
    (arm,) = gather_arms(cells)
    assert len(arm.cells) == 1
    assert (cells[0].status, cells[0].reason, cells[0].objective) == ("failed", "too low", None)


def test_other_images_make_another_arm_where_the_path_alone_makes_none(tmp_path):
    here = make_run(tmp_path / "s", "data.manifest=a.csv", manifest=["1", "px"])
    moved = make_run(tmp_path / "s", "data.manifest=b.csv", "seed=1", manifest=["1", "px"])
    other = make_run(tmp_path / "s", "data.manifest=c.csv", manifest=["2", "px"])
    arms = gather_arms(read_sweep_runs([here, moved, other]))
    assert [len(arm.cells) for arm in arms] == [2, 1]
    assert arms[1].name == "manifest=c.csv"


def test_a_chosen_group_names_the_arm_not_all_that_follows_from_it(tmp_path):
    one = make_run(tmp_path / "s", "model=cnn", "model.net._target_=nets.CNN")
    other = make_run(tmp_path / "s", "model=vit", "model.net._target_=nets.ViT", "model.x=1")
    for run, model in ((one, "cnn"), (other, "vit")):  # Hydra's words name the group alone
        run.note(overrides=[f"model={model}"])
    assert [a.name for a in gather_arms(read_sweep_runs([one, other]))] == [
        "model=cnn",
        "model=vit",
    ]


def test_without_overrides_the_config_tells_the_arms_apart(tmp_path):
    runs = [
        make_run(tmp_path / "s", "model.net._target_=nets.A", "seed=1", overrides=[]),
        make_run(tmp_path / "s", "model.net._target_=nets.B", overrides=[]),
    ]
    arms = gather_arms(read_sweep_runs(runs))
    assert [arm.name for arm in arms] == ["net=A", "net=B"]
    assert arms[0].settings == {"model.net._target_": "nets.A"}


def test_names_are_short_and_unambiguous():
    rows = [{"optimizer.lr": 0.1, "head.lr": 3e-5, "net.blocks": 2, "x.weights": None}]
    rows.append(rows[0] | {"optimizer.lr": 0.2, "net.blocks": 3})
    names = name_settings(rows)
    assert names[0] == "optimizer.lr=0.1, head.lr=3e-5, blocks=2, weights=null"
    assert name_settings([{f"k{n}": n for n in range(9)}]) == ["k0=0, k1=1, k2=2, k3=3, … (+5)"]
    assert name_settings([{}, {}]) == ["#1", "#2"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(1e9, "1e9"), (1.5e-5, "1.5e-5"), (0.1, "0.1"), (0.0, "0"), (10, "10"), ([8, 0.5], "[8,0.5]"),
     (None, "null"), (True, "true"), ("m.csv", "m.csv"),
     (float("nan"), "nan")],
)  # fmt: skip
def test_settings_are_written_as_typed(value, text):
    assert show_setting(value) == text


def test_a_running_run_without_a_process_has_stopped(tmp_path):
    run = make_run(tmp_path / "s", status="running")
    with locked(run.lock):
        assert read_sweep_runs([run])[0].status == "running"
    assert read_sweep_runs([run])[0].status == "stopped"


@pytest.mark.parametrize("value", [None, float("nan"), float("inf")])
def test_an_objective_that_is_no_number_is_none(tmp_path, value):
    run = make_run(tmp_path / "s")
    (run.folder / "record.json").write_text(json.dumps(run.record | {"objective": value}))
    assert read_sweep_runs([run])[0].objective is None


def make_folds(sweep: Path, seeds: tuple[int, ...] = (0,), folds: int = 3) -> list[Run]:
    runs = []
    for seed in seeds:
        for fold in range(folds):
            run = make_run(sweep, f"seed={seed}", f"data.fold={fold}", f"data.folds={folds}")
            table = make_table(12, seed=100 * seed + fold, first=12 * fold)
            write_predictions(run.predictions("test"), table)
            runs.append(run)
    return runs


def test_folds_of_a_seed_are_put_together_and_kept_as_strata(tmp_path):
    runs = make_folds(tmp_path / "s", seeds=(0, 1))
    (arm,) = gather_arms(read_sweep_runs(runs))
    repeats = read_repeats(arm, "test")
    assert [(r.seed, r.folds, len(r.tables[""])) for r in repeats] == [(0, [0, 1, 2], 36),
                                                                 (1, [0, 1, 2], 36)]  # fmt: skip
    rows = align(repeats, BINARY)
    assert rows.keys == sorted(rows.keys)
    fold_of = {f"{k}.png": str(k // 12) for k in range(36)}
    assert rows.strata == [fold_of[path] for _, path, _ in rows.keys]
    by_path = repeats[1].tables[""].set_index("path")
    expected = by_path.loc[[path for _, path, _ in rows.keys]]
    second = rows.scored[1].arrays
    np.testing.assert_array_equal(second["probs"][:, 1], expected["prob_ill"])
    np.testing.assert_array_equal(second["preds"][:, 1], expected["pred"] == "ill")
    np.testing.assert_array_equal(second["label"], expected["label"] == "ill")
    assert rows.truth == [(label,) for label in expected["label"]]
    assert rows.patients == [("d", patient) for patient in expected["patient"]]


def test_unfinished_cells_and_a_second_run_of_a_place_do_not_count(tmp_path):
    runs = make_folds(tmp_path / "s", folds=3)
    runs[2].note(status="failed")
    again = make_run(tmp_path / "s", "seed=0", "data.fold=1", "data.folds=3")
    write_predictions(again.predictions("test"), make_table(12, seed=9, first=12))
    (arm,) = gather_arms(read_sweep_runs([*runs, again]))
    (repeat,) = read_repeats(arm, "test")
    assert repeat.folds == [0, 1]
    assert len(repeat.tables[""]) == 24
    assert read_repeats(arm, "val") == []


def repeat_of(table: pd.DataFrame, seed: int = 0) -> Repeat:
    return Repeat(seed, 0, [None], {"": table.assign(fold="")})


def test_strata_are_empty_where_the_repeats_split_differently():
    table = make_table()
    one, other = (Repeat(0, s, [0, 1], {"": table.assign(fold=f)})
                  for s, f in ((0, ["0", "1"] * 6), (1, ["0"] * 6 + ["1"] * 6)))  # fmt: skip
    assert set(align([one], BINARY).strata) == {"0", "1"}
    assert align([one, other], BINARY).strata == [""] * 12


def test_unlabelled_rows_are_left_out():
    table = make_table()
    table.loc[3, "label"] = ""
    assert len(align([repeat_of(table)], BINARY).keys) == 11


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"path": "new.png"}, r"different rows \(1 only in the first, 1 only in the second\)"),
        ({"patient": "other"}, "different patients"),
        ({"label": "ill"}, "different annotations"),
    ],
)
def test_align_refuses_repeats_of_other_rows(change, told):
    table = make_table()
    changed = table.copy()
    for column, value in change.items():
        changed.loc[0, column] = value
    with pytest.raises(MedvisionError, match=f"seed=0 split_seed=0 and seed=7.* {told}"):
        align([repeat_of(table), repeat_of(changed, seed=7)], BINARY)


def test_align_refuses_a_row_twice_a_missing_column_and_nothing():
    table = make_table()
    with pytest.raises(MedvisionError, match=r"hold 1 rows twice, such as 0\.png"):
        align([repeat_of(pd.concat([table, table[:1]]))], BINARY)
    with pytest.raises(MedvisionError, match="no column pred"):
        align([repeat_of(table.drop(columns="pred"))], BINARY)
    with pytest.raises(MedvisionError, match="finish a run first"):
        align([], BINARY)


def test_multilabel_decisions_may_be_none_at_all():
    table = make_table(3).assign(label=["ill|normal", "-", "ill"], pred=["", "ill", "normal|ill"])
    rows = align([repeat_of(table)], SEVERAL)
    arrays = rows.scored[0].arrays
    assert arrays["label"].tolist() == [[1, 1], [0, 0], [0, 1]]
    assert arrays["preds"].tolist() == [[False, False], [False, True], [True, True]]
