"""Imports point one way: DESIGN's contract, read from the sources and held by import-linter."""

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

# Room → what it may import of ours, besides itself, `errors` and `files`.
MAY_IMPORT: dict[str, set[str] | None] = {
    "__main__": {"commands"},
    "commands": None,  # everything
    "callbacks": {"evaluation", "model", "nets.encoder", "provenance", "runs"},
    "tasks": {"losses", "evaluation.metrics", "nets.encoder", "nets.transfer"},
    "data": {"augment"},
    "evaluation": {"model", "provenance", "runs"},
    "model": set(),
    "provenance": set(),
    "runs": {"provenance"},
    "nets": set(),
    "losses": set(),
    "augment": set(),
    "files": set(),
    "errors": set(),
}
FOR_ALL = {"errors", "files"}


def rooms(package: Path) -> dict[str, list[Path]]:
    """Room → its files."""
    found: dict[str, list[Path]] = {}
    for path in sorted(package.rglob("*.py")):
        top = path.relative_to(package).parts[0].removesuffix(".py")
        found.setdefault(top, []).append(path)
    found.pop("__init__")
    return found


def imports_of(path: Path) -> Iterator[tuple[int, str]]:
    """Line and dotted name below `medvision` of each import of ours, at any depth of the file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} imports relatively"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            if name.startswith("medvision."):
                yield node.lineno, name.removeprefix("medvision.")


def breaches(package: Path) -> list[str]:
    """Every import the contract forbids, as `file:line imports name`."""
    found = []
    for room, paths in rooms(package).items():
        allowed = MAY_IMPORT[room]
        if allowed is None:
            continue
        open_to = allowed | {room} | (FOR_ALL if room not in FOR_ALL else {"errors"})
        for path in paths:
            found += [
                f"{path.relative_to(package)}:{line} imports {name}"
                for line, name in imports_of(path)
                if not any(name == door or name.startswith(f"{door}.") for door in open_to)
            ]
    return found


def test_every_room_has_its_line_in_the_contract():
    assert set(rooms(PACKAGE)) == set(MAY_IMPORT)


def test_imports_point_one_way():
    assert breaches(PACKAGE) == []


@pytest.mark.parametrize(
    ("room", "line"),
    [
        ("nets/convnet.py", "from medvision.data.store.reader import Reader"),
        ("losses.py", "import medvision.runs"),
        ("augment/draw.py", "from medvision.nets import convnet"),
        ("data/splits.py", "from medvision.tasks.classification.metrics import METRICS"),
        ("tasks/classification.py", "from medvision.evaluation.report import run_report"),
        ("tasks/classification.py", "from medvision.nets.convnet import ConvNet"),
        ("evaluation/metrics.py", "from medvision.tasks.classification.task import Classifier"),
        ("callbacks/replay.py", "from medvision.training.fit import train"),
        ("runs.py", "from medvision.model import load_model"),
        ("files.py", "def f():\n    from medvision.runs import Run"),
    ],
)
def test_the_contract_notices(tmp_path, room, line):
    package = tmp_path / "medvision"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    with (package / room).open("a", encoding="utf-8") as stream:
        stream.write(f"\n{line}\n")
    assert [breach.split(":")[0] for breach in breaches(package)] == [room]


def lint(source: Path) -> subprocess.CompletedProcess[str]:
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache", "--config",
               ROOT / "pyproject.toml"]  # fmt: skip
    ours = {"PYTHONPATH": str(source), "PATH": "/usr/bin:/bin"}
    return subprocess.run(command, capture_output=True, text=True, cwd=source, env=ours)


def test_import_linter_holds_the_same_contract(tmp_path):
    whole = lint(ROOT / "src")
    assert whole.returncode == 0, whole.stdout + whole.stderr
    copied = tmp_path / "medvision"
    shutil.copytree(PACKAGE, copied, ignore=shutil.ignore_patterns("__pycache__"))
    for room, line in (
        ("nets/convnet.py", "from medvision.data.store.reader import Reader"),
        ("tasks/classification.py", "from medvision.evaluation.report import run_report"),
        ("runs.py", "from medvision.model import load_model"),
    ):
        with (copied / room).open("a", encoding="utf-8") as stream:
            stream.write(f"\n{line}\n")
    broken = lint(tmp_path)
    assert broken.returncode == 1
    assert "3 broken" in broken.stdout, broken.stdout


def test_each_room_is_in_both_tables():
    linter = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    held = linter["tool"]["importlinter"]["contracts"]
    sources = {m.removeprefix("medvision.") for c in held for m in c["source_modules"]}
    assert sources == {room for room, allowed in MAY_IMPORT.items() if allowed is not None}
