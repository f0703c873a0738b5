"""`import medvision`: a small table of contents, imported when asked for, and what it answers."""

import ast
import inspect
import json
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from pytorch_lightning import Trainer
from torch.optim import SGD
from torch.utils.data import DataLoader

import medvision as library
import medvision.files as files
from medvision.errors import MedvisionError
from medvision.runs import Run
from medvision.tasks.classes import Classes
from medvision.tasks.generation.task import Adversarial
from medvision.tasks.trainable import Facts

SPY = """
import json, sys
before = {*sys.modules}
import medvision
names = {name.partition(".")[0] for name in {*sys.modules} - before}
foreign = sorted(names - sys.stdlib_module_names - {"medvision"})
print(json.dumps([foreign, dir(medvision), medvision.__version__, "torch" in sys.modules]))
medvision.ConvNet
print(json.dumps("torch" in sys.modules))
"""


def test_it_imports_nothing_until_it_is_asked():
    told = subprocess.run([sys.executable, "-c", SPY], capture_output=True, text=True, check=True)
    (foreign, listed, version, early), late = map(json.loads, told.stdout.splitlines())
    assert foreign == []
    assert listed == sorted(library.__all__)
    assert version == library.__version__
    assert (early, late) == (False, True)


def test_what_is_listed_is_what_is_typed_and_there():
    tree = ast.parse(Path(library.__file__).read_text(encoding="utf-8"))
    (typed,) = (node for node in tree.body if isinstance(node, ast.If))
    imports = [node for node in typed.body if isinstance(node, ast.ImportFrom)]
    places = {alias.name: node.module for node in imports for alias in node.names}
    assert {*places, "__version__"} == {*library.__all__}
    for name, module in places.items():
        assert getattr(library, name) is getattr(sys.modules[module], name)
        assert name in library.__doc__
    assert Path(library.__file__).with_name("py.typed").exists()


def test_what_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'medvision' has no attribute 'DenseNet'"):
        library.DenseNet  # noqa: B018
    assert not hasattr(library, "evaluator")


@pytest.fixture
def run(trained, apart) -> Path:
    """A finished run of one's own, under the runs folder of the test."""
    return shutil.copytree(trained, apart / "plain" / "seed=0")


def test_evaluate_returns_what_the_command_writes_and_prints_no_table(run, capsys):
    (run / "metrics.json").unlink()
    openings = len(Run(run).record["test_openings"])
    metrics, folder = library.evaluate("plain")
    assert folder == run
    assert metrics == files.read_json(run / "metrics.json")
    assert metrics["test"]["auroc"]["value"] > 0.5
    assert capsys.readouterr().out == ""
    told = Run(run).record["test_openings"]
    assert len(told) == openings + 1


def test_evaluate_takes_the_words_of_the_command(run, tmp_path):
    words = {"data": {"manifest": str(run / "manifest.csv")}, "split": "val"}
    with pytest.raises(MedvisionError, match="were seen in training or validation"):
        library.evaluate(run / "model.pt", **words)
    found = library.evaluate(run, **words, allow_overlap=True, output=tmp_path / "out")
    assert found.folder == tmp_path / "out"
    assert "were seen" in str(found.metrics["stamps"])


def test_compare_returns_what_the_command_writes_and_prints_no_table(run, apart, capsys):
    shutil.copytree(run, apart / "other" / "seed=0")
    found = library.compare([run, "other"], resamples=100)
    assert found.results == files.read_json(found.folder / "comparison.json")
    assert found.results["pairs"][0]["scores"]["auroc"]["value"] == 0
    assert capsys.readouterr().out == ""
    with pytest.raises(MedvisionError, match="needs at least two arms"):
        library.compare(["plain"])


def test_a_dcgan_takes_steps_and_answers_with_images():
    torch.manual_seed(0)
    settings = partial(SGD, lr=0.1)
    made = library.DCGAN(32, in_channels=3, num_classes=4, width=2, critic_optimizer=settings)
    before = [p.clone() for p in made.parameters()]
    batch = {"image": torch.rand(4, 3, 32, 32), "label": torch.tensor([0, 1, 2, 3])}
    fit(made, [batch, batch])
    assert any(not torch.equal(p, q) for p, q in zip(before, made.parameters(), strict=True))
    images = made.sample(torch.randn(4, made.latent), batch["label"])
    assert images.shape == batch["image"].shape
    assert 0 <= float(images.min()) <= float(images.max()) <= 1


def test_a_checkpoint_of_a_dcgan_says_what_to_take_instead(tmp_path):
    made = library.DCGAN(32, width=2)
    batch = {"image": torch.rand(2, 1, 32, 32), "label": torch.tensor([0, 1])}
    fit(made, [batch]).save_checkpoint(tmp_path / "last.ckpt")
    told = r"with medvision\.model\.load_generator, or give generator=…, critic=…, loss=…"
    with pytest.raises(MedvisionError, match=told):
        Adversarial.load_from_checkpoint(tmp_path / "last.ckpt")


def test_a_dcgan_is_the_one_of_its_yaml():
    node = OmegaConf.load(files.conf_folder() / "model" / "dcgan_classic.yaml")
    facts = Facts(Classes(["a", "b"], "binary"), 1, (32, 32), False, False, lambda: None)
    filed, made = Adversarial.build(node, facts, seed=0), library.DCGAN(32)
    shapes = [[p.shape for p in task.state_dict().values()] for task in (filed, made)]
    assert shapes[0] == shapes[1]
    told = [name for name in inspect.signature(Adversarial).parameters if "optim" not in name]
    for name in {*told} - {"generator", "critic", "loss", "channels_last"}:
        assert getattr(filed, name) == getattr(made, name), name
    assert filed.loss.func is made.loss
    for name in ("optimizer", "critic_optimizer"):
        ours, theirs = getattr(made, name), getattr(filed, name)
        assert ours.func is theirs.func
        assert ours.keywords.items() <= {**theirs.keywords, "betas": (0.5, 0.999)}.items()


def fit(task, batches):
    trainer = Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
    )  # fmt: skip
    trainer.fit(task, DataLoader(batches, batch_size=None))
    return trainer
