"""A task that is fitted, not stepped, in a package of a user's: from training to prediction."""

import json
import sys
import textwrap

import numpy as np
import pandas as pd
import pytest
import torch

from medvision.model import load_model
from medvision.tasks import find_task, short_name

FOREST = '''
    """A forest on the brightness of cells, kept as plain arrays."""

    from typing import Annotated

    import torch
    from sklearn.ensemble import RandomForestClassifier
    from torch import nn
    from torch.nn.functional import adaptive_avg_pool2d

    from medvision.ranges import Whole
    from medvision.tasks.classification.task import Classifier


    def describe(image):
        return adaptive_avg_pool2d(image, 8).flatten(1).double()


    class Trees(nn.Module):
        def __init__(self, num_classes, in_channels=1):
            super().__init__()
            self.trees = []

        def get_extra_state(self):
            return self.trees

        def set_extra_state(self, state):
            self.trees = state

        def forward(self, image):
            features = describe(image.cpu())
            return torch.stack([vote(tree, features) for tree in self.trees]).mean(0).log()


    def vote(tree, features):
        rows = torch.arange(len(features))
        node = torch.zeros_like(rows)
        for _ in range(tree["depth"]):
            inner = tree["left"][node] >= 0
            goes_left = features[rows, tree["feature"][node].clamp_min(0)] <= tree["cut"][node]
            child = torch.where(goes_left, tree["left"][node], tree["right"][node])
            node = torch.where(inner, child, node)
        return tree["share"][node] + 1e-3


    def plain(tree):
        held = tree.tree_
        return {
            "left": torch.tensor(held.children_left), "right": torch.tensor(held.children_right),
            "feature": torch.tensor(held.feature), "cut": torch.tensor(held.threshold),
            "share": torch.tensor(held.value[:, 0]), "depth": int(held.max_depth),
        }


    class Forest(Classifier):
        def __init__(self, net, *args, trees: Annotated[int, Whole(1)] = 100, **others):
            super().__init__(net, *args, **others)
            self.trees = trees

        def fit(self, context):
            rows = context.rows.of("train")
            images, truth = context.rows.images(rows), context.rows.truth(rows)["label"]
            forest = RandomForestClassifier(
                self.trees, min_samples_leaf=3, random_state=context.config.seed
            )
            forest.fit(describe(images).numpy(), truth)
            self.net.trees = [plain(tree) for tree in forest.estimators_]
            return True

        def compiled(self):
            yield from ()
'''
MODEL = """
    _target_: planted_forest.Forest
    net: {_target_: planted_forest.Trees, _partial_: true}
    trees: 30
"""


@pytest.fixture(scope="module")
def conf(tmp_path_factory):
    """A folder of a user's: a module on the path, and a configuration that names it."""
    top = tmp_path_factory.mktemp("mine")
    (top / "planted_forest.py").write_text(textwrap.dedent(FOREST))
    (top / "conf" / "model").mkdir(parents=True)
    (top / "conf" / "model" / "forest.yaml").write_text(textwrap.dedent(MODEL))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(top)
        yield top / "conf"
    sys.modules.pop("planted_forest", None)


def words_of(conf, phantom):
    return [
        "--config-dir", conf, "model=forest", "data=manifest", f"data.manifest={phantom}",
        "data.reader.size=[32,32]", "data.reader.window=[-100,200]", "data.workers=1", "threads=1",
        "name=forest",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def forest(conf, phantom, places, medvision):
    words = words_of(conf, phantom)
    done = medvision("train", *words)
    assert done.status == 0, done.err
    (folder,) = (p for p in (places / "runs" / "forest").iterdir() if p.is_dir())
    again = medvision("train", *words)
    assert "finished already" in again.out
    return folder


def test_it_is_a_run_without_an_epoch(forest):
    record = json.loads((forest / "record.json").read_text())
    metrics = json.loads((forest / "metrics.json").read_text())
    assert record["task"] == "planted_forest.Forest" == short_name(find_task(record["task"]))
    assert (record["status"], record["epochs"], record["checkpoints"]) == ("done", 0, {})
    assert record["objective"] == pytest.approx(metrics["val"]["auroc"]["value"], abs=1e-6)
    assert metrics["test"]["auroc"]["value"] is not None
    assert not (forest / "history.csv").exists()
    assert (forest / "report.html").exists()


def test_its_arrays_predict_what_was_scored(forest, medvision, tmp_path):
    model = load_model(forest / "model.pt")
    assert model.task == "planted_forest.Forest"
    assert len(model.net.trees) == 30
    assert all(isinstance(v, torch.Tensor | int) for tree in model.net.trees for v in tree.values())
    stored = pd.read_csv(forest / "predictions" / "test.csv")
    done = medvision("predict", f"run={forest}", f"input={forest}/predictions/test.csv",
                     f"output={tmp_path}/out.csv")  # fmt: skip
    assert done.status == 0, done.err
    found = pd.read_csv(tmp_path / "out.csv")
    np.testing.assert_allclose(found["prob_lesion"], stored["prob_lesion"], atol=1e-9)
    assert medvision("report", f"run={forest}").status == 0


def test_its_own_options_are_checked_as_ours_are(conf, phantom, apart, medvision):
    done = medvision("train", "--config-dir", conf, "model=forest", "model.trees=0",
                     "data=manifest", f"data.manifest={phantom}")  # fmt: skip
    assert done.status == 2
    assert "model.trees=0 must be a whole number, 1 or more" in done.err
    for target, told in (
        ("planted_forest.Trees", "model._target_=planted_forest.Trees is no task; derive it from"),
        ("planted_forest.Trunk", "model._target_=planted_forest.Trunk cannot be found"),
    ):
        done = medvision("train", "--config-dir", conf, "model=forest", f"model._target_={target}",
                         "data=manifest", f"data.manifest={phantom}")  # fmt: skip
        assert done.status == 2
        assert told in done.err


def test_killed_while_it_is_evaluated_it_is_not_fitted_again(
    forest, conf, phantom, apart, medvision, monkeypatch
):
    import planted_forest

    from medvision.training import finish

    words = [word.replace("name=forest", "name=cut") if isinstance(word, str) else word
             for word in words_of(conf, phantom)]  # fmt: skip
    with monkeypatch.context() as patch:
        patch.setattr(finish, "evaluate_parts", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert medvision("train", *words).status == 130
    (folder,) = (p for p in (apart / "cut").iterdir() if p.is_dir())
    model = (folder / "model.pt").read_bytes()
    monkeypatch.setattr(planted_forest.Forest, "fit", lambda *_: pytest.fail("fitted again"))
    done = medvision("train", *words)
    assert done.status == 0, done.err
    assert f"resuming in {folder}" in done.out
    assert (folder / "model.pt").read_bytes() == model
    for name in ("metrics.json", "predictions/test.csv"):
        assert (folder / name).read_bytes() == (forest / name).read_bytes(), name
