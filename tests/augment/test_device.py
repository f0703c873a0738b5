import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medvision.augment import device, host
from medvision.augment.draw import FILLS, RANGES, SWITCHES, Augment

HALF_LEVEL = 1 / 510
ranges = {key: st.floats(low, min(high, 20.0) / 2) for key, (low, high) in RANGES.items()}
switches = {key: st.booleans() for key in SWITCHES}
augments = st.builds(Augment, **ranges, **switches, fill=st.sampled_from(FILLS))


def smooth(rows: int, channels: int, height: int, width: int) -> np.ndarray:
    """Waves without hard edges, uint8 [B,H,W,C]."""
    b, y, x, c = np.ogrid[:rows, :height, :width, :channels]
    waves = np.sin(x / 15 + b) * np.cos(y / 21 + c + 2 * b)
    return np.rint(255 * (0.5 + 0.5 * waves)).astype(np.uint8)


def as_float(images: np.ndarray) -> torch.Tensor:
    top = float(np.iinfo(images.dtype).max)
    return torch.from_numpy(images.astype(np.float32)).permute(0, 3, 1, 2) / top


def interior(matrix: np.ndarray | None, size: tuple[int, int], rows: int) -> np.ndarray:
    """Tell the output pixels whose source lies inside the image: [B,H,W]."""
    if matrix is None:
        return np.ones((rows, *size), bool)
    y, x = np.mgrid[: size[0], : size[1]]
    source = np.einsum("bij,jyx->biyx", matrix, np.stack([x, y, np.ones_like(x)]))
    limit = np.array([size[1] - 1.001, size[0] - 1.001])[None, :, None, None]
    return ((source > 0.001) & (source < limit)).all(axis=1)


@settings(max_examples=40, deadline=None)
@given(augment=augments, channels=st.sampled_from([1, 2, 3]))
def test_a_batch_equals_its_images_one_by_one(augment: Augment, channels: int) -> None:
    images = as_float(np.random.default_rng(0).integers(0, 256, (4, 19, 24, channels), np.uint8))
    indices = np.array([7, 0, 9, 123_456])
    whole = device.augment(images, augment.draw(5, 2, indices, (19, 24)))
    for row, index in enumerate(indices):
        draws = augment.draw(5, 2, np.array([index]), (19, 24))
        alone = device.augment(images[row : row + 1], draws)[0]
        torch.testing.assert_close(alone, whole[row], atol=1e-5, rtol=0)


def test_unchanged_images_stay_bit_for_bit() -> None:
    images = as_float(smooth(64, 1, 20, 20))
    augment = Augment(rotate_degrees=30, gamma=0.4, noise=0.3, probability=0.5)
    draws = augment.draw(0, 0, np.arange(64), (20, 20))
    same = (device.augment(images, draws) == images).flatten(1).all(dim=1)
    np.testing.assert_array_equal(same.numpy(), ~draws.changed)
    shut = Augment(rotate_degrees=30, gamma=0.4, probability=0).draw(0, 0, np.arange(64), (20, 20))
    assert torch.equal(device.augment(images, shut), images)
    assert torch.equal(
        device.augment(images, Augment().draw(0, 0, np.arange(64), (20, 20))), images
    )


@settings(max_examples=40, deadline=None)
@given(augment=augments, channels=st.sampled_from([1, 3, 4]), seed=st.integers(0, 99))
def test_host_and_device_agree_within_half_a_grey_level(
    augment: Augment, channels: int, seed: int
) -> None:
    images, size = smooth(4, channels, 48, 64), (48, 64)
    draws = augment.draw(seed, 0, np.arange(4), size)
    on_host = as_float(host.augment(images, draws))
    on_device = device.augment(as_float(images), draws)
    off = (on_host - on_device).abs().amax(dim=1).numpy()
    inside = interior(draws.matrix, size, 4)
    assert off[inside].max(initial=0) < HALF_LEVEL * 1.02


@pytest.mark.gpu
@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_gpu_agrees_with_the_host_within_half_a_grey_level(fill: str, channels: int) -> None:
    images, size = smooth(16, channels, 48, 64), (48, 64)
    augment = Augment(
        rotate_degrees=25, shift_x=0.1, scale=0.2, shear_degrees=5, gamma=0.2, contrast=0.3,
        brightness=0.1, blur=1.5, noise=0.05, erase=0.1, fill=fill,
    )  # fmt: skip
    draws = augment.draw(3, 1, np.arange(16), size)
    on_gpu = device.augment(as_float(images).cuda(), draws)
    assert on_gpu.is_cuda
    off = (as_float(host.augment(images, draws)) - on_gpu.cpu()).abs().amax(dim=1).numpy()
    assert off[interior(draws.matrix, size, 16)].max() < HALF_LEVEL * 1.02


@pytest.mark.parametrize("channels", [2, 3, 5])
def test_host_and_device_cut_the_same_noise(channels: int) -> None:
    images = np.full((4, 12, 14, channels), 128, np.uint8)
    draws = Augment(noise=0.2).draw(0, 0, np.arange(4), (12, 14))
    off = as_float(host.augment(images, draws)) - device.augment(as_float(images), draws)
    assert off.abs().max() < HALF_LEVEL * 1.02


@pytest.mark.parametrize("fill", FILLS)
def test_host_and_device_agree_at_the_border(fill: str) -> None:
    images = smooth(32, 1, 40, 40)
    augment = Augment(rotate_degrees=45, shift_y=0.3, shift_x=0.3, brightness=0.3, fill=fill)
    draws = augment.draw(0, 0, np.arange(32), (40, 40))
    on_host, on_device = host.augment(images, draws), device.augment(as_float(images), draws)
    assert (as_float(on_host) - on_device).abs().max() < HALF_LEVEL * 1.02


def test_sixteen_bit_agrees_more_finely() -> None:
    images = smooth(16, 1, 40, 40).astype(np.uint16) * 257
    augment = Augment(rotate_degrees=20, scale=0.2, gamma=0.3, noise=0.1)
    draws = augment.draw(0, 0, np.arange(16), (40, 40))
    off = as_float(host.augment(images, draws)) - device.augment(as_float(images), draws)
    inside = interior(draws.matrix, (40, 40), 16)
    assert off.abs()[:, 0].numpy()[inside].max() < 1e-5 * 2


def test_flips_and_quarter_turns_keep_the_pixels() -> None:
    images = torch.rand(32, 1, 17, 17, generator=torch.Generator().manual_seed(0))
    augment = Augment(flip_horizontal=True, flip_vertical=True, rotate_quarter=True)
    changed = device.augment(images, augment.draw(0, 0, np.arange(32), (17, 17)))
    assert not torch.equal(changed, images)
    before, after = (x.flatten(1).sort(dim=1).values for x in (images, changed))
    torch.testing.assert_close(after, before, atol=1e-5, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_keeps_type_range_and_input(dtype: torch.dtype) -> None:
    images = as_float(smooth(8, 3, 20, 30)).to(dtype)
    kept = images.clone()
    augment = Augment(rotate_degrees=30, contrast=0.9, noise=0.5, blur=2, erase=0.3)
    changed = device.augment(images, augment.draw(0, 0, np.arange(8), (20, 30)))
    assert changed.dtype == dtype
    assert changed.min() >= 0
    assert changed.max() <= 1
    assert torch.equal(images, kept)


def test_numbers_travel_once_and_nothing_comes_back() -> None:
    """On the meta device every value is unknown: reading one back would raise."""
    images = torch.empty(4, 1, 16, 16, device="meta")
    augment = Augment(rotate_degrees=30, gamma=0.2, blur=1, erase=0.2)
    changed = device.augment(images, augment.draw(0, 0, np.arange(4), (16, 16)))
    assert changed.device.type == "meta"
    assert changed.shape == images.shape


def test_a_batch_of_another_size_is_refused() -> None:
    draws = Augment(rotate_degrees=5).draw(0, 0, np.arange(2), (8, 8))
    with pytest.raises(ValueError, match=r"drawn for 2 images of \(8, 8\), applied to 2 of"):
        device.augment(torch.zeros(2, 1, 9, 8), draws)
