"""What docs/how_to shows is whole: its files go where they say, and its commands run."""

import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
ADDITIONS = {  # its section, which stands on a page of docs/how_to
    "A net": "own_net", "A data set": "own_data", "A source": "own_data",
    "Your own task": "own_task", "An experiment": "sweeps",
}  # fmt: skip
SMALLER = [
    "data.source.patients=30", "data.source.slices=3", "data.source.size=32",
    "data.source.difficulty=0", "data.reader.size=[32,32]",
]  # fmt: skip
QUICK = ["data.workers=1", "data.batch_size=8", "threads=1"]


class Addition(NamedTuple):
    """A section: its files by place, and its commands."""

    files: dict[str, str]
    commands: list[list[str]]


def read_addition(title: str) -> Addition:
    page = (ROOT / "docs" / "how_to" / f"{ADDITIONS[title]}.md").read_text(encoding="utf-8")
    section = re.split(rf"^#+ {title}\n", page, flags=re.MULTILINE)[1].partition("\n## ")[0]
    blocks = re.findall(r"^```(\w+) ?(\S*)\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)
    lines = [line for kind, _, text in blocks if kind == "bash" for line in text.splitlines()]
    return Addition(
        {place: text for kind, place, text in blocks if kind in ("python", "yaml")},
        [shlex.split(line)[1:] for line in lines],
    )


def write_files(addition: Addition, top: Path) -> None:
    for place, text in addition.files.items():
        (top / place).parent.mkdir(parents=True, exist_ok=True)
        (top / place).write_text(text, encoding="utf-8")


def shrink(words: list[str]) -> list[str]:
    """Make a training on the phantom one of seconds."""
    if words[0] != "train":
        return words
    foreign = any(word.startswith("data=") for word in words)
    return [*words, *QUICK, *([] if foreign else SMALLER)]


def draw_images(top: Path) -> None:
    """Make what the examples read: two class folders of photographs, and described scans."""
    rng = np.random.default_rng(0)
    (top / "scans").mkdir()
    for number in range(60):
        kind = number % 2
        folder = top / "moles" / ("naevus", "melanoma")[kind]
        folder.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 120, (40, 40, 3), dtype=np.uint8)
        pixels[10:20, 10:20] += np.uint8(100 * kind)
        cv2.imwrite(str(folder / f"{number // 2:04d}_{('left', 'right')[kind]}.png"), pixels)
        cv2.imwrite(str(top / "scans" / f"{number:03d}.png"), pixels[..., 0])
        said = {"patient": f"P{number // 2}", "label": ("benign", "malignant")[kind]}
        (top / "scans" / f"{number:03d}.json").write_text(json.dumps(said))


@pytest.fixture(autouse=True)
def _forget_added_modules():
    known = set(sys.modules)
    yield
    for name in set(sys.modules) - known:
        if name.startswith("medvision."):
            del sys.modules[name]


@pytest.fixture
def overlay(tmp_path, apart, monkeypatch):
    """`overlay(addition)` lays its files over the package, and returns the folder of its conf."""
    draw_images(tmp_path)
    monkeypatch.chdir(tmp_path)

    def lay(addition: Addition) -> Path:
        write_files(addition, tmp_path)
        for folder in (tmp_path / "src" / "medvision").rglob("*/"):
            room = ".".join(folder.relative_to(tmp_path / "src").parts)
            package = importlib.import_module(room)
            monkeypatch.setattr(package, "__path__", [*package.__path__, str(folder)])
        (tmp_path / "conf").mkdir(exist_ok=True)
        return tmp_path / "conf"

    return lay


@pytest.mark.parametrize("title", ADDITIONS)
def test_an_addition_works_as_it_is_shown(title, overlay, apart, medvision):
    addition = read_addition(title)
    if title == "An experiment":  # it trains the task that was added before
        overlay(read_addition("Your own task"))
    conf = overlay(addition)
    assert addition.files
    assert addition.commands
    for words in addition.commands:
        flags = ["--config-dir", str(conf)] if words[0] == "train" else []
        done = medvision(words[0], *flags, *shrink(words)[1:])
        assert done.status == 0, done.err
    (folder,) = (path.parent for path in apart.glob("*/*/metrics.json"))
    assert json.loads((folder / "record.json").read_text())["status"] == "done"
    assert json.loads((folder / "metrics.json").read_text())["val"]["auroc"]["value"] is not None
    if title == "Your own task":
        assert "val/grades_apart" in (folder / "history.csv").read_text().splitlines()[0]
    for place in addition.files:
        told = (folder / "config.yaml").read_text() + (folder / "record.json").read_text()
        assert Path(place).stem in told or title == "A source", place


def test_the_added_source_reads_patients_and_labels(overlay, medvision, tmp_path):
    addition = read_addition("A source")
    overlay(addition)
    assert medvision(*addition.commands[0], "deidentify=false").status == 0
    lines = (tmp_path / "prepared" / "manifest.csv").read_text().splitlines()
    assert len(lines) == 61
    assert any("scans/000.png,P0,benign" in line for line in lines), lines[:2]
    done = medvision(*addition.commands[0][:-1], "output=other", "columns.patient=case")
    assert done.status == 2
    assert "names no patient; give columns.patient=KEY" in done.err


def test_what_is_shown_passes_ruff(tmp_path):
    for title in ADDITIONS:
        write_files(read_addition(title), tmp_path)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    ours = ["--config", "lint.isort.known-first-party=['medvision']"]
    for words in (["check", *ours], ["format", "--check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *words, "--no-cache", "."],
            cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout


@pytest.fixture
def project(tmp_path):
    """A copy of the project with all additions in place."""
    for name in ("src", "conf"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    draw_images(tmp_path)
    for title in ADDITIONS:
        write_files(read_addition(title), tmp_path)
    return tmp_path


def run_in(project: Path, *words: str) -> None:
    there = os.environ | {"PYTHONPATH": str(project / "src")}
    done = subprocess.run(
        [sys.executable, "-m", *words],
        cwd=project, env=there, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_all_additions_together_pass_the_types(project):
    run_in(project, "mypy", "--cache-dir", str(project / "types"))


@pytest.mark.slow
def test_a_source_works_in_a_copy_of_the_project(project, apart):
    """As a contributor works: files in the tree, each command a process of its own."""
    for words in read_addition("A source").commands:
        run_in(project, "medvision", *shrink(words))
    assert len(list(apart.glob("*/*/report.html"))) == 1
