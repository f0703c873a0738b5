import numpy as np
import pytest

from medvision.data.formats.decode import decode
from medvision.errors import MedvisionError


def refusal(path, frame=0):
    with pytest.raises(MedvisionError) as caught:
        decode(path, frame)
    return str(caught.value).removeprefix(f"{path} ")


def test_frames_count_through_the_image_arrays_in_stored_order(tmp_path):
    draw = np.random.default_rng(0)
    train, test = draw.integers(0, 255, (2, 3, 6, 5), dtype=np.uint8)
    labels = np.zeros((3, 1), np.uint8)
    np.savez_compressed(tmp_path / "a.npz", z_train=train, labels=labels, a_test=test)
    for frame, expected in enumerate([*train, *test]):
        assert np.array_equal(decode(tmp_path / "a.npz", frame)[..., 0], expected)
    assert refusal(tmp_path / "a.npz", 6) == "has no frame 6, it holds 6 frames, counted from 0"
    assert "has no frame -1" in refusal(tmp_path / "a.npz", -1)


@pytest.mark.parametrize(
    ("shape", "count", "expected"),
    [
        ((6, 5), 1, (6, 5, 1)),
        ((6, 5, 3), 1, (6, 5, 3)),
        ((4, 6, 5), 4, (6, 5, 1)),
        ((4, 6, 5, 1), 4, (6, 5, 1)),
        ((4, 6, 5, 3), 4, (6, 5, 3)),
    ],
)
def test_shapes_of_npy(tmp_path, shape, count, expected):
    pixels = np.arange(np.prod(shape), dtype=np.uint16).reshape(shape)
    np.save(tmp_path / "a.npy", pixels)
    assert decode(tmp_path / "a.npy", count - 1).shape == expected
    assert f"it holds {count} frames" in refusal(tmp_path / "a.npy", count)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (np.int8, np.int16),
        (np.int16, np.int16),
        (np.int64, np.int32),
        (np.uint32, np.int32),
        (np.float16, np.float32),
        (np.float64, np.float32),
        (np.dtype(">i2"), np.int16),
    ],
)
def test_number_types_are_brought_to_five_without_change_of_value(tmp_path, given, kept):
    pixels = np.arange(30).reshape(5, 6).astype(given)
    np.save(tmp_path / "a.npy", pixels)
    found = decode(tmp_path / "a.npy")
    assert found.dtype == kept
    assert np.array_equal(found[..., 0], np.arange(30).reshape(5, 6))


def test_masks_become_black_and_white(tmp_path):
    np.save(tmp_path / "a.npy", np.eye(4, dtype=bool))
    assert np.array_equal(decode(tmp_path / "a.npy")[..., 0], np.eye(4, dtype=np.uint8) * 255)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e300])
def test_nan_pixels(tmp_path, bad):
    pixels = np.zeros((2, 4, 4))
    pixels[1, 2, 2] = bad
    np.save(tmp_path / "a.npy", pixels)
    assert decode(tmp_path / "a.npy", 0).shape == (4, 4, 1)
    assert refusal(tmp_path / "a.npy", 1) == (
        "has 1 pixels that are NaN or infinite, replace them by a grey value or remove the image"
    )


@pytest.mark.parametrize("name", ["a.npy", "a.npz"])
def test_damaged_arrays(tmp_path, name):
    path = tmp_path / name
    assert refusal(path) == "does not exist, check the path"
    path.touch()
    assert refusal(path) == "is empty (0 bytes), copy it again from its source"
    path.write_text("patient,label")
    assert "is truncated or damaged" in refusal(path)
    pixels = np.random.default_rng(0).integers(0, 255, (20, 30, 30), dtype=np.uint8)
    np.save(path, pixels) if name == "a.npy" else np.savez(path, images=pixels)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 3 // 4])
    assert "is truncated or damaged" in refusal(path, 19)
    assert "copy it again from its source" in refusal(path, 19)


def test_npz_without_images_and_odd_frames(tmp_path):
    np.savez(tmp_path / "labels.npz", a=np.zeros(3), b=np.zeros((3, 1)))
    assert refusal(tmp_path / "labels.npz") == (
        "holds no image array, store images as [H,W], [N,H,W] or [N,H,W,3]"
    )
    np.save(tmp_path / "volumes.npy", np.zeros((2, 6, 6, 6), np.uint8))
    assert "has frames of shape (6, 6, 6)" in refusal(tmp_path / "volumes.npy")
    np.save(tmp_path / "words.npy", np.full((4, 4), "x"))
    assert "store integers or floats" in refusal(tmp_path / "words.npy")


def test_pickled_objects_are_never_loaded(tmp_path):
    np.save(tmp_path / "a.npy", np.full((4, 4), {}, dtype=object), allow_pickle=True)
    np.savez(tmp_path / "a.npz", a=np.full((4, 4, 4), {}, dtype=object))
    assert "is truncated or damaged" in refusal(tmp_path / "a.npy")
    assert "is truncated or damaged" in refusal(tmp_path / "a.npz")
