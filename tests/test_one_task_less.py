"""The tree without one of its tasks: the package imports, helps, and the others train."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).parents[1]
PHANTOM = (
    "data.source.patients=90", "data.source.slices=8", "data.source.size=32", "data.workers=1",
    "threads=1", "trainer=debug",
)  # fmt: skip
RUNS = {
    "classification": ("experiment=cnn_phantom", "data.reader.size=[32,32]", *PHANTOM),
    "generation": ("experiment=dcgan_phantom", *PHANTOM),
    "regression": ("experiment=regression_phantom", "data.reader.size=[32,32]", *PHANTOM),
}


# Each command in one process, which imports its libraries once; their exits come last.
TRAIN = """
import json, sys
from medvision.__main__ import main
exits = []
for words in json.loads(sys.argv[1]):
    try:
        main(["train", *words])
    except SystemExit as end:
        exits.append(end.code)
print(exits)
"""


@pytest.fixture(params=["classification", "generation"])
def without(request, tmp_path):
    """Run a command of a copy of the tree that lacks a task."""
    for name in ("src", "conf"):
        shutil.copytree(TOP / name, tmp_path / name)
    shutil.rmtree(tmp_path / "src" / "medvision" / "tasks" / request.param)
    places = {"MEDVISION_RUNS": str(tmp_path / "runs"), "PYTHONPATH": str(tmp_path / "src")}

    def run(*words):
        command = [sys.executable, *words]
        return subprocess.run(command, env=os.environ | places, capture_output=True, text=True)

    run.task = request.param
    return run


def test_the_tree_stands_without_one_of_its_tasks(without):
    found = without("-c", "import medvision; print(medvision.__file__)")
    assert "tasks" not in found.stderr
    assert found.stdout.startswith(str(Path(found.stdout).parents[1]))
    assert "medvision train" in without("-m", "medvision", "--help").stdout
    others = [[*RUNS[task], f"name={task}"] for task in RUNS.keys() - {without.task}]
    done = without("-c", TRAIN, json.dumps([*others, RUNS[without.task]]))
    assert done.stdout.count("report: ") == len(others), done.stderr
    assert done.stdout.splitlines()[-1] == f"{[0] * len(others) + [2]}"
    assert f"medvision.tasks.{without.task}" in done.stderr
    assert "Traceback" not in done.stderr
