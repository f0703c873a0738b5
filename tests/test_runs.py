import subprocess
import sys
from pathlib import Path

import pytest

import medvision.files as files
from medvision import runs
from medvision.errors import MedvisionError
from medvision.runs import Run, claimed, find_run, prepare_folder, run_key

CONFIG = {
    "name": "cnn", "seed": 0, "test": True, "rerun": False, "monitor": "val/auroc",
    "allocator": "keep",
    "data": {"manifest": "a.csv", "source": {"name": "phantom"}, "extra": [], "workers": None,
             "residency": "auto", "reader": {"size": [32, 32]}, "split_seed": 0},
    "model": {"weights": None, "net": {"widths": [8, 16]}},
    "trainer": {"max_epochs": 3, "enable_progress_bar": True},
}  # fmt: skip


def changed(path, value):
    config = {k: dict(v) if isinstance(v, dict) else v for k, v in CONFIG.items()}
    *way, last = path.split(".")
    place = config
    for key in way:
        place[key] = dict(place[key])
        place = place[key]
    place[last] = value
    return config


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("name", "other"), ("rerun", True), ("test", False), ("data.manifest", "/else/b.csv"),
        ("data.source", None), ("data.extra", ["x.csv"]), ("data.workers", 3),
        ("model.weights", "w.pt"), ("allocator", "system"), ("data.residency", "host"),
        ("trainer.enable_progress_bar", False), ("trainer.log_every_n_steps", 5), ("threads", 1),
    ],
)  # fmt: skip
def test_places_and_comforts_are_not_in_the_key(path, value):
    assert run_key([], changed(path, value), ["d"]) == run_key([], CONFIG, ["d"])
    words = [f"{path}={value}", f"++{path}={value}", "experiment=cnn"]
    assert run_key(words, CONFIG, ["d"]) == run_key([], CONFIG, ["d"])


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("seed", 1), ("monitor", "val/loss"), ("data.reader.size", [64, 64]),
        ("data.split_seed", 1), ("model.net.widths", [8]), ("trainer.max_epochs", 4),
    ],
)  # fmt: skip
def test_whatever_decides_the_result_is_in_the_key(path, value):
    assert run_key([], changed(path, value), ["d"]) != run_key([], CONFIG, ["d"])


@pytest.mark.parametrize("off", [False, "auto"])
def test_compiling_is_in_the_key_where_it_is_done(off):
    plain, words = run_key([], CONFIG, ["d"]), [f"compile={str(off).lower()}"]
    assert run_key(words, CONFIG | {"compile": off}, ["d"]) == plain
    keys = {run_key([], CONFIG | {"compile": how}, ["d"]) for how in (True, "reduce-overhead")}
    assert len(keys | {plain}) == 3
    assert run_key(["compile=true"], CONFIG | {"compile": True}, ["d"]).startswith("compile=true-")


def test_the_data_are_in_the_key_by_their_digests():
    keys = {run_key([], CONFIG, digests) for digests in (["d"], ["e"], ["d", "e"], ["e", "d"])}
    assert len(keys) == 4


def test_a_key_is_readable_and_fits_a_file_system(tmp_path):
    words = ["seed=3", "data.fold=1", "experiment=cnn", "+model.net.norm=group"]
    key = run_key(words, CONFIG, ["d"])
    assert key.startswith("seed=3,data.fold=1,model.net.norm=group-")
    assert key == run_key(words[::-1], CONFIG, ["d"])  # the same job, typed in another order
    assert len(run_key([], CONFIG, ["d"])) == 8
    long = run_key([f"model.note={'肺' * 200}"], CONFIG, [])
    Run(tmp_path / f"{long}~1").note(status="done")
    with claimed(Run(tmp_path / long)):
        pass
    assert len(long) <= 89


def finished(folder, status="done", **facts):
    run = Run(folder)
    run.note(status=status, **facts)
    return run


@pytest.mark.parametrize(
    "name",
    ["../../x", "/tmp/x", "a/b", "a\\b", "_joint", "seed=1~1", "", ".hidden", "s*", "\x1b[2J"],
)
def test_a_name_that_leads_elsewhere_is_refused(name):
    with pytest.raises(MedvisionError, match="cannot name a folder under") as told:
        runs.name_folder(name)
    assert "\x1b" not in str(told.value)


@pytest.mark.parametrize("name", ["a", "lr,0.1", "über uns", "2", "cnn+x=1"])
def test_a_name_of_one_word_is_a_folder(name):
    assert runs.name_folder(name).name == name


def test_a_record_is_added_to(tmp_path):
    run = Run(tmp_path / "run")
    assert run.record == {}
    assert run.status is None
    run.note(status="running", seed=3)
    run.note(status="done")
    assert run.record == {"status": "done", "seed": 3, "mac": run.record["mac"]}


def test_what_the_same_command_means_now(tmp_path):
    folder = tmp_path / "runs" / "key"
    assert prepare_folder(Run(folder), rerun=False) == "new"
    finished(folder)
    assert prepare_folder(Run(folder), rerun=False) == "done"
    assert prepare_folder(Run(folder), rerun=True) == "new"
    assert Run(folder.with_name("key~1")).status == "done"
    assert not folder.exists()


@pytest.mark.parametrize("status", ["running", "interrupted"])
def test_an_unfinished_run_resumes_from_its_checkpoint_or_starts_anew(tmp_path, status):
    run = finished(tmp_path / "key", status)
    assert prepare_folder(run, rerun=False) == "new"
    assert not run.folder.exists()  # no epoch had ended
    run = finished(tmp_path / "key", status)
    files.write_text(run.last_checkpoint, "weights")
    assert prepare_folder(run, rerun=False) == "resume"
    assert run.last_checkpoint.exists()


def test_a_failed_run_is_moved_aside_and_keeps_its_reason(tmp_path):
    for number in (1, 2):
        run = finished(tmp_path / "key", "failed", reason=f"reason {number}")
        files.write_text(run.last_checkpoint, "weights")
        assert prepare_folder(run, rerun=False) == "new"
        assert Run(tmp_path / f"key~{number}").record["reason"] == f"reason {number}"


@pytest.fixture
def known(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDVISION_RUNS", str(tmp_path / "runs"))
    monkeypatch.chdir(tmp_path)
    names = ("cnn/seed=0-aaaa1111", "cnn/seed=1-bbbb2222", "vit/seed=0-cccc3333")
    hidden = ("vit/seed=0-cccc3333~1", "_joint/compare-dddd4444")
    for age, name in enumerate((*names, *hidden)):
        record = {"status": "done", "started": f"2030-01-01T00:00:0{age}Z"}
        files.write_json(tmp_path / "runs" / name / "record.json", record)
    return tmp_path / "runs"


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("cnn/seed=0-aaaa1111", "cnn/seed=0-aaaa1111"),
        ("seed=1-bbbb2222", "cnn/seed=1-bbbb2222"),
        ("seed=1", "cnn/seed=1-bbbb2222"),
        ("vit", "vit/seed=0-cccc3333"),
        ("vit/seed", "vit/seed=0-cccc3333"),
        ("last", "vit/seed=0-cccc3333"),
        ("runs/cnn/seed=0-aaaa1111", "cnn/seed=0-aaaa1111"),
        ("runs/vit/seed=0-cccc3333~1", "vit/seed=0-cccc3333~1"),
    ],
)
def test_a_run_is_found_by_path_last_or_beginning(known, name, found):
    assert find_run(name).folder == known / found


def test_the_last_run_is_the_finished_one_that_started_last(known):
    first, later = (Run(known / "cnn" / name) for name in ("seed=0-aaaa1111", "seed=1-bbbb2222"))
    first.note(test_openings=[])  # written to since, but not started
    assert find_run("last").folder.parent.name == "vit"
    later.note(started="2031-01-01T00:00:00Z", status="failed")
    assert find_run("last").folder.parent.name == "vit"
    first.note(started="2031-01-01T00:00:00Z")
    assert find_run("last").folder == first.folder


def test_openings_of_the_test_part_outlive_a_repetition(tmp_path):
    run = finished(tmp_path / "key", test_openings=[{"model": "a"}])
    assert prepare_folder(run, rerun=True) == "new"
    assert run.record == {"test_openings": [{"model": "a"}], "mac": run.record["mac"]}
    assert Run(tmp_path / "key~1").status == "done"


def test_no_run_or_several_are_named(known):
    with pytest.raises(MedvisionError, match=r"names several runs .*cnn/seed=0-aaaa1111, "):
        find_run("cnn")
    with pytest.raises(MedvisionError, match=r"run=resnet names no run .*one of: cnn/seed=0"):
        find_run("resnet")


def test_without_any_run_the_way_out_is_to_train(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDVISION_RUNS", str(tmp_path / "none"))
    with pytest.raises(MedvisionError, match=r"there is no run under .*medvision train"):
        find_run("last")


def test_a_second_process_is_refused(tmp_path):
    run = Run(tmp_path / "runs" / "key")
    code = (
        "from pathlib import Path; from medvision.runs import Run, claimed\n"
        f"with claimed(Run(Path({str(run.folder)!r}))): pass\n"
    )
    with claimed(run):
        second = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert second.returncode == 1
    assert f"another process is working in {run.folder}; wait for it" in second.stderr
    third = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert third.returncode == 0, third.stderr
    assert not run.folder.exists()  # the lock lies beside it


def test_a_setting_is_no_seed_fold_or_place():
    config = {"seed": 0, "lr": 0.1, "data": {"fold": 0, "manifest": "a"}, "name": "x"}
    again = {"seed": 1, "lr": 0.1, "data": {"fold": 1, "manifest": "b"}, "name": "y"}
    assert runs.name_setting(config) == runs.name_setting(again)
    assert runs.name_setting(config) != runs.name_setting(config | {"lr": 0.2})


def test_paths_of_a_run_lie_in_its_folder():
    run = Run(Path("runs/a/b"))
    assert run.predictions("val") == Path("runs/a/b/predictions/val.csv")
    assert run.checkpoints == (run.best_checkpoint, run.last_checkpoint)
