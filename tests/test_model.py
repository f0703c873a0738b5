import errno
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate

import medvision.files as files
from medvision.errors import MedvisionError
from medvision.model import Model, Seen, load_generator, load_model, read_model_file, save_model

CONFIG = {
    "_target_": "medvision.nets.build.build_net",
    "net": {
        "_target_": "medvision.nets.convnet.ConvNet", "_partial_": True, "widths": [4, 8],
    },
    "num_classes": 2, "in_channels": 1, "init": None,
}  # fmt: skip


def model(**changes):
    torch.manual_seed(0)
    net = instantiate(CONFIG)
    net.train()
    net(torch.rand(8, 1, 12, 12))  # so that the running statistics are not those of a new net
    facts = {
        "net": net.eval(), "config": CONFIG, "classes": ["sick", "肺炎"], "kind": "binary",
        "contract": {"size": [12, 12], "percentiles": [0.5, 99.5], "window": "full"},
        "temperature": 1.3, "rule": "youden", "threshold": 0.1 + 0.2, "rename": {"x": None},
        "negative": None, "augment": {"rotate_degrees": 10.0}, "tta": 4, "seed": 7,
        "seen": Seen(["p1"], ["i1", "i2"], ["p2"], ["i3"], "0a1b2c3d"),
        "trained_on": {"modality": ["CT"], "values": [-1024.0, 0.1 + 0.2], "signed": True},
    }  # fmt: skip
    return Model(**(facts | changes))


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
    save_model(model(threshold=[0.2, 0.8], kind="multilabel"), tmp_path / "model.pt")
    content = torch.load(tmp_path / "model.pt", weights_only=True)
    assert content["format"] == 4
    assert content["threshold"] == [0.2, 0.8]
    assert content["weights"].keys() == model().net.state_dict().keys()


def test_a_model_of_the_first_format_is_read_and_says_nothing_of_its_training(tmp_path):
    save_model(model(), tmp_path / "model.pt")
    content = torch.load(tmp_path / "model.pt", weights_only=True)
    del content["trained_on"]
    torch.save(content | {"format": 1}, tmp_path / "model.pt")
    loaded = load_model(tmp_path / "model.pt")
    assert loaded.trained_on is None
    assert loaded.threshold == model().threshold
    assert loaded.seen == model().seen


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_classifier_of_before_there_were_generators_is_read(tmp_path, number):
    save_model(model(), tmp_path / "model.pt")
    content = torch.load(tmp_path / "model.pt", weights_only=True)
    del content["gate"]
    torch.save(content | {"format": number}, tmp_path / "model.pt")
    loaded = load_model(tmp_path / "model.pt")
    assert (loaded.question, loaded.gate) == ("binary", None)


def test_a_generator_and_a_classifier_are_not_taken_for_each_other(tmp_path):
    gate = {"passed": False, "score": 0.1 + 0.2, "spaces": ["random"], "reasons": ["it copies"]}
    place = tmp_path / "model.pt"
    save_model(model(kind="generator", gate=gate), place)
    assert load_generator(place).gate == gate
    with pytest.raises(
        MedvisionError, match=r"model\.pt is a generator, .*: medvision generate run"
    ):
        load_model(place)
    save_model(model(), place)
    with pytest.raises(MedvisionError, match=r"model\.pt is a classifier, .*medvision evaluate"):
        load_generator(place)


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
    with pytest.raises(MedvisionError, match="does not exist; the run has not finished"):
        load_model(place)
    save_model(model(), place)
    whole = place.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"not a model"):
        place.write_bytes(content)
        with pytest.raises(MedvisionError, match=r"model\.pt cannot be read as a model"):
            load_model(place)
    for foreign in ({"state_dict": {}}, [1, 2], {"format": 99}):
        torch.save(foreign, place)
        with pytest.raises(MedvisionError, match="is not a model of format 4"):
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


def test_patients_and_images_of_train_and_val_were_seen():
    seen = Seen(["p1"], ["i1", "i2"], ["p2"], ["i3"], "0a1b2c3d")
    met = seen.meet(["p0", "p1", "p2"], ["i0", "i2", "i3"], "0a1b2c3d")
    assert met == ({"p1", "p2"}, {"i2", "i3"})
    for other in ("ffffffff", None):  # pseudonyms of another key say nothing, images do
        assert seen.meet(["p1"], ["i1"], other) == (set(), {"i1"})
    plain = Seen(["1"], [], ["2"], [], None)
    assert plain.meet(["1"], [], None) == (set(), set())


def test_what_an_earlier_model_has_seen_is_added():
    seen, earlier = (Seen([f"p{n}"], [f"i{n}"], [f"q{n}"], [f"j{n}"], "0a1b2c3d") for n in (2, 1))
    assert seen.join(earlier) == Seen(
        ["p1", "p2"], ["i1", "i2"], ["q1", "q2"], ["j1", "j2"], "0a1b2c3d"
    )
    foreign = Seen(["p1"], ["i1"], ["q1"], ["j1"], "ffffffff")
    assert seen.join(foreign) == Seen(["p2"], ["i1", "i2"], ["q2"], ["j1", "j2"], "0a1b2c3d")
