import cv2
import numpy as np
import pytest

from medvision.data.audit.near_duplicates import find_near_duplicates
from medvision.data.audit.texture import SIDE, draw_texture
from medvision.data.sources.phantom.source import find


def draw(seed, height=100, width=120):
    """A smooth image of its own with fine texture, uint8 `[H,W,1]`."""
    random = np.random.default_rng(seed)
    coarse = cv2.resize(random.normal(size=(9, 11)), (width, height), interpolation=cv2.INTER_CUBIC)
    fine = cv2.GaussianBlur(random.normal(size=(height, width)), (0, 0), 2)
    image = coarse + fine
    levels = 230 * (image - image.min()) / (image.max() - image.min()) + 10
    return levels.astype(np.uint8)[..., None]


def jpeg(image):
    return cv2.imdecode(cv2.imencode(".jpg", image, [1, 70])[1], cv2.IMREAD_GRAYSCALE)[..., None]


def scaled(image, factor):
    return cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)[..., None]


def moved(image, degrees=0.0, right=0.0, down=0.0):
    height, width = image.shape[:2]
    way = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1)
    way[:, 2] += right * width, down * height
    return cv2.warpAffine(image, way, (width, height))[..., None]


def lettered(image):
    written = np.ascontiguousarray(image)
    for text, row in (("R", 12), ("12.03. SUPINE", 96)):
        cv2.putText(written, text, (3, row), cv2.FONT_HERSHEY_SIMPLEX, 0.35, 255, 1)
    return written


def framed(value):
    def change(image):
        return cv2.copyMakeBorder(image, 6, 6, 6, 6, cv2.BORDER_CONSTANT, value=value)[..., None]

    return change


def search(images, owners=None, **asked):
    names = [str(row) for row in range(len(images))]
    seen = [draw_texture(np.ascontiguousarray(image)) for image in images]
    return find_near_duplicates(seen, owners or names, names, **asked).tolist()


CHANGES = {
    "another codec": jpeg,
    "smaller": lambda image: scaled(image, 0.75),
    "larger": lambda image: scaled(image, 1.5),
    "16 bits": lambda image: image.astype(np.uint16) * 257,
    "Hounsfield units": lambda image: image.astype(np.float32) * 7.5 - 1000,
    "colour": lambda image: np.repeat(image, 3, axis=-1),
    "brighter": lambda image: (255 * (image / 255) ** 0.85).astype(np.uint8),
    "saturated": lambda image: np.clip(image.astype(float) * 1.3 - 20, 0, 255).astype(np.uint8),
    "inverted": lambda image: 255 - image,
    "mirrored": lambda image: image[:, ::-1],
    "upside down": lambda image: image[::-1],
    "turned left": np.rot90,
    "turned round": lambda image: np.rot90(image, 2),
    "turned right": lambda image: np.rot90(image, 3),
    "mirrored and turned": lambda image: np.rot90(image[:, ::-1]),
    "cropped in the middle": lambda image: image[5:-5, 6:-6],
    "cropped in a corner": lambda image: image[10:, 12:],
    "cropped on one side": lambda image: image[10:],
    "shifted": lambda image: moved(image, right=0.05, down=-0.05),
    "turned by 2 degrees": lambda image: moved(image, degrees=2),
    "framed in black": framed(0),
    "framed in white": framed(255),
    "letters": lettered,
    "mirrored, cropped, as JPEG": lambda image: jpeg(image[4:-4, 8:][:, ::-1]),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_changed_copy_is_found(change):
    images = [draw(seed) for seed in range(8)]
    assert search([*images, *(change(image) for image in images)]) == [[n, n + 8] for n in range(8)]


def test_different_images_are_no_copies():
    assert search([draw(seed) for seed in range(150)]) == []


def test_slices_of_one_patient_are_no_copies():
    images = [draw(0), jpeg(draw(0)), scaled(draw(0), 0.8)]
    assert search(images, ["a", "a", "a"]) == []
    assert search(images, ["a", "b", "b"]) in ([[0, 1], [0, 2]], [[0, 1]])


def test_of_a_still_clip_one_frame_speaks_for_all():
    frames = [draw(0)] * 40
    assert search([*frames, jpeg(draw(0))], ["a"] * 40 + ["b"]) == [[0, 40]]


def test_exact_copies_are_told_elsewhere():
    seen = [draw_texture(draw(0))] * 2
    assert find_near_duplicates(seen, ["a", "b"], ["same", "same"]).tolist() == []


def test_copies_on_one_side_are_not_looked_for_where_two_are_compared():
    images = [draw(0), jpeg(draw(0)), np.rot90(draw(0)), draw(1)]
    assert search(images, sides=[0, 0, 1, 1]) == [[0, 2], [1, 2]]


def test_small_and_plain_images_are_like_nothing():
    assert draw_texture(draw(0, 63, 200)) is None
    assert draw_texture(np.full((80, 80, 3), 7, np.uint8)) is None
    assert draw_texture(draw(0, 64, 64)).shape == (SIDE, SIDE)


@pytest.mark.parametrize("top", [1e-30, 1.0, 3e38])
def test_any_range_of_values_is_described(top):
    values = draw(3).astype(np.float64) / 255
    found = draw_texture((values * 2 * top - top).astype(np.float32))
    assert np.corrcoef(found.ravel(), draw_texture(draw(3)).ravel())[0, 1] > 0.999


def test_drawn_bodies_are_alike_and_no_copies_but_a_copy_of_one_is(tmp_path):
    table = find(output=tmp_path, patients=30, slices=2, size=96, workers=1).table
    frames = zip(table["path"], table["frame"], strict=True)
    images = [np.load(path)[frame][..., None] for path, frame in frames]
    owners = table["patient"].tolist()
    assert search(images, owners) == []
    assert search([*images, images[7][:, ::-1]], [*owners, "another"]) == [[7, 60]]
