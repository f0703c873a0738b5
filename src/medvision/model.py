"""`model.pt`: the one noun for a trained model.

Plain types only, loaded with `weights_only=True`: the task and its target, weights, the net's
config as text, how inputs are read, what was decided on the val part, and what was seen.
"""

import json
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

import medvision.files as files
from medvision.errors import MedvisionError
from medvision.moved import rename_targets
from medvision.seen import Seen
from medvision.target import TASKS, find_folder
from medvision.trust.building import building, check_config, leave_fetching_out
from medvision.trust.integrity import is_own_model
from medvision.trust.names import is_trusted, refuse_foreign_name

Question = Literal["binary", "multiclass", "multilabel"]
FORMAT = 6
_GENERATION = "generation"
_TRAIN_AGAIN = "give its training command again"
PLAIN = ("task", "target", "decision", "inputs", "trained_on", "tta", "seed", "gate")


@dataclass
class Model:
    """A frozen net with everything needed to use it on new images.

    Attributes:
        net: in evaluation mode; `[B,C,H,W]` in [0,1] → logits `[B,K]`, of series see `SliceRNN`;
            a generator's takes noise `[B,Z]` and label `[B]` → `[B,C,H,W]` in [-1,1].
        config: of the net, as it is built.
        task: the folder below `medvision.tasks`, of a foreign task the dotted path of its class.
        target: what is asked, as plain values; of classification see `Classes`.
        inputs: how a file becomes an input: `reader`, its settings; `unit`, what a
            sample is, None where the net takes single images; `tabular`, None.
        decision: what was fitted on the val part and frozen; of classification `temperature`, by
            which logits are divided before they become probabilities, `rule` and `threshold`, of
            the positive class, one a class for multi-label, None: argmax.
        augment: config of the augmentation that test-time augmentation draws from.
        tta: number of augmented views averaged with the plain one; 0 is off.
        trained_on: what the training images were before the reader made them alike, see
            `data.inputs.profile.TrainedOn`; None: not known.
        gate: of a generator, how its images were judged: `passed`, `score`, `spaces`, `reasons`;
            None: they were not.
    """

    net: nn.Module
    config: dict[str, Any]
    task: str
    target: dict[str, Any]
    inputs: dict[str, Any]
    decision: dict[str, Any] = field(default_factory=dict)
    augment: dict[str, Any] | None = None
    tta: int = 0
    seed: int = 0
    seen: Seen = field(default_factory=Seen)
    trained_on: dict[str, Any] | None = None
    gate: dict[str, Any] | None = None

    @property
    def classes(self) -> list[str]:
        """The names of the classes, in the order of the logits."""
        names: list[str] = self.target["classes"]
        return names

    @property
    def question(self) -> Question:
        """What a classifier is asked: `binary` (the last class is positive) or another."""
        kind: Question = self.target["kind"]
        return kind

    @property
    def contract(self) -> dict[str, Any]:
        """The reader's settings."""
        reader: dict[str, Any] = self.inputs["reader"]
        return reader

    @property
    def unit(self) -> dict[str, Any] | None:
        """What a sample is, as `data.units.unit.read_unit` reads it; None: a single image."""
        unit: dict[str, Any] | None = self.inputs["unit"]
        return unit

    @property
    def temperature(self) -> float:
        return float(self.decision.get("temperature", 1.0))

    @property
    def rule(self) -> str:
        return str(self.decision.get("rule", "youden"))

    @property
    def threshold(self) -> float | list[float] | None:
        return self.decision.get("threshold")

    @property
    def device(self) -> torch.device:
        """Where the net is; one of arrays alone is on the host."""
        first = next(self.net.parameters(), None)
        return torch.device("cpu") if first is None else first.device


def save_model(model: Model, path: Path) -> str:
    """Write `model.pt` and return its digest."""
    content = {name: getattr(model, name) for name in PLAIN} | {
        "format": FORMAT,
        "weights": _on_host(dict(model.net.state_dict())),
        "net": json.dumps(leave_fetching_out(model.config)),
        "augment": json.dumps(model.augment),
        "seen": model.seen.to_plain(),
    }
    # A stream of Python's, because torch's own tells a full disk as a broken archive.
    with files.written_aside(path) as aside, aside.open("wb") as stream:
        torch.save(content, stream)
    return files.digest_file(path)


def _on_host(weights: dict[str, Any]) -> dict[str, Any]:
    """Bring tensors to the host; what else a net keeps of itself is plain already."""
    return {
        name: value.cpu() if isinstance(value, Tensor) else value for name, value in weights.items()
    }


def is_model_file(path: Path) -> bool:
    """Tell a `model.pt` of ours from a foreign file of weights."""
    try:
        return "seen" in _read_plain(path)
    except MedvisionError:
        return False


def read_model_file(path: Path) -> dict[str, Any]:
    """Read the plain content of a `model.pt`, and whether this user's key vouches for it: `own`.

    Raises:
        MedvisionError: there is none, it is not one of ours, or not what its run wrote.
    """
    own = path.exists() and is_own_model(path)
    return _read_plain(path) | {"own": own}


def _read_plain(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise MedvisionError(
            f"{path} does not exist; {_TRAIN_AGAIN} (rerun=true, if the run had finished)"
        )
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise MedvisionError(
            f"{path} cannot be read as a model ({type(error).__name__}); {_TRAIN_AGAIN} with "
            "rerun=true"
        ) from error
    number = content.get("format") if isinstance(content, Mapping) else None
    if type(number) is not int or number < 1:
        raise MedvisionError(
            f"{path} is not a model of format {FORMAT}; {_TRAIN_AGAIN} with rerun=true"
        )
    if number > FORMAT:
        raise MedvisionError(
            f"{path} is a model of format {number}, and this medvision reads up to {FORMAT}; "
            "update medvision"
        )
    return dict(content) if number >= 5 else _modernise(content)


def _modernise(content: Mapping[str, Any]) -> dict[str, Any]:
    """Bring a model of an earlier format into today's form.

    Format 1 did not say what a model was trained on; before 3 there were none of series, before 4
    no generators, and until 4 all others were classifiers.
    """
    generator, classes = content["kind"] == "generator", list(content["classes"])
    kind = ("binary" if len(classes) == 2 else "multiclass") if generator else content["kind"]
    kept = ("weights", "augment", "seen", "tta", "seed")
    return {name: content[name] for name in kept} | {
        "format": content["format"],
        "task": _GENERATION if generator else "classification",
        "target": {"classes": classes, "kind": kind, "negative": content["negative"],
                   "rename": content["rename"]},
        "decision": {name: content[name] for name in ("temperature", "rule", "threshold")},
        "inputs": {"reader": content["contract"], "unit": content.get("series"), "tabular": None},
        "net": content["config"],
        "trained_on": content.get("trained_on"),
        "gate": content.get("gate"),
    }  # fmt: skip


def load_model(path: Path) -> Model:
    """Rebuild the classifier of a `model.pt` and put it in evaluation mode.

    Raises:
        MedvisionError: there is none, or it is a generator.
    """
    content = read_model_file(path)
    refuse_generator(content, path)
    return _rebuild(content, path)


def load_generator(path: Path) -> Model:
    """Rebuild the generator of a `model.pt` and put it in evaluation mode.

    Raises:
        MedvisionError: there is none, or it is a classifier.
    """
    content = read_model_file(path)
    if content["task"] != _GENERATION:
        raise MedvisionError(
            f"{path} is a classifier, which makes no images; give a run of a generator, or score "
            "this one with medvision evaluate"
        )
    return _rebuild(content, path)


def refuse_generator(content: Mapping[str, Any], path: str | Path) -> None:
    """Refuse a generator where a classifier is meant.

    Raises:
        MedvisionError: it is one.
    """
    if content["task"] == _GENERATION:
        raise MedvisionError(
            f"{path} is a generator, which tells no classes apart; make images with it: "
            "medvision generate run=RUN per_class=500"
        )


def _rebuild(content: Mapping[str, Any], path: Path) -> Model:
    """Build the net from its config text, with its weights; what is foreign is judged first."""
    from hydra.utils import instantiate

    config = rename_targets(json.loads(content["net"]))
    augment = rename_targets(json.loads(content["augment"]))
    free = content["own"] or is_trusted()
    if not free:
        _judge(content, config, augment, path)
    refuse_unknown(content["task"], path)
    with nullcontext() if free else building(content["weights"], path):
        net: nn.Module = instantiate(config)
    try:
        net.load_state_dict(content["weights"])
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise MedvisionError(
            f"{path} holds weights that do not fit the net it describes ({reason}); {_TRAIN_AGAIN} "
            "with rerun=true"
        ) from error
    return Model(
        net=net.eval(),
        config=config,
        augment=augment,
        seen=Seen.from_plain(content["seen"]),
        **{name: content[name] for name in PLAIN},
    )


def _judge(content: Mapping[str, Any], config: Any, augment: Any, path: Path) -> None:
    """Refuse, of a file that is not the user's own, all names that may run foreign code."""
    refuse_foreign_name(content["task"], "task", path)
    unit = dict(content["inputs"].get("unit") or {}).get("name", "image")
    refuse_foreign_name(unit, "unit", path)
    check_config(config, path)
    check_config(augment, path, augmentation=True)


def refuse_unknown(task: str, path: Path) -> None:
    """Refuse a model of a task that is not installed.

    Raises:
        MedvisionError: naming the task.
    """
    module = task.rpartition(".")[0] or f"{TASKS}.{task}"
    try:
        there = bool(find_folder(task)) or find_spec(module) is not None
    except ImportError:  # a package above it is missing
        there = False
    if not there:
        raise MedvisionError(
            f"{path} is a model of the task {task}, which is not installed here; install the "
            "package it comes from, or put its folder on PYTHONPATH"
        )
