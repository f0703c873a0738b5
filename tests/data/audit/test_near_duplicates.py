import cv2
import numpy as np
import pytest

from medvision.data.audit.near_duplicates import (
    ALIKE,
    APART,
    ImageHash,
    find_near_duplicates,
    hash_image,
)


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


def search(images, owners=None):
    names = [str(row) for row in range(len(images))]
    seen = [hash_image(image) for image in images]
    return find_near_duplicates(seen, owners or names, names).tolist()


CHANGES = {
    "another codec": jpeg,
    "smaller": lambda image: scaled(image, 0.75),
    "larger": lambda image: scaled(image, 1.5),
    "16 bits": lambda image: image.astype(np.uint16) * 257,
    "Hounsfield units": lambda image: image.astype(np.float32) * 7.5 - 1000,
    "colour": lambda image: np.repeat(image, 3, axis=-1),
    "brighter": lambda image: (255 * (image / 255) ** 0.85).astype(np.uint8),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_changed_copy_is_found(change):
    images = [draw(seed) for seed in range(6)]
    assert search([*images, *(change(image) for image in images)]) == [[n, n + 6] for n in range(6)]


def test_different_images_are_no_copies():
    assert search([draw(seed) for seed in range(150)]) == []


def test_slices_of_one_patient_are_no_copies():
    images = [draw(0), jpeg(draw(0)), scaled(draw(0), 0.8)]
    assert search(images, ["a", "a", "a"]) == []
    assert search(images, ["a", "b", "b"]) == [[0, 1], [0, 2]]


def test_of_a_still_clip_one_frame_speaks_for_all():
    frames = [draw(0)] * 40
    assert search([*frames, jpeg(draw(0))], ["a"] * 40 + ["b"]) == [[0, 40]]


def test_slices_that_share_their_bits_are_all_looked_at():
    one, other = hash_image(draw(0)), hash_image(draw(1))
    alike = [one, ImageHash(one.bits, other.fine), ImageHash(one.bits, other.fine)]
    assert find_near_duplicates(alike, ["a", "a", "b"], ["1", "2", "3"]).tolist() == [[1, 2]]


def test_exact_copies_are_told_elsewhere():
    seen = [hash_image(draw(0))] * 2
    assert find_near_duplicates(seen, ["a", "b"], ["same", "same"]).tolist() == []


def test_small_and_plain_images_are_like_nothing():
    assert hash_image(draw(0, 63, 200)) is None
    assert hash_image(np.full((80, 80, 3), 7, np.uint8)) is None
    assert hash_image(draw(0, 64, 64)) is not None


@pytest.mark.parametrize("top", [1e-30, 1.0, 3e38])
def test_any_range_of_values_is_described(top):
    values = draw(3).astype(np.float64) / 255
    found = hash_image((values * 2 * top - top).astype(np.float32))
    assert found is not None
    assert np.isfinite(found.fine).all()
    assert np.bitwise_count(found.bits ^ hash_image(draw(3)).bits) <= APART


def test_the_search_finds_what_comparing_all_pairs_finds():
    random = np.random.default_rng(0)
    bits = random.integers(0, 2**63, 300, dtype=np.uint64)
    flips = [
        np.bitwise_or.reduce(np.uint64(1) << random.choice(64, n % 8, replace=False).astype("u8"))
        if n % 8 else np.uint64(0)
        for n in range(300)
    ]  # fmt: skip
    bits = np.concatenate([bits, bits ^ np.array(flips, np.uint64)])
    fine = np.zeros(1024, np.float16)
    fine[0] = 1
    seen, names = [ImageHash(one, fine) for one in bits], [str(n) for n in range(600)]
    apart = np.bitwise_count(bits[:, None] ^ bits)
    expected = np.argwhere(np.triu(apart <= APART, 1)).tolist()
    assert len(expected) > 150
    assert find_near_duplicates(seen, names, names).tolist() == expected
    assert ALIKE < 1
