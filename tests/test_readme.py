"""The commands of the README are commands: every word of them is one that medvision takes."""

import importlib
import re
import shlex
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from medvision.__main__ import COMMANDS
from medvision.commands.arguments import parse
from medvision.commands.configuration import conf_folder, part_flags, quote
from medvision.commands.tune import read_settings

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "conf").rglob("*.yaml"))]
COMMAND = r"medvision (?:train|tune|prepare|evaluate|predict|generate|compare|report) [^#`\n|]*"
LINES = [
    (page.name, match.group(0).strip())
    for page in PAGES
    for match in re.finditer(COMMAND, page.read_text())
    if "…" not in match.group(0) and "[" not in match.group(0).split("=")[0]
]  # fmt: skip


@pytest.mark.parametrize(("page", "line"), LINES)
def test_a_written_command_is_one_that_is_taken(page, line):
    command, *words = shlex.split(line.removeprefix("medvision ").split("   ")[0])
    assert command in COMMANDS
    if command == "tune":
        _, words = read_settings(words)
    elif command != "train":
        function = importlib.import_module(f"medvision.commands.{command}").run
        assert parse(words, function, command)
        return
    _, overrides = part_flags(words)
    single = [quote(re.sub(r"=([^,'\[]+),.*", r"=\1", word)) for word in overrides]
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        config = compose("train", single)
    assert "monitor" in config  # an unknown key or choice would have raised


def test_the_readme_has_commands_to_check():
    assert sum(page == "README.md" for page, _ in LINES) >= 8
