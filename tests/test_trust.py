"""What a foreign `model.pt` names is judged before it runs; what this user made needs no word."""

import json
import os
import socket
import subprocess
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate

from medvision.errors import MedvisionError
from medvision.model import load_model
from medvision.runs import Run
from medvision.trust import integrity
from medvision.trust.building import building, leave_fetching_out
from medvision.trust.names import trusting

FOREIGN = r"was not made with your key"


def describe(**net):
    return {
        "_target_": "medvision.nets.build.build_net", "in_channels": 1, "num_classes": 2,
        "init": None,
        "net": {"_target_": "medvision.nets.convnet.ConvNet", "_partial_": True,
                "widths": [4, 8], **net},
    }  # fmt: skip


def write(path: Path, config, weights=None, **more) -> Path:
    """Write a model of format 5 as somebody else might."""
    seen = ("train_patients", "train_images", "val_patients", "val_images")
    content = {
        "format": 5, "net": json.dumps(config), "augment": "null", "task": "classification",
        "weights": instantiate(describe()).state_dict() if weights is None else weights,
        "target": {"classes": ["a", "b"], "kind": "binary", "negative": None, "rename": {}},
        "inputs": {"reader": {}, "unit": None, "tabular": None}, "decision": {}, "tta": 0,
        "seen": {name: [] for name in seen} | {"key": None},
        "seed": 0, "trained_on": None, "gate": None,
    }  # fmt: skip
    torch.save(content | more, path)
    return path


CODE = (
    "torch.load", "torch.nn.functional.torch.load", "torch.nn.modules.module.torch.load",
    "torchvision.models._api.load_state_dict_from_url", "torch.hub.load", "joblib.load",
    "pandas.read_pickle", "medvision.files.write_text", "medvision.nets.build.torch.load",
    "medvision.nets.weights.read_weights", "torch.nn.modules.linear.torch.os.system", "os.system",
    "builtins.eval", "timm.create_model", "subprocess.run", "hydra.utils.instantiate",
    "medvision.tasks.classification.task.Classifier", "medvision.augment.draw.Augment",
)  # fmt: skip


@pytest.mark.parametrize("name", CODE)
@pytest.mark.parametrize("partial", [{}, {"_partial_": True}])
def test_a_name_that_is_no_net_is_refused_wherever_it_stands(tmp_path, name, partial):
    node = {"_target_": name, "f": str(tmp_path / "x"), **partial}
    path = tmp_path / "model.pt"
    for more in ({"config": node}, {"config": describe(dropout=node)},
                 {"config": describe(blocks=[{"deep": node}])}):  # fmt: skip
        with pytest.raises(MedvisionError, match=FOREIGN):
            load_model(write(path, **more))
    if "augment.draw" not in name:
        with pytest.raises(MedvisionError, match=FOREIGN):
            load_model(write(path, describe(), augment=json.dumps(node), tta=2))


@pytest.mark.parametrize(
    "config",
    [
        {"_target_": "torch.nn.Linear", "_args_": [1, 2]},
        {"_target_": "torch.nn.Identity", "_recursive_": False},
        describe(widths="${oc.env:HOME}"), describe(**{"${oc.env:HOME}": 1}),
        {"_target_": "torchvision.models.resnet18", "weights": "IMAGENET1K_V1"},
        {"_target_": "torchvision.models.resnet18", "weights": None, "model_path": "/x"},
        describe(pretrained=True), describe(pretrained_url="file:///x"),
        describe(weights_backbone={"a": 1}), describe(cache_dir="/tmp"),
        describe(checkpoint_path="x.pt"), describe(encoder_weights="imagenet"),
    ],
)  # fmt: skip
def test_arguments_that_load_and_keys_of_hydra_are_refused(tmp_path, config):
    with pytest.raises(MedvisionError, match=FOREIGN):
        load_model(write(tmp_path / "model.pt", config))


def test_names_that_are_imported_are_judged_as_well(tmp_path, monkeypatch):
    (tmp_path / "sprung.py").write_text("raise SystemExit('it ran')")
    monkeypatch.syspath_prepend(tmp_path)
    inputs = {"reader": {}, "unit": {"name": "sprung.unit"}, "tabular": None}
    for more in ({"task": "sprung.Task"}, {"inputs": inputs}):
        with pytest.raises(MedvisionError, match="your key"):
            load_model(write(tmp_path / "model.pt", describe(), **more))


def test_a_net_of_a_known_package_loads_without_a_word(tmp_path):
    assert load_model(write(tmp_path / "model.pt", describe())).net
    config = {"_target_": "torchvision.models.squeezenet1_1", "num_classes": 2}
    weights = instantiate(config).state_dict()
    assert load_model(write(tmp_path / "model.pt", config, weights)).net


def test_what_is_trusted_may_be_anything(tmp_path):
    config = {"_target_": "torch.nn.utils.fusion.fuse_linear_bn_eval"}  # a function: no net
    with pytest.raises(MedvisionError, match="trust=true"):
        load_model(write(tmp_path / "model.pt", config))
    with trusting(), pytest.raises(Exception, match="missing 2 required positional arguments"):
        load_model(write(tmp_path / "model.pt", config))


@pytest.mark.parametrize(
    ("act", "told"),
    [
        (lambda place: place.write_text("x"), "to write a file"),
        (lambda place: place.unlink(missing_ok=True), "to delete a file"),
        (lambda place: place.mkdir(), "to write"),
        (lambda place: socket.create_connection(("127.0.0.1", 9)), "to reach the network"),
        (lambda place: subprocess.run(["true"]), "to start a process"),
        (lambda place: os.system("true"), "to start a process"),
        (lambda place: torch.zeros(2**40), "far more memory"),
        (lambda place: [torch.zeros(2**20) for _ in range(2**20)], "far more memory"),
    ],
)
def test_nothing_else_happens_while_a_net_is_built(tmp_path, act, told):
    with pytest.raises(MedvisionError, match=told), building({}, "model.pt"):
        act(tmp_path / "x")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "x").write_text("afterwards it may")


@pytest.mark.parametrize(
    "config",
    [
        {"_target_": "torch.nn.Linear", "in_features": 2**20, "out_features": 2**20},
        {"_target_": "torch.nn.LSTM", "input_size": 1, "hidden_size": 1, "num_layers": 10**9},
    ],
)
def test_a_net_that_is_larger_than_its_weights_takes_no_memory(tmp_path, config):
    with pytest.raises(MedvisionError, match="far more memory"):
        load_model(write(tmp_path / "model.pt", config))


def test_weights_of_another_shape_are_one_sentence(tmp_path):
    with pytest.raises(MedvisionError, match=r"do not fit the net .*rerun=true"):
        load_model(write(tmp_path / "model.pt", describe(widths=[4, 4])))


def test_a_saved_net_fetches_nothing_when_it_is_opened():
    detector = "torchvision.models.detection.fasterrcnn_resnet50_fpn"
    node = {"net": {"_target_": detector, "weights": "DEFAULT"}, "drop_path": 0.1}
    left = leave_fetching_out(node)
    assert left["net"]["weights"] is None
    assert left["net"]["weights_backbone"] is None  # by default it would be downloaded
    assert left["drop_path"] == 0.1
    assert leave_fetching_out({"pretrained": True}) == {"pretrained": False}


def test_a_run_of_this_user_needs_no_word(tmp_path):
    config = {"_target_": "torch.nn.utils.parametrizations.weight_norm", "_partial_": True}
    run = Run(tmp_path)
    write(run.model, config, {})
    run.note(status="done", digests=integrity.digest_files(tmp_path))
    with pytest.raises(Exception, match="no attribute 'load_state_dict'"):  # it was instantiated
        load_model(run.model)
    os.environ["MEDVISION_KEY"], before = str(tmp_path / "other"), os.environ["MEDVISION_KEY"]
    try:
        with pytest.raises(MedvisionError, match=FOREIGN):
            load_model(run.model)
    finally:
        os.environ["MEDVISION_KEY"] = before
