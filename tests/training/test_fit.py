import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from medvision.tasks.classification.task import Classifier
from medvision.tasks.generation.task import Adversarial
from medvision.training.fit import _count_patients


@pytest.mark.parametrize(("task", "counted"), [(Classifier, 39), (Adversarial, math.inf)])
def test_patients_of_val_are_counted_not_their_images(task, counted):
    """A generator is judged by images it makes, of which there are enough."""
    names = ["trained", *np.repeat([f"p{n}" for n in range(39)], 2)]
    ready = SimpleNamespace(
        rows=lambda part: np.arange(part == "val", len(names)),
        table=pd.DataFrame({"dataset": "phantom", "patient": names}),
    )
    assert _count_patients(SimpleNamespace(task=task, data=SimpleNamespace(ready=ready))) == counted
