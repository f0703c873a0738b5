from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from medvision.tasks.classification.task import Classifier
from medvision.tasks.generation.task import Adversarial
from medvision.training.keep import explain_last, keeps_last, note_last


def job(patients, keep="auto", task=Classifier):
    """A job whose val part holds two images of each of so many patients, beside one of train."""
    names = ["trained", *np.repeat([f"p{n}" for n in range(patients)], 2)]
    ready = SimpleNamespace(
        rows=lambda part: np.arange(part == "val", len(names)),
        table=pd.DataFrame({"dataset": "phantom", "patient": names}),
    )
    config = SimpleNamespace(keep=keep, monitor="val/auroc")
    return SimpleNamespace(config=config, task=task, data=SimpleNamespace(ready=ready))


@pytest.mark.parametrize(("given", "last"), [
    ({"patients": 39}, True), ({"patients": 40}, False), ({"patients": 39, "keep": "best"}, False),
    ({"patients": 40, "keep": "last"}, True), ({"patients": 39, "task": Adversarial}, False),
])  # fmt: skip
def test_few_patients_of_val_choose_no_epoch(given, last):
    """They are counted, not their images; a generator is judged by images it makes."""
    assert keeps_last(job(**given)) is last


def test_it_is_said_before_and_after_and_so_is_the_way_out():
    (note,) = note_last(job(14))
    assert note.startswith("val holds 14 patients, too few")
    assert "keep=best lets val/auroc choose" in note
    assert note_last(job(40)) == note_last(job(40, "last")) == note_last(job(14, "best")) == []
    assert explain_last(job(14), 20) == (
        "the last of 20, as val holds 14 patients and from 40 on val/auroc chooses"
    )
    assert explain_last(job(14, "last"), 20) == "the last of 20, as keep=last asks"
