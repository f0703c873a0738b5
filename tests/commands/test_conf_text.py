"""What is read from the text of conf/ is what YAML and Hydra read, and every key is explained."""

import re

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from medvision.commands.conf_text import annotate, compose_keys, describe, read_file
from medvision.commands.docstrings import describe_arguments
from medvision.files import conf_folder

FILES = sorted(conf_folder().rglob("*.yaml"))
TORCHS = ("_target_", "_partial_", "fused")  # how a node is built, not what it is
OTHERS = re.compile(r"data\.(source|shares)\.|\w+\.(\w+_)?optimizer\.|callbacks")


def flatten(node, prefix=""):
    for key, value in node.items():
        yield f"{prefix}{key}", "" if isinstance(value, dict) and value else value
        if isinstance(value, dict):
            yield from flatten(value, f"{prefix}{key}.")


def read_values(keys):
    return {key.name: yaml.safe_load(key.value) if key.value else "" for key in keys}


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_file_is_read_as_yaml_reads_it(path):
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    content.pop("defaults", None)
    assert read_values(read_file(path).keys) == dict(flatten(content))


@pytest.mark.parametrize(
    "words",
    [
        [], ["model=rnn", "logger=csv"], ["model=mean_pool"], ["data=dicom", "trainer=debug"],
        ["experiment=dcgan_phantom"], ["experiment=rnn_acdc_sizes", "callbacks=ema"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_keys_are_composed_as_hydra_does(words):
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        composed = OmegaConf.to_container(compose("train", words), resolve=False)
    nodes = dict.fromkeys(composed, "")  # a group as a whole is no key
    assert nodes | read_values(compose_keys(words).values()) == nodes | dict(flatten(composed))


@pytest.mark.parametrize("words", [[], ["model=rnn"], ["experiment=dcgan_phantom"]], ids=" ".join)
def test_every_key_says_what_it_is(words):
    keys = compose_keys(words)
    asked = [name for name in keys if "." in name and name.split(".")[-1] not in TORCHS
             and not OTHERS.match(name)]  # fmt: skip
    assert [name for name in asked if not describe(name, keys)] == []
    assert len(asked) > 70


def test_comments_stand_where_their_file_has_them(tmp_path):
    path = tmp_path / "some.yaml"
    path.write_text(
        "# @package _global_\n# medvision train some=1\n# Tells what\n# it is. And more.\n"
        "defaults: [other, override /data: folder]\n"
        "one: 'a # b'  # first\n"
        "              # and more\n"
        "# above\ntwo: {a: 1, b: {c: '{x, y}'}}  # beside\n"
    )
    said = read_file(path)
    assert said.summary == "Tells what it is."
    assert said.package == ""
    assert said.defaults == ["other", "override /data: folder"]
    assert said.keys == [
        ("one", "'a # b'", "first and more"), ("two", "", ""), ("two.a", "1", ""),
        ("two.b", "", ""), ("two.b.c", "'{x, y}'", "above beside"),
    ]  # fmt: skip


def test_comments_stand_beside_what_is_composed():
    text = "data:\n  reader:\n    size:\n    - 96\n    fit: crop\n  batch_size: 4\nseed: 1"
    lines = annotate(text, compose_keys([])).splitlines()
    assert lines[4] == "    fit: crop  # pad | crop | stretch"
    assert lines[3] == "    - 96"
    assert yaml.safe_load("\n".join(lines)) == yaml.safe_load(text)


def test_arguments_are_described_by_parents_and_by_what_is_referred_to():
    told = describe_arguments("medvision.tasks.classification.task.Classifier")
    assert told["l1"].startswith("weight of the sum of absolute weights")  # of Task
    assert told["mixup"].startswith("Beta parameter")
    data = describe_arguments("medvision.data.batches.datamodule.ImageDataModule")
    assert data["fold"] == "this part of `folds` is the test part; a given split is then ignored"
    assert data["neighbours"] == data["on_gap"] == "as in `SeriesForm`, for series"
    assert describe_arguments("torch.optim.AdamW") == {}
    for source in ("phantom", "nifti"):
        keys = compose_keys([f"data={source}"])
        assert describe("data.source.columns" if source == "nifti" else "data.source.size", keys)
    assert "level" in describe_arguments("medvision.tasks.regression.task.Regressor")
