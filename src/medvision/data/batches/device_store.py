"""Pixels that live on a device, and batches that reach one without anybody waiting for it."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from medvision.data.store.store import Store

CHUNK_BYTES = 2**28
"""What is copied at once: of a store larger than memory no more is ever held there."""


class DeviceStore:
    """All stores of a run, end to end on a device.

    Args:
        stores: of images of one size and type.
        device: where they go.
    """

    def __init__(self, stores: Sequence[Store], device: torch.device) -> None:
        arrays = [_signed(store.array) for store in stores]
        self.starts = np.cumsum([0, *map(len, arrays)])
        self.sixteen_bits = stores[0].array.dtype == np.uint16
        kind = torch.int16 if self.sixteen_bits else torch.uint8
        shape = (int(self.starts[-1]), *arrays[0].shape[1:])
        self.pixels = torch.empty(shape, dtype=kind, device=device)
        rows = max(CHUNK_BYTES // max(arrays[0][:1].nbytes, 1), 1)
        for array, start in zip(arrays, self.starts[:-1].tolist(), strict=True):
            for low in range(0, len(array), rows):
                chunk = torch.from_numpy(np.array(array[low : low + rows]))
                self.pixels[start + low : start + low + len(chunk)] = chunk

    def places(self, where: np.ndarray) -> Tensor:
        """Turn `[...,2]`, number of the store and row in it, into places here, on the host."""
        return torch.from_numpy(self.starts[where[..., 0]] + where[..., 1])

    def gather(self, places: Tensor) -> Tensor:
        """Copy the images at `places` `[B]`, which are on the device, into `[B,H,W,C]`."""
        pixels = self.pixels[places]
        return pixels.view(torch.uint16) if self.sixteen_bits else pixels


def _signed(array: np.ndarray) -> np.ndarray:
    """View 16 bits as signed ones: torch gathers no unsigned ones on a GPU."""
    return array.view(np.int16) if array.dtype == np.uint16 else array


def send(value: Tensor, device: torch.device) -> Tensor:
    """Copy to a device; to a GPU from pinned memory, so that nobody waits until it is there."""
    if device.type != "cuda":
        return value.to(device)
    return value.pin_memory().to(device, non_blocking=True)
