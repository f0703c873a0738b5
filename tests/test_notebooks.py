"""Notebooks take what commands made: they define nothing, store nothing, and run as written."""

import ast
import json
import re
import shlex
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[1] / "notebooks"
NAMES = ("0_train_in_a_script", "1_look_at_the_data", "2_read_a_run", "3_look_inside_the_gan",
         "4_compare_a_sweep")  # fmt: skip
READER = {
    "data.reader.size": "[32,32]",
    "data.batch_size": "16",
    "data.workers": "1",
    "threads": "1",
}
PHANTOM = READER | {
    "data.source.patients": "40", "data.source.slices": "3", "data.source.size": "32",
    "data.source.difficulty": "0",
}  # fmt: skip
CROWD = PHANTOM | {  # enough of each class to judge a generator by
    "data.source.patients": "120", "data.shares.train": "0.6", "data.shares.val": "0.3",
    "data.shares.test": "0.1",
}  # fmt: skip
NET = {"model.net.widths": "[8,16]", "trainer.max_epochs": "2"}
SMALLER: dict[str, list[dict[str, str]]] = {  # of each command, what makes it a matter of seconds
    "0_train_in_a_script": [
        {"patients": "40", "slices": "3"}, READER | NET | {"data.reader.size": "[64,64]"},
    ],
    "1_look_at_the_data": [{"patients": "24", "slices": "3", "size": "32"}],
    "2_read_a_run": [PHANTOM | NET],
    "3_look_inside_the_gan": [
        CROWD | NET | {"trainer.max_epochs": "20", "augment": "none", "test": "false"},
        CROWD | {
            "data.epoch_size": "64", "model.kimg": "0.128", "model.generator.width": "4",
            "model.critic.width": "4", "model.generator.latent": "8",
        },
    ],
    "4_compare_a_sweep": [PHANTOM | NET | {"model.optimizer.lr": "0.001,0.01", "seed": "0"}],
}  # fmt: skip


def read(name: str) -> Any:
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def commands_of(name: str) -> list[list[str]]:
    """The words of the commands at the top, which make what the notebook reads."""
    (block,) = re.findall(r"```bash\n(.+?)```", read(name).cells[0].source, re.DOTALL)
    return [shlex.split(line.removeprefix("medvision ")) for line in block.splitlines()]


def shrink(words: list[str], smaller: dict[str, str]) -> list[str]:
    kept = [word for word in words if word.partition("=")[0] not in smaller]
    return [*kept, *(f"{key}={value}" for key, value in smaller.items())]


def execute(name: str, place: Path) -> str:
    """Run a notebook beside `runs/` and `prepared/`; return all that it shows."""
    content = read(name)
    (place / "notebooks").mkdir()
    where = {"metadata": {"path": str(place / "notebooks")}}
    NotebookClient(content, timeout=120, resources=where).execute()
    return json.dumps([cell.get("outputs", []) for cell in content.cells])


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A folder in which commands find their places by default, as a user's checkout is."""
    monkeypatch.chdir(tmp_path)
    for name in ("MEDVISION_RUNS", "MEDVISION_CACHE"):
        monkeypatch.delenv(name)
    return tmp_path


def test_the_notebooks_are_there():
    assert sorted(path.stem for path in FOLDER.glob("*.ipynb")) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_defines_nothing_and_uses_medvision(name):
    code = "\n".join(cell.source for cell in read(name).cells if cell.cell_type == "code")
    tree = ast.parse(re.sub(r"^%.*$", "", code, flags=re.MULTILINE))
    made = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
    assert not [node.lineno for node in ast.walk(tree) if isinstance(node, made)]
    froms = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    whole = {a.name for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names}
    assert any(module and module.startswith("medvision") for module in froms | whole)


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_stored_without_output(name):
    content = read(name)
    nbformat.validate(content)
    cells = [cell for cell in content.cells if cell.cell_type == "code"]
    ran = [cell.source for cell in cells if cell.outputs or cell.execution_count is not None]
    assert ran == [], "clear all outputs before you store it: they may show patients"
    assert content.metadata.kernelspec.name == "python3"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        pytest.param("0_train_in_a_script", 0, marks=pytest.mark.slow),
        pytest.param("1_look_at_the_data", 3, marks=pytest.mark.slow),
        pytest.param("2_read_a_run", 6, marks=pytest.mark.slow),
        pytest.param("3_look_inside_the_gan", 7, marks=pytest.mark.slow),
        ("4_compare_a_sweep", 4),
    ],
)
def test_a_notebook_runs_after_the_commands_it_names(name, shown, elsewhere, medvision):
    lines = commands_of(name)
    for words, smaller in zip(lines, SMALLER[name], strict=True):
        done = medvision(*shrink(words, smaller))
        assert done.status == 0, done.err
    output = execute(name, elsewhere)
    assert output.count('"image/png"') >= shown
    assert '"name": "stderr"' not in output
