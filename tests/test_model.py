import errno
import json
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from torch import nn

import medvision.files as files
from medvision.errors import MedvisionError
from medvision.model import Model, load_generator, load_model, read_model_file, save_model
from medvision.seen import Seen
from medvision.trust.names import trusting

CONFIG = {
    "_target_": "medvision.nets.build.build_net",
    "net": {
        "_target_": "medvision.nets.convnet.ConvNet", "_partial_": True, "widths": [4, 8],
    },
    "num_classes": 2, "in_channels": 1, "init": None,
}  # fmt: skip

READER = {"size": [12, 12], "percentiles": [0.5, 99.5], "window": "full"}
SEEN = Seen(["p1"], ["i1", "i2"], ["p2"], ["i3"], "0a1b2c3d", ["w1"], ["w2"], "11223344")
BEFORE = ("train_patients", "train_images", "val_patients", "val_images", "key")


def model(**changes):
    torch.manual_seed(0)
    net = instantiate(CONFIG)
    net.train()
    net(torch.rand(8, 1, 12, 12))  # so that the running statistics are not those of a new net
    facts = {
        "net": net.eval(), "config": CONFIG, "task": "classification",
        "target": {"classes": ["sick", "肺炎"], "kind": "binary", "negative": None,
                   "rename": {"x": None}},
        "inputs": {"reader": READER, "unit": None, "tabular": None},
        "decision": {"temperature": 1.3, "rule": "youden", "threshold": 0.1 + 0.2},
        "augment": {"rotate_degrees": 10.0}, "tta": 4, "seed": 7, "seen": SEEN,
        "trained_on": {"modality": ["CT"], "values": [-1024.0, 0.1 + 0.2], "signed": True},
    }  # fmt: skip
    return Model(**(facts | changes))


def write_earlier(number, place, **changes):
    """Write a `model.pt` as the commits wrote it that had this format."""
    saved = model()
    content = {
        "format": number, "classes": ["sick", "肺炎"], "kind": "binary", "contract": READER,
        "temperature": 1.3, "rule": "youden", "threshold": 0.1 + 0.2, "rename": {"x": None},
        "negative": None, "tta": 4, "seed": 7,
        "seen": {name: getattr(SEEN, name) for name in BEFORE},
        "weights": dict(saved.net.state_dict()), "config": json.dumps(CONFIG),
        "augment": json.dumps({"rotate_degrees": 10.0}),
    }  # fmt: skip
    added = {"trained_on": 2, "series": 3, "gate": 4}  # key → the format that began to hold it
    later = {"trained_on": saved.trained_on, "series": None, "gate": None}
    content |= {key: later[key] for key, since in added.items() if number >= since}
    torch.save(content | changes, place)
    return saved


def test_a_model_comes_back_bit_for_bit(tmp_path):
    saved, image = model(), torch.rand(5, 1, 12, 12)
    digest = save_model(saved, tmp_path / "model.pt")
    assert digest == files.digest_file(tmp_path / "model.pt")
    loaded = load_model(tmp_path / "model.pt")
    assert not loaded.net.training
    with torch.inference_mode():
        assert torch.equal(loaded.net(image), saved.net(image))
    for name, value in saved.net.state_dict().items():
        assert torch.equal(loaded.net.state_dict()[name], value), name
    for name in Model.__dataclass_fields__:
        if name != "net":
            assert getattr(loaded, name) == getattr(saved, name), name


def test_the_file_holds_plain_types_only(tmp_path):
    save_model(model(), tmp_path / "model.pt")
    content = torch.load(tmp_path / "model.pt", weights_only=True)
    assert content.keys() == {
        "format", "task", "target", "decision", "inputs", "net", "weights", "trained_on", "seen",
        "augment", "tta", "seed", "gate",
    }  # fmt: skip
    assert content["format"] == 6
    assert content["weights"].keys() == model().net.state_dict().keys()


class Table(nn.Module):
    """A model of arrays, such as a forest: what it keeps is no parameter."""

    def __init__(self):
        super().__init__()
        self.rows = {}

    def get_extra_state(self):
        return self.rows

    def set_extra_state(self, state):
        self.rows = state


def test_arrays_of_a_fitted_model_come_back(tmp_path):
    net = Table()
    net.rows = {"threshold": torch.tensor([0.5, 0.25]), "feature": [3, 1], "depth": 2}
    config = {"_target_": f"{__name__}.Table"}
    save_model(model(net=net, config=config), tmp_path / "model.pt")
    with trusting():  # a net of the tests
        rows = load_model(tmp_path / "model.pt").net.rows
    assert torch.equal(rows.pop("threshold"), net.rows["threshold"])
    assert rows == {"feature": [3, 1], "depth": 2}


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_a_model_of_an_earlier_format_is_read(tmp_path, number):
    saved, image = write_earlier(number, tmp_path / "model.pt"), torch.rand(3, 1, 12, 12)
    loaded = load_model(tmp_path / "model.pt")
    assert loaded.seen == Seen(*(getattr(SEEN, name) for name in BEFORE))
    for name in Model.__dataclass_fields__.keys() - {"net", "trained_on", "seen"}:
        assert getattr(loaded, name) == getattr(saved, name), name
    assert loaded.trained_on == (saved.trained_on if number > 1 else None)
    with torch.inference_mode():
        assert torch.equal(loaded.net(image), saved.net(image))
    save_model(loaded, tmp_path / "again.pt")
    assert torch.load(tmp_path / "again.pt", weights_only=True)["format"] == 6


def test_an_earlier_model_of_series_and_an_earlier_generator_are_read(tmp_path):
    form, gate = {"channels": None, "on_gap": "keep"}, {"passed": True, "reasons": []}
    write_earlier(3, tmp_path / "series.pt", series=form)
    assert load_model(tmp_path / "series.pt").unit == form
    write_earlier(4, tmp_path / "generator.pt", kind="generator", gate=gate, threshold=None)
    loaded = load_generator(tmp_path / "generator.pt")
    assert (loaded.task, loaded.gate, loaded.classes) == ("generation", gate, ["sick", "肺炎"])
    with pytest.raises(MedvisionError, match=r"generator\.pt is a generator"):
        load_model(tmp_path / "generator.pt")


def test_classes_that_have_moved_since_are_found(tmp_path):
    moved = {"_target_": "medvision.augment.policy.Policy", "seed": 3}
    write_earlier(4, tmp_path / "model.pt", augment=json.dumps({"inner": [moved]}))
    (found,) = load_model(tmp_path / "model.pt").augment["inner"]
    assert found == {"_target_": "medvision.augment.policy.DiffAugment", "seed": 3}


def test_a_generator_and_a_classifier_are_not_taken_for_each_other(tmp_path):
    gate = {"passed": False, "score": 0.1 + 0.2, "spaces": ["random"], "reasons": ["it copies"]}
    place = tmp_path / "model.pt"
    save_model(model(task="generation", gate=gate), place)
    assert load_generator(place).gate == gate
    with pytest.raises(
        MedvisionError, match=r"model\.pt is a generator, .*: medvision generate run"
    ):
        load_model(place)
    save_model(model(), place)
    with pytest.raises(MedvisionError, match=r"model\.pt is a classifier, .*medvision evaluate"):
        load_generator(place)


@pytest.mark.parametrize("task", ["counting", "nowhere.tasks.Counting", "json.decoder.x.Counting"])
def test_a_task_that_is_not_installed_is_one_sentence(tmp_path, task):
    save_model(model(task=task), tmp_path / "model.pt")
    told = rf"model\.pt is a model of the task {task}, which is not installed here; install"
    with trusting(), pytest.raises(MedvisionError, match=told):
        load_model(tmp_path / "model.pt")


def test_code_in_a_file_is_not_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return (tmp_path.joinpath("sprung").touch, ())

    torch.save({"format": 1, "weights": Trap()}, tmp_path / "model.pt")
    with pytest.raises(MedvisionError, match="cannot be read as a model"):
        read_model_file(tmp_path / "model.pt")
    assert not (tmp_path / "sprung").exists()


def test_a_file_that_is_no_model_is_one_sentence(tmp_path):
    place = tmp_path / "model.pt"
    with pytest.raises(MedvisionError, match="does not exist; give its training command again"):
        load_model(place)
    save_model(model(), place)
    whole = place.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"not a model"):
        place.write_bytes(content)
        with pytest.raises(MedvisionError, match=r"model\.pt cannot be read as a model"):
            load_model(place)
    for foreign in ({"state_dict": {}}, [1, 2], {"format": "x"}):
        torch.save(foreign, place)
        with pytest.raises(MedvisionError, match="is not a model of format 6"):
            load_model(place)
    torch.save({"format": 99}, place)
    told = "is a model of format 99, and this medvision reads up to 6; update medvision"
    with pytest.raises(MedvisionError, match=told):
        load_model(place)


def test_a_full_disk_is_a_sentence_and_keeps_the_old_model(tmp_path, monkeypatch):
    place = tmp_path / "model.pt"
    digest = save_model(model(), place)

    def full(content, stream):
        stream.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(MedvisionError, match=r"cannot write .*model\.pt: the disk is full"):
        save_model(model(seed=8), place)
    assert files.digest_file(place) == digest
    assert [p.name for p in tmp_path.iterdir()] == ["model.pt"]


def test_torch_tells_a_full_disk_as_the_system_does():
    """What `save_model` relies on: given a path, torch raises a RuntimeError of its own."""
    with pytest.raises(OSError, match="No space left"), Path("/dev/full").open("wb") as stream:
        torch.save({"a": torch.zeros(10**5)}, stream)
