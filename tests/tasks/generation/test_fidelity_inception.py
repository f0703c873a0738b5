import importlib.util

import pytest
import torch

from medvision.errors import MedvisionError
from medvision.tasks.generation.fidelity import measure_inception

IMAGES = torch.rand(3, 8, 1, 32, 32, generator=torch.Generator().manual_seed(0))
HERE = importlib.util.find_spec("torch_fidelity") is not None


@pytest.mark.skipif(not HERE, reason="torch-fidelity is not installed")
def test_a_file_of_something_else_is_refused(tmp_path):
    torch.save({"weight": torch.zeros(3)}, tmp_path / "weights.pth")
    with pytest.raises(MedvisionError, match="holds no Inception weights"):
        measure_inception(tmp_path / "weights.pth", *IMAGES)


@pytest.mark.slow
@pytest.mark.skipif(not HERE, reason="torch-fidelity is not installed")
def test_images_alike_are_near_their_floor_and_noise_is_not(tmp_path, monkeypatch):
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    torch.manual_seed(0)
    monkeypatch.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda *a: None)
    torch.save({}, tmp_path / "empty.pth")
    net = FeatureExtractorInceptionV3("x", ["2048"], str(tmp_path / "empty.pth"))
    torch.save(net.state_dict(), tmp_path / "weights.pth")
    monkeypatch.undo()
    flat = IMAGES / 4 + IMAGES.mean((3, 4), keepdim=True) / 2
    told = measure_inception(tmp_path / "weights.pth", *flat)
    noise = measure_inception(tmp_path / "weights.pth", flat[0], flat[1], (flat[2] * 4).clamp(0, 1))
    assert told["n"] == 8
    assert noise["floor_fid"] == pytest.approx(told["floor_fid"], rel=1e-3)
    assert noise["fid"] > told["fid"]
