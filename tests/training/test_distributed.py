import json

import pytest
from filelock import FileLock
from omegaconf import OmegaConf

from medvision.devices import takes_several
from medvision.errors import MedvisionError
from medvision.runs import Run
from medvision.training import distributed

NAMES = ("RANK", "SLURM_PROCID", "NODE_RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE",
         distributed.LAUNCH, *distributed.SCHEDULERS)  # fmt: skip


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(distributed, "_held", [])


@pytest.mark.parametrize(
    ("environment", "rank"),
    [
        ({}, 0), ({"LOCAL_RANK": "0"}, 0), ({"LOCAL_RANK": "2"}, 2), ({"RANK": "5"}, 5),
        ({"SLURM_PROCID": "3"}, 3), ({"RANK": "4", "LOCAL_RANK": "0"}, 4),
    ],
)  # fmt: skip
def test_the_rank_is_read_as_its_starter_says_it(environment, rank, monkeypatch):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert distributed.rank() == rank
    assert distributed.is_leader() is (rank == 0)


def test_a_further_node_does_not_lead(monkeypatch):
    monkeypatch.setenv("NODE_RANK", "1")
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert not distributed.is_leader()


@pytest.mark.parametrize(
    ("devices", "nodes", "several"),
    [(1, 1, False), ("1", 1, False), (2, 1, True), ([0], 1, False), ([0, 1], 1, True),
     ("0,1", 1, True), (1, 2, True), ("auto", 1, False)],
)  # fmt: skip
def test_several_devices_or_nodes_take_several_processes(devices, nodes, several):
    trainer = {"devices": devices, "num_nodes": nodes, "accelerator": "cpu"}
    assert takes_several(OmegaConf.create({"trainer": trainer})) is several


def test_others_take_the_word_of_this_launch_only(tmp_path, monkeypatch):
    run = Run(tmp_path / "sweep" / "key")
    distributed.announce(run, "resume")
    assert distributed.await_decision(run) == "resume"
    monkeypatch.setattr(distributed, "PATIENCE", 0.3)
    monkeypatch.setenv(distributed.LAUNCH, "another launch")
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(MedvisionError, match="rank 1 heard nothing from rank 0"):
        distributed.await_decision(run)


def test_a_restart_by_the_scheduler_is_another_launch(tmp_path, monkeypatch):
    run = Run(tmp_path / "sweep" / "key")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    distributed.announce(run, "new")
    first = json.loads((tmp_path / "sweep" / ".key.launch.json").read_text())
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    distributed.announce(run, "resume")
    second = json.loads((tmp_path / "sweep" / ".key.launch.json").read_text())
    assert first["launch"] != second["launch"]
    assert distributed.LAUNCH not in distributed.os.environ


def test_each_worker_takes_a_free_device_of_those_visible(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDVISION_CACHE", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5,7")
    (tmp_path / "hydra").mkdir()
    taken = FileLock(tmp_path / "hydra" / ".device-2.lock")
    taken.acquire()
    distributed.claim_device()
    assert distributed.os.environ["CUDA_VISIBLE_DEVICES"] == "5"
    distributed.claim_device()  # the worker's next job keeps it
    assert distributed.os.environ["CUDA_VISIBLE_DEVICES"] == "5"
    other = FileLock(tmp_path / "hydra" / ".device-5.lock")
    with pytest.raises(TimeoutError):
        other.acquire(timeout=0)
    taken.release()


def test_one_device_or_none_is_left_as_it_is(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDVISION_CACHE", str(tmp_path))
    for visible in ("", "3"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        distributed.claim_device()
        assert distributed.os.environ["CUDA_VISIBLE_DEVICES"] == visible
    assert not list(tmp_path.rglob("*.lock"))
