import cv2
import numpy as np
import pytest

BRIEF = ("trainer=debug", "test=false", "model.net.widths=[8,16]", "threads=1")


@pytest.fixture
def photographs(tmp_path):
    """Colour PNG of 24 patients, 60 x 50, of the classes `lump` and `normal`."""
    random = np.random.default_rng(0)
    for patient in range(24):
        place = tmp_path / "in" / ("lump" if patient % 2 else "normal")
        place.mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 255, (60, 50, 3), dtype=np.uint8)
        cv2.imwrite(str(place / f"p{patient}.png"), pixels)
    return ("train", "data=folder", f"data.source.input={tmp_path / 'in'}",
            "data.source.columns.patient=path", *BRIEF)  # fmt: skip


def test_what_is_done_to_the_pixels_is_said_and_follows_from_the_files(
    photographs, apart, medvision
):
    done = medvision(*photographs)
    assert done.status == 0, done.err
    assert "read as 64×64, 3 channels (files: 60×50, colour), augment=ct\n" in done.out
    assert (
        "note: the positive class is 'lump', for 'normal' is named as the negative one" in done.out
    )


def test_an_explicit_word_wins(photographs, apart, medvision):
    words = ("data.reader.size=[32,32]", "data.reader.channels=1", "augment=none")
    done = medvision(*photographs, *words)
    assert done.status == 0, done.err
    assert "read as 32×32, 1 channel (files: 60×50, colour), augment=none\n" in done.out
