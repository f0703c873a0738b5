import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from medvision.data.formats.decode import decode
from medvision.errors import MedvisionError


def noise(*shape, kind=np.uint8, seed=0):
    draw = np.random.default_rng(seed)
    return draw.integers(0, np.iinfo(kind).max, shape, dtype=kind, endpoint=True)


def refusal(path, frame=0):
    with pytest.raises(MedvisionError) as caught:
        decode(path, frame)
    assert str(path) in str(caught.value)
    return str(caught.value).removeprefix(f"{path} ")


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp"])
@pytest.mark.parametrize("shape", [(9, 7), (9, 7, 3)])
def test_lossless_8_bit_round_trip(tmp_path, suffix, shape):
    pixels = noise(*shape)
    Image.fromarray(pixels).save(tmp_path / f"a.{suffix}")
    assert np.array_equal(decode(tmp_path / f"a.{suffix}"), pixels.reshape(9, 7, -1))


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("shape", [(9, 7), (9, 7, 3)])
def test_16_bits_keep_their_depth_and_rgb_order(tmp_path, suffix, shape):
    pixels = noise(*shape, kind=np.uint16)
    written = pixels if len(shape) == 2 else np.ascontiguousarray(pixels[..., ::-1])
    cv2.imwrite(str(tmp_path / f"a.{suffix}"), written)
    found = decode(tmp_path / f"a.{suffix}")
    assert found.dtype == np.uint16
    assert np.array_equal(found, pixels.reshape(9, 7, -1))


@pytest.mark.parametrize("kind", [np.int16, np.int32, np.float32])
def test_tiff_of_signed_and_float_values(tmp_path, kind):
    pixels = (np.arange(60).reshape(6, 10) * 50 - 1024).astype(kind)
    cv2.imwrite(str(tmp_path / "a.tif"), pixels)
    found = decode(tmp_path / "a.tif")
    assert found.dtype == kind
    assert np.array_equal(found[..., 0], pixels)


def test_jpeg_colour_order_and_orientation_as_a_viewer_shows(tmp_path):
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[..., 0] = 200
    mark = Image.Exif()
    mark[274] = 6  # turned by 90 degrees
    Image.fromarray(pixels).save(tmp_path / "a.jpg", exif=mark, quality=95)
    found = decode(tmp_path / "a.jpg")
    assert found.shape == (32, 16, 3)
    assert np.allclose(found.mean((0, 1)), [200, 0, 0], atol=4)


def test_three_equal_channels_become_one_and_alpha_is_dropped(tmp_path):
    grey = noise(8, 8)
    Image.fromarray(np.dstack([grey] * 3)).save(tmp_path / "rgb.png")
    Image.fromarray(grey).convert("RGBA").save(tmp_path / "rgba.png")
    Image.fromarray(grey).convert("LA").save(tmp_path / "la.png")
    for name in ("rgb", "rgba", "la"):
        assert np.array_equal(decode(tmp_path / f"{name}.png")[..., 0], grey)
        assert decode(tmp_path / f"{name}.png").shape == (8, 8, 1)
    colour = np.dstack([grey, grey, grey])
    colour[7, 7, 2] ^= 1
    Image.fromarray(colour).save(tmp_path / "nearly.png")
    assert decode(tmp_path / "nearly.png").shape == (8, 8, 3)


def test_any_path_as_typed(tmp_path):
    path = tmp_path / "病人 [1] é.png"
    Image.fromarray(noise(4, 4)).save(path)
    assert decode(path).shape == (4, 4, 1)


def test_missing_empty_and_folder(tmp_path):
    (tmp_path / "empty.png").touch()
    (tmp_path / "folder.png").mkdir()
    assert refusal(tmp_path / "gone.png") == "does not exist, check the path"
    assert refusal(tmp_path / "empty.png") == ("is empty (0 bytes), copy it again from its source")
    assert refusal(tmp_path / "folder.png") == (
        "cannot be opened (Is a directory), check what it is and that you may read it"
    )


def test_text_called_png(tmp_path):
    (tmp_path / "a.png").write_text("patient,label\n1,ill\n")
    assert refusal(tmp_path / "a.png") == (
        "is not an image, give PNG, JPEG, TIFF, BMP, npy, npz or DICOM files"
    )


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "progressive.jpg", "a.tif", "lzw.tif", "a.bmp"])
def test_truncated_anywhere_is_never_accepted(tmp_path, name, capfd):
    smooth = cv2.GaussianBlur(noise(64, 48), (9, 9), 0)
    options = {"progressive": {"progressive": True}, "lzw": {"compression": "tiff_lzw"}}
    Image.fromarray(smooth).save(tmp_path / name, **options.get(name.split(".")[0], {}))
    whole, pixels = (tmp_path / name).read_bytes(), decode(tmp_path / name)
    for kept in [60, len(whole) // 2, len(whole) * 9 // 10, len(whole) - 13, len(whole) - 1]:
        (tmp_path / name).write_bytes(whole[:kept])
        if name == "lzw.tif" and kept == len(whole) - 1:  # the end of a strip is a mark, no pixel
            assert np.array_equal(decode(tmp_path / name), pixels)
            continue
        assert refusal(tmp_path / name) in (
            "is truncated, copy it again from its source",
            "is truncated or damaged, copy it again from its source",
        )
    assert capfd.readouterr().err == ""


def test_truncated_jpeg_with_an_end_mark_inside_its_thumbnail(tmp_path):
    smooth = cv2.GaussianBlur(noise(64, 64), (9, 9), 0)
    content = cv2.imencode(".jpg", smooth)[1].tobytes()
    comment = b"\xff\xfe\x00\x06\xff\xd9\xff\xd9"
    with_mark = content[:2] + comment + content[2:]
    (tmp_path / "a.jpg").write_bytes(with_mark)
    assert decode(tmp_path / "a.jpg").shape == (64, 64, 1)
    (tmp_path / "a.jpg").write_bytes(with_mark[: len(with_mark) // 2])
    assert "is truncated or damaged" in refusal(tmp_path / "a.jpg")


def test_flipped_byte_in_a_png_is_found(tmp_path):
    content = bytearray(cv2.imencode(".png", noise(32, 32))[1].tobytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "a.png").write_bytes(content)
    assert "is truncated or damaged" in refusal(tmp_path / "a.png")


def test_one_pixel_and_huge(tmp_path):
    Image.fromarray(noise(1, 1)).save(tmp_path / "one.png")
    Image.fromarray(noise(1, 40)).save(tmp_path / "line.png")
    assert refusal(tmp_path / "one.png") == (
        "is only 1 x 1 pixels, an image has at least 2 pixels a side, replace or remove it"
    )
    assert "is only 1 x 40 pixels" in refusal(tmp_path / "line.png")


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_huge_is_refused_before_memory_is_taken(tmp_path, suffix, monkeypatch):
    content = bytearray(cv2.imencode(suffix, noise(256, 256))[1].tobytes())
    place = 16 if suffix == ".png" else content.index(b"\xff\xc0") + 5
    side = (40000).to_bytes(4 if suffix == ".png" else 2, "big")
    content[place : place + 2 * len(side)] = side * 2
    if suffix == ".png":
        content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    path = tmp_path / f"huge{suffix}"
    path.write_bytes(content)
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("it was decoded"))
    assert refusal(path) == (
        "is 40000 x 40000 pixels, over the limit of 268435456, cut or shrink it first"
    )


def test_frames_of_an_image_file(tmp_path):
    Image.fromarray(noise(4, 4)).save(tmp_path / "a.png")
    assert refusal(tmp_path / "a.png", 1) == (
        "has no frame 1, only frame 0 is read from an image file"
    )
