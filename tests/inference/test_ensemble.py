"""Members of an ensemble: whom the words name, who may stand together, and where all cut."""

from dataclasses import replace
from pathlib import Path

import pytest

import medvision.files as files
from medvision.errors import MedvisionError
from medvision.inference.ensemble import (
    Ensemble,
    check_agreement,
    find_members,
    join,
    load_ensemble,
)
from medvision.model import Model
from medvision.nets.convnet import ConvNet
from medvision.runs import Run


def model(kind="binary", classes=("a", "b"), **facts) -> Model:
    target = {"classes": list(classes), "kind": kind, "negative": None, "rename": {}}
    inputs = {"reader": {}, "unit": None, "tabular": None}
    net = ConvNet(2, 1, widths=(4,))
    return Model(net, {}, "classification", target, inputs, decision=facts)


@pytest.fixture
def sweep(apart: Path) -> Path:
    """Three finished runs of a sweep, and one moved aside."""
    for name in ("seed=0-aa", "seed=1-bb", "seed=2-cc", "seed=0-aa~1"):
        files.write_json(apart / "sweep" / name / "record.json", {"status": "done"})
    return apart / "sweep"


def names(runs: list[Run]) -> list[str]:
    return [run.folder.name for run in runs]


def test_sweeps_patterns_and_runs_are_laid_out_flat_and_each_counts_once(sweep):
    every = ["seed=0-aa", "seed=1-bb", "seed=2-cc"]
    assert names(find_members(["sweep"])) == every
    assert names(find_members([str(sweep)])) == every
    assert names(find_members(["sweep/*=1*", "sweep/*"])) == ["seed=1-bb", *every[::2]]
    assert names(find_members(["sweep", "seed=0-aa"])) == every
    assert names(find_members(["seed=2", "sweep/seed=0-aa"])) == ["seed=2-cc", "seed=0-aa"]


def test_a_run_named_twice_is_a_mistake(sweep):
    with pytest.raises(MedvisionError, match="names a run twice; name each member once"):
        find_members(["seed=0", f"{sweep}/seed=0-aa"])


def test_members_that_have_not_finished_are_all_named(sweep):
    Run(sweep / "seed=1-bb").note(status="failed")
    (sweep / "seed=2-cc" / "record.json").write_text("{}")
    with pytest.raises(MedvisionError) as told:
        find_members(["sweep"])
    assert str(told.value) == (
        "2 of 3 members have not finished: sweep/seed=1-bb (failed); sweep/seed=2-cc (no status). "
        "Give their training command again, or name the finished runs alone in runs=[A,B]"
    )


@pytest.mark.parametrize(("run", "runs"), [(None, None), (None, []), ("a", ["b"])])
def test_one_run_or_several_but_not_both(run, runs):
    with pytest.raises(MedvisionError, match=r"evaluate needs run=… or, for an ensemble, runs="):
        load_ensemble("evaluate", run, runs)


@pytest.mark.parametrize(
    ("other", "text"),
    [
        (model(classes=("b", "a")), r"not predict the same classes: /x: a, b \(binary\); /y: b, a"),
        (model("multilabel"), "not predict the same classes"),
        (model(rule="f1"), r"different operating points \(f1, youden\), whose mean means nothing"),
    ],
)
def test_what_cannot_be_averaged_is_refused(other, text):
    with pytest.raises(MedvisionError, match=text):
        check_agreement(Ensemble([Run(Path("/x")), Run(Path("/y"))], [model(), other]))


def test_the_likeliest_class_needs_no_operating_point():
    several = [model("multiclass", rule=rule) for rule in ("youden", "f1")]
    check_agreement(Ensemble([Run(Path("/x")), Run(Path("/y"))], several))
    assert join(several).threshold is None


@pytest.mark.parametrize(
    ("kind", "thresholds", "mean"),
    [
        ("binary", (0.2, 0.5), 0.35),
        ("multilabel", ([0.2, 0.4], [0.4, 0.9]), [0.3, 0.65]),
    ],
)
def test_all_cut_at_the_mean_threshold_whoever_comes_first(kind, thresholds, mean):
    first, second = (model(kind, threshold=threshold) for threshold in thresholds)
    for members in ([first, second], [second, first]):
        assert join(members).threshold == pytest.approx(mean)
    assert join([first]).threshold == first.threshold
    assert first.threshold == thresholds[0]  # nobody's own threshold moves


def test_the_stamp_says_how_the_numbers_came_about():
    runs = [Run(Path("/x")), Run(Path("/y"))]
    cut = model(threshold=0.5)
    text = "ensemble of 2 runs: mean of calibrated probabilities"
    assert (
        Ensemble(runs, [cut, replace(cut)]).stamp == f"{text}, cut at the mean of their thresholds"
    )
    assert Ensemble(runs, [model("multiclass"), model("multiclass")]).stamp == text
    assert Ensemble(runs[:1], [model("multiclass")]).stamp.startswith("ensemble of 1 run: ")
