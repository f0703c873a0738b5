"""A search that survives: shared, resumed, its failed trials counted and named."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

import medvision.files as files
from medvision.training import fit
from medvision.training.search import trials

optuna = pytest.importorskip("optuna")
from omegaconf import OmegaConf  # noqa: E402

from medvision.errors import MedvisionError, Stopped  # noqa: E402
from medvision.training.config import conf_folder  # noqa: E402
from medvision.training.search.space import read_space  # noqa: E402
from medvision.training.search.trials import Search, open_study, resumed, run_trials  # noqa: E402

SPACE = {"lr": "tag(log,interval(1e-4,1e-2))", "dropout": "interval(0,0.5)"}


@pytest.fixture
def search(tmp_path):
    """A search of three trials in a folder of its own."""
    settings = OmegaConf.load(conf_folder() / "tune.yaml")
    settings.trials = 3
    words = ["experiment=x", "test=false"]
    return Search(
        [], words, SPACE, read_space(SPACE), "val/auroc", "max", "0a", tmp_path / "s", settings
    )


@pytest.fixture
def trained(monkeypatch):
    """Trainings that take no time: the words of each; a value, an error or a function answers."""
    book = SimpleNamespace(seen=[], answers={})

    def train(config, words, callbacks, *, cell):
        assert cell
        assert words[:2] == config == ["experiment=x", "test=false"]
        book.seen.append(tuple(words[2:]))
        answer = book.answers.get(len(book.seen) - 1, 0.5)
        if callable(answer):
            answer = answer(callbacks[0])
        if isinstance(answer, BaseException):
            raise answer
        return answer

    monkeypatch.setattr(fit, "train", train)
    monkeypatch.setattr(trials, "compose", lambda flags, words: words[:2])
    return book


def go(search, **settings):
    """Do what a process does between planning and the table; return the study."""
    merged = OmegaConf.merge(search.settings, settings)
    search = replace(search, settings=merged)
    study = open_study(search)
    run_trials(search, study)
    return study


def states(study):
    return [trial.state.name for trial in study.trials]


def test_as_many_trials_as_asked_for_over_all_starts(search, trained):
    assert states(go(search)) == ["COMPLETE"] * 3
    assert states(go(search)) == ["COMPLETE"] * 3
    assert len(trained.seen) == 3
    assert states(go(search, trials=5)) == ["COMPLETE"] * 5
    assert len(set(trained.seen)) == len(trained.seen) == 5


def test_a_crash_or_nan_is_a_failed_trial_and_the_others_go_on(search, trained, capsys):
    trained.answers |= {
        0: RuntimeError("a planted crash"),
        1: float("nan"),
        2: MedvisionError("/data/Quennell 1.png is broken"),
    }
    study = go(search, trials=4)
    assert states(study) == ["FAIL", "FAIL", "FAIL", "COMPLETE"]
    told = capsys.readouterr().err
    assert "this trial failed: RuntimeError: a planted crash" in told
    assert "this trial failed: /data/Quennell 1.png is broken" in told
    reasons = [trial.user_attrs.get("reason", "") for trial in study.trials]
    assert "a planted crash" in reasons[0]
    assert reasons[1:] == ["val/auroc was not a number", "… is broken", ""]
    assert b"Quennell" not in (search.folder / "study.log").read_bytes()


def test_what_falls_behind_is_pruned_by_what_its_epochs_reported(search, trained):
    def run(value):
        def answer(prune):
            for epoch in range(3):
                prune.report(value, epoch)
                if prune.should_prune():
                    return Stopped(f"pruned after epoch {epoch}")
            return value

        return answer

    trained.answers |= {0: run(0.75), 1: run(0.5), 2: run(0.875)}
    pruner = {"n_startup_trials": 1, "n_warmup_steps": 1}
    study = go(search, pruner=pruner)
    assert states(study) == ["COMPLETE", "PRUNED", "COMPLETE"]
    assert study.trials[1].intermediate_values == {0: 0.5, 1: 0.5}
    assert study.trials[1].user_attrs["reason"] == "pruned after epoch 1"
    assert study.best_trial.number == 2


def test_a_loss_is_searched_downwards(search, trained):
    trained.answers |= {0: 0.5, 1: 0.25, 2: 0.75}
    assert go(replace(search, monitor="val/loss", better="min")).best_trial.number == 1


def test_a_full_disk_ends_the_search_and_leaves_the_trial_to_be_resumed(search, trained):
    trained.answers[1] = files.explain_refusal(OSError(28, "No space left on device"), "last.ckpt")
    trained.answers[1].__cause__ = OSError(28, "No space left on device")
    with pytest.raises(MedvisionError, match="the disk is full"):
        go(search, trials=2)
    assert states(go(search, trials=2)) == ["COMPLETE", "FAIL", "COMPLETE"]
    assert trained.seen[1] == trained.seen[2]


def test_an_interrupted_search_draws_what_an_uninterrupted_one_does(search, trained, tmp_path):
    def stop(prune):
        prune.report(0.75, 0)
        return KeyboardInterrupt()

    steady = {"trials": 6, "sampler": {"n_startup_trials": 2}}
    go(replace(search, folder=tmp_path / "whole"), **steady)
    whole = list(trained.seen)
    assert len(set(whole)) == 6
    trained.seen.clear()
    trained.answers |= {2: stop, 3: stop}
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            go(search, **steady)
    study = go(search, **steady)
    assert trained.seen == [*whole[:3], whole[2], *whole[2:]]
    assert states(study) == ["COMPLETE", "COMPLETE", "FAIL", "FAIL", *["COMPLETE"] * 4]
    assert resumed(study) == {2, 3}
    assert study.trials[4].intermediate_values == {0: 0.75}


def test_a_kill_between_queue_and_verdict_queues_once(search, trained):
    trained.answers[0] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        go(search, trials=1)
    study = open_study(search)
    optuna.storages.RetryHeartbeatStaleTrialCallback()(study, study.trials[0])
    assert states(go(search, trials=1)) == ["FAIL", "COMPLETE"]


def test_a_trial_under_way_elsewhere_counts_and_is_left_alone(search, trained):
    def elsewhere(prune):
        trained.answers[1] = AssertionError("this trial belongs to another process")
        assert states(go(search, trials=1)) == ["RUNNING"]
        return 0.5

    trained.answers[0] = elsewhere
    assert states(go(search, trials=1)) == ["COMPLETE"]
    assert len(trained.seen) == 1


def test_a_line_that_a_full_disk_cut_off_spoils_no_study(search, trained):
    go(search, trials=1)
    with (search.folder / "study.log").open("a") as journal:
        journal.write('{"op_code":4,"worker')
    assert states(go(search, trials=2)) == ["COMPLETE"] * 2


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({"monitor": "val/loss"}, "of val/auroc, not val/loss"),
        ({"swept": {"lr": SPACE["lr"]}}, "of dropout=interval(0,0.5), not one value"),
        ({"swept": SPACE | {"l1": "0,1"}}, "of l1=one value, not 0,1"),
        ({"base": "0b", "words": ["test=false"]}, "with the words experiment=x test=false"),
        ({"base": "0b"}, "with the same words, but other files"),
    ],
)
def test_another_search_in_the_same_folder_is_refused(search, change, difference):
    open_study(search)
    with pytest.raises(MedvisionError) as caught:
        open_study(replace(search, **change))
    assert f"{search.folder} holds another search ({difference}" in str(caught.value)
    assert "give this one a folder of its own, such as name=s-2" in str(caught.value)


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_a_sampler_that_enumerates_ends_the_search_when_it_is_through(search, trained):
    swept = {"blocks": "1,2"}
    few = replace(search, swept=swept, space=read_space(swept))
    few.settings.sampler = {"_target_": "optuna.samplers.BruteForceSampler", "seed": 0}
    assert states(go(few, trials=9)) == ["COMPLETE"] * 2
    assert sorted(trained.seen) == [("blocks=1",), ("blocks=2",)]


def test_null_is_the_default_sampler_and_no_pruning(search, trained):
    study = go(search, sampler=None, pruner=None)
    assert isinstance(study.sampler, optuna.samplers.TPESampler)
    assert isinstance(study.pruner, optuna.pruners.NopPruner)


def test_no_trial_begins_after_the_timeout(search, trained):
    assert states(go(search, timeout=1e-9)) == []
    assert trained.seen == []
