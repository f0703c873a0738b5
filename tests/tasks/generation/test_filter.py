import numpy as np
import pytest
import torch
from torch import nn

from medvision.model import Model
from medvision.nets.encoder import untrained_encoder
from medvision.runs import Run
from medvision.tasks.generation.copies import load_reference, save_reference
from medvision.tasks.generation.evaluator import FidelityEvaluator, keep_reference
from medvision.tasks.generation.filter import Checks, filter_images, open_checks
from medvision.tasks.generation.image_sets import Images
from medvision.tasks.generation.sampling import GeneratedImages


def draw(count, seed):
    """Blobs at places of their own, of two classes by their side."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:32, :32]
    label = np.arange(count) % 2
    places = random.uniform(8, 24, (count, 2))
    image = np.exp(-((y - places[:, :1, None]) ** 2 + (x - places[:, 1:, None]) ** 2) / 20)
    image = image * random.uniform(0.6, 1, (count, 1, 1)) + random.uniform(0, 0.02, (count, 32, 32))
    return (image.clip(0, 1) * 255).astype(np.uint8)[..., None], label


def images(count, seed, owner):
    pixels, label = draw(count, seed)
    image = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    return Images(image, torch.from_numpy(label), [f"{owner}{n}" for n in range(count)])


@pytest.fixture(scope="module")
def reference():
    spaces = {"untrained": untrained_encoder(1)}
    real = images(160, 0, "t"), images(80, 1, "h")
    return keep_reference(FidelityEvaluator(*real, spaces, None, ["a", "b"]))


class Sure(nn.Module):
    """Calls every image class 1."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, 1, 1, 1))

    def forward(self, image):
        return torch.tensor([[0.0, 3.0]]).expand(len(image), 2)


def test_copies_are_left_out_and_new_images_kept(reference):
    old, label = draw(160, 0)
    new, _ = draw(160, 2)
    pixels = np.concatenate([old[:20], new[:60]])
    made = GeneratedImages(pixels, np.resize(label, 80), np.arange(80))
    table = filter_images(made, Checks(reference))
    assert (table["keep"][:20] == "false").all()
    assert table["reason"][0] == "nearer to a training image than 1 % of unseen real images"
    assert (table["keep"][20:] == "true").mean() > 0.9
    assert table["near"][:20].astype(float).max() < 0.1
    assert 0.7 < table["near"][20:].astype(float).median() < 1.4
    assert (table["agreed"] == "").all()


def test_images_of_another_class_are_left_out():
    pixels, label = draw(10, 3)
    classifier = Model(Sure(), {}, ["a", "b"], "binary", {}, threshold=0.5)
    table = filter_images(GeneratedImages(pixels, label, np.arange(10)), Checks(None, classifier))
    assert table["keep"].tolist() == ["false", "true"] * 5
    assert table["agreed"].tolist() == ["0.0474", "0.9526"] * 5
    assert (table["near"] == "").all()


def test_where_nobody_looks_all_are_kept(tmp_path):
    pixels, label = draw(4, 3)
    table = filter_images(GeneratedImages(pixels, label, np.arange(4)), open_checks(Run(tmp_path)))
    assert (table["keep"] == "true").all()
    assert (table[["near", "agreed", "reason"]] == "").all(axis=None)


def test_reference_survives_its_file(reference, tmp_path):
    save_reference(reference, tmp_path / "reference.pt")
    again = load_reference(tmp_path / "reference.pt")
    features = np.random.default_rng(0).normal(size=(5, reference.features.shape[1]))
    np.testing.assert_allclose(again.measure(features), reference.measure(features), rtol=1e-3)
    assert again.near == pytest.approx(reference.near)
