"""`model.pt`: the one noun for a trained model.

Plain types only, loaded with `weights_only=True`: weights, the net's config as text, classes, input
contract, temperature, operating point, and what the model has seen.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

import medvision.files as files
from medvision.errors import MedvisionError

Question = Literal["binary", "multiclass", "multilabel"]
Kind = Question | Literal["generator"]
FORMAT = 4
# A model of format 1 does not say what it was trained on; before 3 there were none of series, and
# before 4 no generators.
READABLE = (1, 2, 3, 4)
PLAIN = ("classes", "kind", "contract", "temperature", "rule", "threshold", "rename", "negative",
         "tta", "seed")  # fmt: skip


@dataclass(frozen=True)
class Seen:
    """What a model met in training and in validation: pseudonyms and pixel digests."""

    train_patients: list[str] = field(default_factory=list)
    train_images: list[str] = field(default_factory=list)
    val_patients: list[str] = field(default_factory=list)
    val_images: list[str] = field(default_factory=list)
    key: str | None = None  # fingerprint of the key behind the pseudonyms; None: ids as given

    def meet(
        self, patients: Iterable[str], images: Iterable[str], key: str | None, train: bool = False
    ) -> tuple[set[str], set[str]]:
        """Return which of these patients and images were seen, or met in training alone.

        Pseudonyms made with another key, or ids as given, cannot be compared: images always can.
        """
        comparable = key is not None and key == self.key
        known = {*self.train_patients, *([] if train else self.val_patients)}
        shown = {*self.train_images, *([] if train else self.val_images)}
        return (known if comparable else set()) & set(patients), shown & set(images)

    def join(self, earlier: "Seen") -> "Seen":
        """Add what the model this one started from has seen."""
        same = earlier.key == self.key
        return Seen(
            sorted({*self.train_patients, *(earlier.train_patients if same else ())}),
            sorted({*self.train_images, *earlier.train_images}),
            sorted({*self.val_patients, *(earlier.val_patients if same else ())}),
            sorted({*self.val_images, *earlier.val_images}),
            self.key,
        )


@dataclass
class Model:
    """A frozen net with everything needed to use it on new images.

    Attributes:
        net: in evaluation mode; `[B,C,H,W]` in [0,1] → logits `[B,K]`, of series see `SliceRNN`;
            a generator's takes noise `[B,Z]` and label `[B]` → `[B,C,H,W]` in [-1,1].
        kind: `binary` (two classes, the last one positive), `multiclass` or `multilabel`; or
            `generator`, which makes images of the classes and tells none apart.
        contract: the reader's settings: how a file becomes an input.
        series: how rows become series (`SeriesForm.contract`); None: the net takes single images.
        trained_on: what the training images were before the reader made them alike, see
            `data.contract.TrainedOn`; None: not known.
        temperature: logits are divided by it before they become probabilities.
        rename, negative: how labels of other tables are read; see `data.classes.Classes`.
        threshold: of the positive class; one a class for multi-label; None: argmax.
        augment: config of the augmentation that test-time augmentation draws from.
        tta: number of augmented views averaged with the plain one; 0 is off.
        gate: of a generator, how its images were judged: `passed`, `score`, `spaces`, `reasons`;
            None: they were not.
    """

    net: nn.Module
    config: dict[str, Any]
    classes: list[str]
    kind: Kind
    contract: dict[str, Any]
    temperature: float = 1.0
    rule: str = "youden"
    threshold: float | list[float] | None = None
    rename: dict[str, str | None] = field(default_factory=dict)
    negative: str | None = None
    augment: dict[str, Any] | None = None
    tta: int = 0
    seed: int = 0
    seen: Seen = field(default_factory=Seen)
    trained_on: dict[str, Any] | None = None
    series: dict[str, Any] | None = None
    gate: dict[str, Any] | None = None

    @property
    def question(self) -> Question:
        """What a classifier is asked; only a generator has no answer to give."""
        assert self.kind != "generator"
        return self.kind

    @property
    def device(self) -> torch.device:
        """Where the net is."""
        return next(self.net.parameters()).device


def save_model(model: Model, path: Path) -> str:
    """Write `model.pt` and return its digest."""
    content = {name: getattr(model, name) for name in PLAIN} | {
        "format": FORMAT,
        "weights": {name: value.cpu() for name, value in model.net.state_dict().items()},
        "config": json.dumps(model.config),
        "augment": json.dumps(model.augment),
        "seen": asdict(model.seen),
        "trained_on": model.trained_on,
        "series": model.series,
        "gate": model.gate,
    }
    # A stream of Python's, because torch's own tells a full disk as a broken archive.
    with files.written_aside(path) as aside, aside.open("wb") as stream:
        torch.save(content, stream)
    return files.digest_file(path)


def is_model_file(path: Path) -> bool:
    """Tell a `model.pt` of ours from a foreign file of weights."""
    try:
        return "seen" in read_model_file(path)
    except MedvisionError:
        return False


def read_model_file(path: Path) -> dict[str, Any]:
    """Read the plain content of a `model.pt`.

    Raises:
        MedvisionError: there is none, or it is not one of ours.
    """
    if not path.exists():
        raise MedvisionError(f"{path} does not exist; the run has not finished: train it again")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise MedvisionError(
            f"{path} cannot be read as a model ({type(error).__name__}); train the run again"
        ) from error
    if not isinstance(content, Mapping) or content.get("format") not in READABLE:
        raise MedvisionError(f"{path} is not a model of format {FORMAT}; train the run again")
    return dict(content)


def load_model(path: Path) -> Model:
    """Rebuild the classifier of a `model.pt` and put it in evaluation mode.

    Raises:
        MedvisionError: there is none, or it is a generator.
    """
    content = read_model_file(path)
    refuse_generator(content, path)
    return _rebuild(content)


def load_generator(path: Path) -> Model:
    """Rebuild the generator of a `model.pt` and put it in evaluation mode.

    Raises:
        MedvisionError: there is none, or it is a classifier.
    """
    content = read_model_file(path)
    if content["kind"] != "generator":
        raise MedvisionError(
            f"{path} is a classifier, which makes no images; give a run of a generator, or score "
            "this one with medvision evaluate"
        )
    return _rebuild(content)


def refuse_generator(content: Mapping[str, Any], path: str | Path) -> None:
    """Refuse a generator where a classifier is meant.

    Raises:
        MedvisionError: it is one.
    """
    if content["kind"] == "generator":
        raise MedvisionError(
            f"{path} is a generator, which tells no classes apart; make images with it: "
            "medvision generate run=RUN per_class=500"
        )


def _rebuild(content: Mapping[str, Any]) -> Model:
    """Build the net from its config text, with its weights."""
    from hydra.utils import instantiate

    config = json.loads(content["config"])
    net: nn.Module = instantiate(config)
    net.load_state_dict(content["weights"])
    return Model(
        net=net.eval(),
        config=config,
        augment=json.loads(content["augment"]),
        seen=Seen(**content["seen"]),
        trained_on=content.get("trained_on"),
        series=content.get("series"),
        gate=content.get("gate"),
        **{name: content[name] for name in PLAIN},
    )
