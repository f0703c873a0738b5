import json

import numpy as np
import pytest
from PIL import Image

from medvision.data.formats.decode import decode, pixel_digest
from medvision.data.store.reader import Reader
from medvision.errors import MedvisionError


@pytest.fixture
def grey(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (20, 30), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "grey.png")
    return tmp_path / "grey.png"


@pytest.fixture
def colour(tmp_path):
    pixels = np.random.default_rng(1).integers(0, 255, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "colour.png")
    return tmp_path / "colour.png"


def test_full_window_leaves_8_bits_as_they_are(grey, colour):
    assert np.array_equal(Reader(size=None).read(grey), decode(grey))
    assert np.array_equal(Reader(size=None, channels=3).read(colour), decode(colour))
    assert np.array_equal(Reader(size=(20, 30)).read(grey), decode(grey))


def test_colour_to_luminance_and_grey_to_three(grey, colour):
    luminance = decode(colour) @ np.array([0.299, 0.587, 0.114])
    found = Reader(size=None).read(colour)
    assert found.shape == (20, 30, 1)
    assert np.abs(found[..., 0] - luminance).max() <= 1
    tripled = Reader(size=None, channels=3).read(grey)
    assert np.array_equal(tripled, np.repeat(decode(grey), 3, axis=-1))


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("fit", ["pad", "crop", "stretch"])
def test_form(grey, colour, depth, channels, fit):
    for path in (grey, colour):
        found = Reader(size=(16, 24), channels=channels, fit=fit, depth=depth).read(path)
        assert found.shape == (16, 24, channels)
        assert found.dtype == (np.uint8 if depth == 8 else np.uint16)
        assert found.flags.c_contiguous


def test_ranges_and_percentiles(tmp_path):
    pixels = np.linspace(-1000, 1000, 400).reshape(20, 20).astype(np.int16)
    np.save(tmp_path / "a.npy", pixels)
    found = Reader(size=None, window=(-500, 500)).read(tmp_path / "a.npy")
    assert np.abs(found[..., 0] - np.clip((pixels + 500) / 1000 * 255, 0, 255)).max() <= 0.501
    low, high = np.percentile(pixels, (5, 95))
    found = Reader(size=None, window="percentile", percentiles=(5, 95)).read(tmp_path / "a.npy")
    exact = np.clip((pixels - low) / (high - low) * 255, 0, 255)
    assert np.abs(found[..., 0] - exact).max() <= 0.501


def test_preset_on_8_bit_images_is_refused(grey):
    with pytest.raises(MedvisionError) as caught:
        Reader(size=None, window="lung").read(grey)
    assert str(caught.value) == (
        f"{grey} holds unsigned values, which are not Hounsfield units as window=lung needs, "
        "choose window=full, percentile or [low, high]"
    )


def test_contract_round_trip_through_json():
    reader = Reader(size=[64, 48], channels=3, fit="crop", window=[-100, 200.5], depth=16)
    again = Reader.from_contract(json.loads(json.dumps(reader.contract())))
    assert again == reader
    assert again.digest() == reader.digest()
    assert reader.contract() == {
        "size": [64, 48],
        "channels": 3,
        "center": 1.0,
        "fit": "crop",
        "window": [-100.0, 200.5],
        "depth": 16,
        "percentiles": [0.5, 99.5],
    }


def test_three_windows_are_three_channels(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(-500, 500, dtype=np.int16).reshape(25, 40))
    names = ["lung", "soft_tissue", "percentile"]
    reader = Reader(size=(16, 16), channels=3, window=names)
    alone = [Reader(size=(16, 16), window=name).read(tmp_path / "a.npy") for name in names]
    found = reader.read(tmp_path / "a.npy").astype(int)
    assert np.abs(found - np.concatenate(alone, axis=-1)).max() <= 1
    assert reader.contract()["window"] == names
    again = Reader.from_contract(json.loads(json.dumps(reader.contract())))
    assert (again, again.digest()) == (reader, reader.digest())


def test_digest_changes_with_every_setting_and_not_with_its_spelling():
    changes = [
        {"size": 32},
        {"channels": 3},
        {"fit": "crop"},
        {"center": 0.6},
        {"window": "lung"},
        {"window": (0, 1)},
        {"depth": 16},
        {"percentiles": (1, 99)},
        {"size": None},
    ]
    digests = {Reader(**({"size": 28} | change)).digest() for change in changes}
    assert len(digests | {Reader(size=28).digest()}) == len(changes) + 1
    assert Reader(size=28).digest() == Reader(size=[28, 28]).digest()


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        (
            {"window": "lungs"},
            "window='lungs' is unknown (did you mean 'lung'?); choose one of full",
        ),
        ({"window": (5, 5)}, "window=[5.0, 5.0] is not a range; give [low, high], low first"),
        (
            {"window": ("lung", "bone", "brian"), "channels": 3},
            "window='brian' is unknown (did you mean 'brain'?)",
        ),
        (
            {"window": ("lung", "bone", "brain")},
            "window=[lung, bone, brain] are the channels of an image; give three names and chan",
        ),
        (
            {"window": ("lung", "bone"), "channels": 3},
            "window=[lung, bone] are the channels of an image; give three names and channels=3",
        ),
        ({"size": 1}, "size=[1, 1] is not a size; give [H, W], each at least 2, or null"),
        ({"size": (1, 2, 3)}, "size=[1, 2, 3] is not a size"),
        ({"channels": 4}, "channels=4 cannot be; choose 1 or 3"),
        ({"depth": 12}, "depth=12 cannot be; choose 8 or 16"),
        ({"center": 0}, "center=0 cannot be; give a share above 0, at most 1"),
        ({"fit": "padd"}, "fit=padd cannot be; choose pad or crop or stretch"),
        ({"percentiles": (9, 1)}, "percentiles=[9.0, 1.0] cannot be; give 0 ≤ low < high ≤ 100"),
    ],
)
def test_impossible_settings(settings, text):
    with pytest.raises(MedvisionError) as caught:
        Reader(**({"size": 8} | settings))
    assert text in str(caught.value)


def test_equal_pixels_are_equal_digests_whatever_the_file(tmp_path, grey):
    pixels = decode(grey)
    Image.fromarray(np.repeat(pixels, 3, axis=-1)).save(tmp_path / "copy.tif")
    np.save(tmp_path / "copy.npy", pixels[..., 0])
    for copy in ("copy.tif", "copy.npy"):
        assert pixel_digest(decode(tmp_path / copy)) == pixel_digest(pixels)
    other = pixels.copy()
    other[0, 0] ^= 1
    turned = pixels.reshape(30, 20, 1)
    assert len({pixel_digest(image) for image in (pixels, other, turned)}) == 3
