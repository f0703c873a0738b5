"""Classes that have moved are found under the names of before, and a run keeps its key."""

import subprocess
import sys

import pytest
from hydra.utils import get_object
from omegaconf import OmegaConf

from medvision.moved import MOVED, current, rename_targets
from medvision.runs import run_key
from medvision.training import config as training_config
from medvision.training.config import follow_moves

# Every `_target_` of conf/, README and CONTRIBUTING before the tree of tasks, ours alone.
BEFORE = """
medvision.augment.draw.Augment medvision.augment.policy.Policy
medvision.augment.sequence.SequenceAugment medvision.callbacks.averaging.Averaging
medvision.callbacks.profiling.Profile medvision.data.datamodule.ImageDataModule
medvision.data.readers.Reader medvision.evaluation.gate.Thresholds medvision.losses.brier
medvision.losses.cross_entropy medvision.losses.focal medvision.losses.hinge
medvision.losses.least_squares medvision.losses.non_saturating medvision.losses.relativistic
medvision.losses.wasserstein medvision.nets.build.build_net medvision.nets.convnet.ConvNet
medvision.nets.dcgan.Critic medvision.nets.dcgan.Generator medvision.nets.keras_cnn.KerasCNN
medvision.nets.slice_rnn.SliceRNN medvision.tasks.SequenceClassifier
medvision.tasks.adversarial.Adversarial medvision.tasks.classification.Classifier
medvision.tasks.sequence.SequenceClassifier
""".split()  # noqa: SIM905 -- a list of words


@pytest.mark.parametrize("path", BEFORE)
def test_every_path_of_before_leads_to_what_can_be_imported(path):
    found = get_object(current(path))
    assert callable(found)
    named = path.rpartition(".")[2].replace("SequenceClassifier", "Classifier")
    assert found.__name__ == named.replace("Policy", "DiffAugment")


def test_the_table_names_what_has_moved_and_nothing_else():
    assert set(MOVED) <= set(BEFORE)
    assert not set(MOVED) & set(MOVED.values())
    assert current("torchvision.models.resnet18") == "torchvision.models.resnet18"


def configuration(task, data, net="torchvision.models.resnet18"):
    return {
        "seed": 0, "data": {"_target_": data, "batch_size": 8},
        "model": {"_target_": task, "net": {"_target_": net, "_partial_": True}},
        "callbacks": [{"_target_": "mine.Clock"}],
    }  # fmt: skip


OLD = configuration("medvision.tasks.sequence.SequenceClassifier",
                    "medvision.data.datamodule.ImageDataModule")  # fmt: skip
NEW = configuration("medvision.tasks.classification.task.Classifier",
                    "medvision.data.batches.datamodule.ImageDataModule")  # fmt: skip


def test_a_run_key_does_not_know_where_a_class_of_ours_lives():
    assert run_key(["seed=0"], OLD, ["d"]) == run_key(["seed=0"], NEW, ["d"])
    other = configuration(NEW["model"]["_target_"], NEW["data"]["_target_"], "mine.resnet18")
    assert run_key(["seed=0"], other, ["d"]) != run_key(["seed=0"], NEW, ["d"])


def test_a_configuration_of_before_is_brought_up_to_date_and_said_once(capsys, monkeypatch):
    monkeypatch.setattr(training_config, "_told", set())
    for _ in range(2):
        config = OmegaConf.create(OLD | {"again": "${data}", "unset": "???"})
        OmegaConf.set_struct(config, True)
        follow_moves(config)
        assert config.data._target_ == NEW["data"]["_target_"]
        assert config.again._target_ == NEW["data"]["_target_"]
        assert config.callbacks[0]._target_ == "mine.Clock"
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"note: {old} is {new} now; mend the file that names it"
                     for old, new in ((OLD[key]["_target_"], NEW[key]["_target_"])
                                      for key in ("data", "model"))]  # fmt: skip
    assert rename_targets(OLD) == NEW


def test_a_file_of_a_users_from_before_trains(tiny, tmp_path, apart, medvision):
    words = (*tiny[1:], "model=mine", "trainer.max_epochs=1", "test=false", "name=old")
    for task in ("classification.Classifier", "classification.task.Classifier"):
        (tmp_path / "conf" / "model").mkdir(parents=True, exist_ok=True)
        (tmp_path / "conf" / "model" / "mine.yaml").write_text(
            f"defaults: [convnet]\n_target_: medvision.tasks.{task}\n"
        )
        done = medvision("train", "--config-dir", str(tmp_path / "conf"), *words)
        assert done.status == 0, done.err
    assert "finished already" in done.out  # under either name it is the same run


def test_the_name_of_before_is_importable_and_the_folder_of_tasks_stays_cheap():
    code = (
        "import sys, medvision.tasks\nassert 'torch' not in sys.modules\n"
        "from medvision.tasks import SequenceClassifier\n"
        "from medvision.tasks.classification.task import Classifier\n"
        "assert SequenceClassifier is Classifier\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
