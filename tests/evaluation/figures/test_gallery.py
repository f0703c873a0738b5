import cv2
import numpy as np

from medvision.evaluation.evaluator import HIT, open_evaluator
from medvision.evaluation.figures.gallery import (
    CaseCaption,
    lay_out,
    read_gallery,
    short_id,
    write_gallery,
)

EVALUATOR = open_evaluator("classification")


def test_only_the_beginning_of_a_pseudonym_is_shown():
    assert short_id("p0123456789ab") == "p012345"
    assert short_id("Mrs Smith 1950") == short_id("patient01") == ""


def test_pictures_are_enlarged_by_whole_pixels_and_laid_out():
    grey = np.full((1, 40, 50, 1), 7, np.uint8)
    one = lay_out([grey, np.full((1, 40, 50, 3), 9, np.uint8)])
    assert one.shape == (160, 2 * 200 + 3, 3)  # side by side, four times as large
    assert (one[:, :200] == 7).all()
    assert (one[:, 200:203] == 255).all()
    assert (one[:, 203:] == 9).all()
    three = lay_out([np.zeros((3, 200, 100, 1), np.uint8)] * 2)
    assert three.shape == (2 * 200 + 3, 3 * 100 + 6, 3)


def tell(kind, **more):
    facts = {"kind": kind, "label": "a", "pred": "b", "sureness": 0.9, "patient": "p012345",
             "site": "north"}  # fmt: skip
    return CaseCaption([np.zeros((1, 8, 8, 1), np.uint8)], facts | more)


def test_groups_come_misses_first_with_their_number_and_facts(tmp_path):
    cases = [tell(HIT), tell("false positive"), tell("false positive", patient="", site=""),
             tell("false negative", positions=[3, 4], slices=9)]  # fmt: skip
    kinds = ["false positive"] * 5 + [HIT] * 20 + ["false negative", ""]
    write_gallery(tmp_path, cases, kinds)
    assert cv2.imread(str(tmp_path / "01.png")).shape == (160, 160, 3)
    first, second, third = read_gallery(tmp_path, EVALUATOR)
    assert [g.title for g in (first, second, third)] == [
        "False positives", "False negatives", "Hits, to compare"
    ]  # fmt: skip
    assert first.note == "2 of 5: the surest, of different patients"
    assert second.note == "all 1"
    assert first.figures[0]["title"] == "a, said b .900"
    assert first.figures[0]["text"] == "site north · patient p012345…"
    assert first.figures[1]["text"] == ""
    assert second.figures[0]["text"].endswith("positions 3, 4; 9 slices")
    assert third.figures[0]["title"] == "b .900"


def test_no_gallery_has_no_groups(tmp_path):
    assert list(read_gallery(tmp_path, EVALUATOR)) == []
