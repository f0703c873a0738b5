"""Imports point one way, tasks do not know each other, and folders stay small enough to read."""

import ast
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "medvision"
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"][
    "importlinter"
]["contracts"]
HEAVY = ("torch", "torchvision", "torchmetrics", "pytorch_lightning", "lightning")
MOST_FILES = {"commands": 25}  # where a file is a command


def lint(source: Path) -> subprocess.CompletedProcess[str]:
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache", "--config",
               ROOT / "pyproject.toml"]  # fmt: skip
    ours = {"PYTHONPATH": str(source), "PATH": "/usr/bin:/bin"}
    return subprocess.run(command, capture_output=True, text=True, cwd=source, env=ours)


def test_imports_point_one_way():
    whole = lint(ROOT / "src")
    assert whole.returncode == 0, whole.stdout + whole.stderr


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("nets/convnet.py", "from medvision.data.store.reader import Reader"),
        ("losses/classification.py", "import medvision.runs"),
        ("augment/draw.py", "from medvision.nets import convnet"),
        ("data/splits/splits.py", "from medvision.tasks.task import concatenate"),
        ("evaluation/subgroups.py", "from medvision.tasks.classification import task"),
        ("callbacks/replay.py", "from medvision.training.fit import train"),
        ("runs.py", "from medvision.model import load_model"),
        ("files.py", "def f():\n    from medvision.runs import Run"),
    ],
)
def test_the_contract_notices(tmp_path, file, line):
    copied = tmp_path / "medvision"
    shutil.copytree(PACKAGE, copied, ignore=shutil.ignore_patterns("__pycache__"))
    with (copied / file).open("a", encoding="utf-8") as stream:
        stream.write(f"\n{line}\n")
    broken = lint(tmp_path)
    assert broken.returncode == 1
    assert "medvision." + file.removesuffix(".py").replace("/", ".") in broken.stdout


def test_the_contract_names_every_task():
    folders = {f"medvision.tasks.{path.parent.name}" for path in PACKAGE.glob("tasks/*/task.py")}
    held = [set(c["forbidden_modules"]) for c in CONTRACTS if c["type"] == "forbidden"]
    assert held == [folders]


def imports_at_the_top(path: Path) -> Iterator[str]:
    """Name the packages that importing a file imports, but for types."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").partition(".")[0]


@pytest.mark.parametrize("room", ["evaluation", "stats", "identity.py", "files.py", "errors.py"])
def test_a_report_does_not_wait_for_torch(room):
    paths = [PACKAGE / room] if room.endswith(".py") else [*(PACKAGE / room).rglob("*.py")]
    assert paths
    assert {p.name for p in paths if {*HEAVY} & {*imports_at_the_top(p)}} <= {"saliency.py"}


def test_nets_know_no_lightning():
    for path in PACKAGE.glob("nets/*.py"):
        assert "pytorch_lightning" not in path.read_text(encoding="utf-8"), path.name


def test_no_folder_holds_more_than_one_can_look_over():
    for folder in [PACKAGE, *(path for path in PACKAGE.rglob("*") if path.is_dir())]:
        files = [path for path in folder.glob("*.py") if path.name != "__init__.py"]
        assert len(files) <= MOST_FILES.get(folder.name, 15), folder


def nodes_that_run(node: ast.AST) -> Iterator[ast.AST]:
    """Walk a file but for what is imported for its types alone."""
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        return
    yield node
    for child in ast.iter_child_nodes(node):
        yield from nodes_that_run(child)


def test_no_import_goes_in_a_circle():
    """Nor between files of one folder, which layers do not see; imports in functions count."""
    edges: dict[str, set[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
        edges[name] = set()
        for node in nodes_that_run(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("medvision"):
                edges[name] |= {node.module, *(f"{node.module}.{a.name}" for a in node.names)}
            elif isinstance(node, ast.Import):
                edges[name] |= {alias.name for alias in node.names}
    ends = dict.fromkeys(edges, 0)

    def follow(name: str, behind: tuple[str, ...]) -> None:
        assert name not in behind, " -> ".join([*behind[behind.index(name) :], name])
        if ends[name] == 0:
            for other in sorted(edges[name] & edges.keys()):
                follow(other, (*behind, name))
            ends[name] = 1

    for name in edges:
        follow(name, ())
