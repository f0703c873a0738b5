from dataclasses import replace

import pandas as pd

from medvision.data.audit.image_checks import check_images, note_part_sizes
from medvision.data.audit.scan import ImageFacts

PLAIN = ImageFacts("d", 100, 120, ".png uint8 grey", 0.1, 0.2, 5.0, None)


def notes(looks, **columns):
    return check_images(pd.DataFrame(columns, index=range(len(looks))), looks)


def test_a_clean_set_raises_no_alarm():
    looks = [replace(PLAIN, white=0.75, ends=0.9)] * 200
    assert notes(looks, spacing_y_mm=0.5, spacing_x_mm="0.502", modality="CT") == []


def test_plain_two_valued_and_saturated_images_are_noted_by_line():
    looks = [PLAIN] * 50
    looks[3] = looks[4] = replace(PLAIN, digest="")
    looks[7] = replace(PLAIN, ends=0.999, white=1.0)
    looks[9] = replace(PLAIN, white=0.81)
    told = notes(looks)
    assert [note[:30] for note in told] == [
        "2 images (such as line 5) of o", "1 image (such as line 9) of ha",
        "1 image (such as line 11) whos",
    ]  # fmt: skip


def test_a_rare_size_is_odd_only_where_sizes_agree():
    looks = [PLAIN] * 300
    looks[5] = replace(PLAIN, height=90)
    assert notes(looks) == [
        "1 image (such as line 7) of a size that hardly any other has (most are 100x120)"
    ]
    assert notes([replace(PLAIN, height=90 + n % 150) for n in range(300)]) == []


def test_a_stretched_image_is_noted():
    looks = [replace(PLAIN, height=90 + n % 40) for n in range(300)]
    looks[0] = replace(PLAIN, height=400)
    assert any("over twice as wide or as high" in note for note in notes(looks))


def test_mixed_scales_and_kinds_are_noted():
    looks = [PLAIN] * 4
    told = notes(looks, spacing_y_mm=[0.5, 0.5, 0.51, None], spacing_x_mm=["0.5", "", "0.8", "x"],
                 modality=["CT", "CT", "MR", ""])  # fmt: skip
    assert told[0].startswith("pixels of 0.5 to 0.8 mm")
    assert told[1] == "modality is mixed: CT (2), MR (1), none (1)"


def test_a_part_of_one_size_beside_one_of_mixed_sizes_is_noted():
    looks = [PLAIN] * 3 + [replace(PLAIN, height=90 + n) for n in range(3)]
    split = pd.Series(["test"] * 3 + ["train"] * 3)
    assert note_part_sizes(split, looks) == [
        f"all 3 images of test are of one size ({PLAIN.size}), those of train are mixed: the parts "
        "may come from two places"
    ]
    assert note_part_sizes(pd.Series([""] * 6), looks) == []
