import cv2
import numpy as np
import pandas as pd
import pytest

from medvision.data.sources.defaults import choose_form


def write(place, size, *, colour=False, layers=3):
    place.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    grey = random.integers(0, 200, (*size, 1), dtype=np.uint8).repeat(layers, axis=-1)
    if colour:
        grey[..., 0] //= 3
    cv2.imwrite(str(place), grey)
    return place


@pytest.mark.parametrize(
    ("sizes", "chosen"),
    [
        ([(300, 400)] * 3, [128, 128]),
        ([(28, 28)] * 3, [32, 32]),
        ([(64, 90)] * 3, [64, 96]),
        ([(40, 40), (64, 64), (999, 999)], [64, 64]),
    ],
)
def test_the_median_file_says_the_size_up_to_a_bound(tmp_path, sizes, chosen):
    for number, size in enumerate(sizes):
        write(tmp_path / "a" / f"p{number}.png", size)
    assert choose_form(None, {"name": "folder", "input": str(tmp_path)}, None)[0] == chosen


def test_colour_is_kept_where_files_show_it_and_not_where_they_have_three_equal_channels(tmp_path):
    write(tmp_path / "colour" / "a" / "p.png", (40, 40), colour=True)
    write(tmp_path / "grey" / "a" / "p.png", (40, 40))
    forms = {name: choose_form(None, {"name": "folder", "input": str(tmp_path / name)}, None)
             for name in ("colour", "grey")}  # fmt: skip
    assert {name: channels for name, (_, channels) in forms.items()} == {"colour": 3, "grey": 1}


def test_tables_are_looked_at_and_what_cannot_be_is_as_before(tmp_path):
    write(tmp_path / "a.png", (64, 64), colour=True)
    pd.DataFrame({"file": ["a.png"]}).to_csv(tmp_path / "t.csv", index=False)
    table = str(tmp_path / "t.csv")
    assert choose_form(table, None, {"path": "file"}) == ([64, 64], 3)
    source = {"name": "table", "input": table, "columns": {"path": "file"}}
    assert choose_form(None, source, None) == ([64, 64], 3)
    for other in ({"name": "phantom"}, {"name": "folder", "input": "nowhere"}, {"name": "dicom",
                  "input": str(tmp_path)}, None):  # fmt: skip
        assert choose_form(None, other, None) == ([128, 128], 1)
    assert choose_form(str(tmp_path / "none.csv"), None, None) == ([128, 128], 1)
