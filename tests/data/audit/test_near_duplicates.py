import cv2
import numpy as np
import pytest

from medvision.data.audit.descriptor import describe_look
from medvision.data.audit.near_duplicates import find_near_duplicates
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
    seen = [describe_look(np.ascontiguousarray(image)) for image in images]
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
    seen = [describe_look(draw(0))] * 2
    assert find_near_duplicates(seen, ["a", "b"], ["same", "same"]).tolist() == []


def test_copies_on_one_side_are_not_looked_for_where_two_are_compared():
    images = [draw(0), jpeg(draw(0)), np.rot90(draw(0)), draw(1)]
    assert search(images, sides=[0, 0, 1, 1]) == [[0, 2], [1, 2]]


def test_small_and_plain_images_are_like_nothing():
    assert describe_look(draw(0, 63, 200)) is None
    assert describe_look(np.full((80, 80, 3), 7, np.uint8)) is None
    assert describe_look(draw(0, 64, 64)) is not None


@pytest.mark.parametrize("top", [1e-30, 1.0, 3e38])
def test_any_range_of_values_is_described(top):
    values = draw(3).astype(np.float64) / 255
    found, expected = (
        describe_look((values * 2 * top - top).astype(np.float32)),
        describe_look(draw(3)),
    )
    for one, other in ((found.texture, expected.texture), (found.thumbnail, expected.thumbnail)):
        assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.999


def test_drawn_bodies_are_alike_and_no_copies_but_a_copy_of_one_is(tmp_path):
    table = find(output=tmp_path, patients=30, slices=2, size=96, workers=1).table
    frames = zip(table["path"], table["frame"], strict=True)
    images = [np.load(path)[frame][..., None] for path, frame in frames]
    owners = table["patient"].tolist()
    assert search(images, owners) == []
    for row in (7, 30):
        for copy in (images[row][:, ::-1], images[row] * 2 - 100):
            assert search([*images, copy], [*owners, "another"]) == [[row, 60]]


def grid():
    return np.mgrid[:96, :96].astype(float)


def blobs(random, number, sharp=False):
    y, x = grid()
    image = np.zeros((96, 96))
    for _ in range(number):
        down, right, width = *random.uniform(19, 77, 2), random.uniform(5, 19)
        far = np.hypot(y - down, x - right) / width
        image = np.maximum(image, far < 1 if sharp else np.exp(-(far**2) / 2))
    return 20 + 200 * image


def stripes(random):
    y, x = grid()
    turn, waves = random.uniform(0, np.pi), random.uniform(2, 12)
    phase = 2 * np.pi * waves * (x * np.cos(turn) + y * np.sin(turn)) / 96 + random.uniform(0, 6)
    return 128 + 90 * np.sin(phase)


def rings(random):
    y, x = grid()
    far = np.hypot(y - random.uniform(38, 58), x - random.uniform(38, 58))
    return 128 + 80 * np.sin(2 * np.pi * far * random.uniform(5, 12) / 96)


def polygon(random):
    image = np.full((96, 96), 30, np.uint8)
    corners = (random.uniform(0.1, 0.9, (4, 2)) * 96).astype(np.int32)
    return cv2.fillPoly(image, [corners], 200).astype(float)


PLAIN = {
    "one blob": lambda random: blobs(random, 1),
    "three blobs": lambda random: blobs(random, 3),
    "three discs": lambda random: blobs(random, 3, sharp=True),
    "stripes": stripes,
    "rings": rings,
    "polygons": polygon,
    "flat": lambda random: np.full((96, 96), random.uniform(20, 230)),
}


@pytest.mark.parametrize("noise", [0, 4])
@pytest.mark.parametrize("kind", PLAIN)
def test_plain_drawings_of_sixty_patients_are_no_copies_but_their_brighter_copies_are(kind, noise):
    random = np.random.default_rng(0)
    drawn = [PLAIN[kind](random) + noise * random.normal(size=(96, 96)) for _ in range(60)]
    images = [image.clip(0, 255).astype(np.uint8)[..., None] for image in drawn]
    brighter = (images[5] * 0.9 + 20).astype(np.uint8)
    copies = [] if kind == "flat" and not noise else [[5, 60]]  # of one value is no image
    assert search([*images, brighter]) == copies


def test_a_pair_that_stands_apart_is_found_where_one_among_its_like_is_not():
    """What agrees less than copies do, as the next slice, is told where nothing comes near."""

    def mix(share, other, image=0):
        return (draw(image) * (1 - share) + draw(other) * share).astype(np.uint8)

    others = [draw(seed) for seed in range(1, 20)]
    assert search([draw(0), *others, mix(0.45, 99)]) == [[0, 20]]
    many = [mix(share, 100 + n) for n, share in enumerate(np.linspace(0.45, 0.55, 12))]
    assert [0, 20] not in search([draw(0), *others, *many])


def test_where_nothing_is_described_there_is_nothing_to_find():
    assert find_near_duplicates([None] * 3, ["a", "b", "c"], ["1", "2", "3"]).tolist() == []


def test_the_smaller_side_asks_whichever_it_is():
    images = [draw(seed) for seed in range(12)]
    copies = [draw(3)[:, ::-1], draw(99)]
    assert search([*images, *copies], sides=[0] * 12 + [1] * 2) == [[3, 12]]
    assert search([*copies, *images], sides=[0] * 2 + [1] * 12) == [[0, 5]]
