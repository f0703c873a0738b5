"""Nets of MONAI, timm and torchvision by the lines that a YAML has: each takes a step."""

import pytest
import torch
from omegaconf import OmegaConf

from medvision.tasks.classes import Classes
from medvision.tasks.classification.task import Classifier
from medvision.tasks.trainable import Facts

SMALL = {"block": "basic", "layers": [1, 1, 1, 1], "block_inplanes": [8, 8, 16, 16]}
NETS = {
    "monai.networks.nets.DenseNet121": {"spatial_dims": 2, "block_config": [2, 2]},
    "monai.networks.nets.ResNet": {"spatial_dims": 2, **SMALL},
    "monai.networks.nets.SEResNet50": {"spatial_dims": 2},  # hands most of it on to SENet
    "monai.networks.nets.ViT": {
        "spatial_dims": 2, "img_size": [32, 32], "patch_size": [8, 8], "classification": True,
        "hidden_size": 12, "mlp_dim": 12, "num_layers": 1, "num_heads": 2,
    },
    "timm.create_model": {"model_name": "resnet10t"},
    "timm.models.vision_transformer.VisionTransformer": {
        "img_size": 32, "patch_size": 8, "embed_dim": 12, "depth": 1, "num_heads": 2,
    },
    "torchvision.models.squeezenet1_1": {},
    "torchvision.models.swin_t": {"num_classes": 3},
    "torchvision.models.googlenet": {"init_weights": False},  # answers with three in training
    "torchvision.models.get_model": {"name": "resnet18"},
}  # fmt: skip
CLASSES = Classes(["a", "b", "c"], "multiclass")


@pytest.mark.parametrize("target", NETS)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_net_of_a_yaml_takes_the_facts_of_the_data_and_a_step(target, channels):
    package = pytest.importorskip(target.partition(".")[0])
    assert package
    if target.endswith("ViT"):
        pytest.importorskip("einops")
    node = OmegaConf.create({
        "_target_": "medvision.tasks.classification.task.Classifier",
        "net": {"_target_": target, "_partial_": True, **NETS[target]},
        "init": None, "normalise": None,
    })  # fmt: skip
    facts = Facts(CLASSES, channels, (32, 32), slice_labels=False, balanced=True, weights=list)
    task = Classifier.build(node, facts, seed=0)
    batch = torch.rand(4, channels, 32, 32), torch.tensor([0, 1, 2, 0])
    task.training_step(batch, 0).backward()
    moved = [p for p in task.net.parameters() if p.grad is not None and p.grad.abs().sum() > 0]
    assert len(moved) > 1
    assert task.eval().predict_step(batch, 0)["logits"].shape == (4, 3)
