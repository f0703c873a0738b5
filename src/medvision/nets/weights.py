"""The tensors of a file of weights, brought under a net's own names."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from medvision.errors import MedvisionError


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a state_dict, bare or under `weights`, `state_dict` or `model`.

    Raises:
        MedvisionError: the file is no such thing, or a tensor holds NaN or infinity.
    """
    way_out = "give a state_dict saved with torch.save, or a run's model.pt"
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises half a dozen kinds for a foreign or broken file
        reason = str(error).strip().splitlines()[0][:120] if str(error) else type(error).__name__
        raise MedvisionError(f"{path} is no file of weights ({reason}); {way_out}") from error
    for key in ("weights", "state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    weights = tensors_of(content) if isinstance(content, Mapping) else {}
    if not weights:
        raise MedvisionError(f"{path} holds no named tensors; {way_out}")
    if broken := [name for name, tensor in weights.items() if not tensor.isfinite().all()]:
        raise MedvisionError(f"{path} holds NaN or infinity in {broken[0]}; use another file")
    # DenseNets saved by early torchvision write norm.1 for norm1.
    older = re.compile(r"(denselayer\d+\.(?:norm|conv))\.(\d)")
    return {older.sub(r"\1\2", name): tensor for name, tensor in weights.items()}


def tensors_of(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """Leave out counters (0-d integers), which nothing learned is lost with."""
    return {
        name: value
        for name, value in content.items()
        if isinstance(value, Tensor) and not (value.ndim == 0 and not value.is_floating_point())
    }


def match_prefix(weights: dict[str, Tensor], net: nn.Module) -> dict[str, Tensor]:
    """Rename by the one change of prefix under which most names meet."""
    own = tensors_of(net.state_dict())

    def rename(strip: str, add: str) -> dict[str, Tensor]:
        return {
            add + name[len(strip) :] if name.startswith(strip) else name: tensor
            for name, tensor in weights.items()
        }

    def meeting(pair: tuple[str, str]) -> int:
        renamed = rename(*pair)
        return sum(n in own and own[n].shape == tensor.shape for n, tensor in renamed.items())

    pairs = [(strip, add) for strip in _prefixes(weights) for add in _prefixes(own)]
    return rename(*max(pairs, key=meeting))


def _prefixes(names: Mapping[str, Tensor]) -> list[str]:
    """Return "" and the dotted beginnings (one or two words) that at least half the names share."""
    beginnings = [
        ".".join(name.split(".")[:words]) + "."
        for name in names
        for words in (1, 2)
        if name.count(".") >= words
    ]
    common = [b for b in dict.fromkeys(beginnings) if 2 * beginnings.count(b) >= len(names)]
    return ["", *common]
