"""The pages say what is so: their commands are taken, their recipes and links are there."""

import importlib
import pkgutil
import re
import shlex
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from medvision.__main__ import COMMANDS
from medvision.commands.arguments import parse
from medvision.commands.tune import read_settings
from medvision.training.config import conf_folder, part_flags, quote

ROOT = Path(__file__).parents[1]
ENGLISH, CHINESE = ROOT / "README.md", ROOT / "README.zh-CN.md"
KERAS, KERAS_CHINESE = ROOT / "docs" / "from_keras.md", ROOT / "docs" / "from_keras.zh-CN.md"
HOW_TO = [ROOT / "docs" / "first_hour.md", *sorted((ROOT / "docs" / "how_to").glob("*.md"))]
PAGES = [ENGLISH, KERAS, *HOW_TO, *sorted((ROOT / "conf").rglob("*.yaml"))]
ADDED = r"patch_mixer|moles|described|grader"  # by files of test_contributing
COMMAND = r"medvision (?:train|tune|prepare|evaluate|predict|generate|compare|report) [^#`\n|]*"
LINES = [
    (page.name, match.group(0).strip())
    for page in PAGES
    for match in re.finditer(COMMAND, page.read_text())
    if "…" not in match.group(0) and "[" not in match.group(0).split("=")[0]
    and not re.search(ADDED, match.group(0))
]  # fmt: skip
RECIPES = {  # a recipe of the English page: what stands for it in the Chinese one
    "My own images": "我自己的图像", "My DICOM": "我的 DICOM", "Slice sequences": "切片序列",
    "Transfer learning": "迁移学习", "Sweep": "参数扫描", "Cross-validation": "交叉验证",
    "GAN augmentation": "GAN 数据增强", "External validation": "外部验证",
    "Prediction on new files": "预测新文件",
}  # fmt: skip
OURS = ("src", "conf", "docs", "experiments", "notebooks", "tests")


def read_blocks(page, language="bash"):
    """Return the blocks of commands or code of a page, in order."""
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)


def read_recipes(page):
    """Return title → block of commands."""
    text = re.split(r"^## (?:Recipes|用法)$", page.read_text(), flags=re.MULTILINE)[1]
    recipe = r"^\*\*(.+?)\*\*(?:(?!\n\*\*).)*?```bash\n(.*?)```"
    return dict(re.findall(recipe, text, re.DOTALL | re.MULTILINE))


def read_config(*words):
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        return compose("train", [*words])


@pytest.mark.parametrize(("page", "line"), LINES)
def test_a_written_command_is_one_that_is_taken(page, line):
    command, *words = shlex.split(line.removeprefix("medvision ").split("   ")[0])
    assert command in COMMANDS
    if words == ["--help"]:
        return
    if command == "tune":
        _, words = read_settings(words)
    elif command != "train":
        function = importlib.import_module(f"medvision.commands.{command}").run
        assert parse(words, function, command)
        return
    _, overrides = part_flags(words)
    config = read_config(*(quote(re.sub(r"=([^,'\[]+),.*", r"=\1", word)) for word in overrides))
    assert "monitor" in config  # an unknown key or choice would have raised


def test_the_readme_has_commands_to_check():
    assert sum(page == "README.md" for page, _ in LINES) >= 8


def test_pages_in_two_languages_hold_the_same_commands():
    assert read_blocks(ENGLISH) == read_blocks(CHINESE)
    assert read_blocks(KERAS) == read_blocks(KERAS_CHINESE)
    said = [re.findall(r"`[^`\n]+`", page.read_text()) for page in (KERAS, KERAS_CHINESE)]
    assert sorted(said[0]) == sorted(said[1])
    assert read_blocks(ENGLISH, "python") == read_blocks(CHINESE, "python")
    table = re.compile(r"<!-- table -->.*<!-- /table -->", re.DOTALL)
    assert table.search(ENGLISH.read_text())[0] == table.search(CHINESE.read_text())[0]


@pytest.mark.usefixtures("as_read")
def test_the_script_runs_as_written():
    (script,) = read_blocks(ENGLISH, "python")
    told = {}
    assert "range(10)" in script
    exec(script.replace("range(10)", "range(1)"), told)  # one of its epochs
    assert len(told["table"]) == 160
    assert torch.isfinite(told["loss"])
    assert told["data"].ready.stores[0].array.shape[1:3] == (96, 96)


def test_the_readme_is_short():
    assert len(ENGLISH.read_text().splitlines()) <= 225
    assert len(CHINESE.read_text().splitlines()) <= 150


def test_every_recipe_is_there_and_has_at_most_five_commands():
    english, chinese = read_recipes(ENGLISH), read_recipes(CHINESE)
    assert list(english) == [*RECIPES]
    assert list(chinese) == [*RECIPES.values()]
    assert [*english.values()] == [*chinese.values()] == read_blocks(ENGLISH)[1:]
    lengths = {title: len(block.splitlines()) for title, block in english.items()}
    assert {title: n for title, n in lengths.items() if not 1 <= n <= 5} == {}


@pytest.mark.parametrize(
    "page", [ENGLISH, CHINESE, ROOT / "experiments" / "README.md", *(ROOT / "docs").rglob("*.md")],
    ids=lambda page: page.name,
)  # fmt: skip
def test_links_to_files_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    places = [place for place in re.findall(r"\]\(([^)#]+)", text) if "://" not in place]
    assert [place for place in places if not (page.parent / place).exists()] == []


def test_what_the_page_for_keras_users_names_exists():
    page = KERAS.read_text()
    config = OmegaConf.to_container(
        read_config("data=folder", "model=keras_cnn", "augment=article"), resolve=False
    )
    lost, checked = [], 0
    for word in re.findall(r"`([^`\n]+)`", page):
        if word.startswith(tuple(f"{folder}/" for folder in OURS)):
            there = (ROOT / word).exists()
        elif re.fullmatch(r"(medvision|torch)(\.\w+)+", word):
            there = callable(pkgutil.resolve_name(word))
        elif re.fullmatch(r"(data|model|augment|callbacks|trainer)\.(?!pt)\w+(\.\w+)*(=.+)?", word):
            there = holds(config, word.split("=")[0].split("."))
        elif choice := re.fullmatch(r"(data|model|augment|experiment)=(\w+).*", word):
            there = (ROOT / "conf" / choice[1] / f"{choice[2]}.yaml").exists()
        else:
            continue
        checked += 1
        lost += [] if there else [word]
    assert lost == []
    assert checked > 40


def holds(config, keys):
    """Is there such a key, whatever its value?"""
    for key in keys:
        if not isinstance(config, dict) or key not in config:
            return False
        config = config[key]
    return True
