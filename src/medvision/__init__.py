"""The honest medical-imaging lab in one command, and the same as a library.

What a script of one's own needs, imported once it is asked for:

    ImageDataModule    batches of a manifest, in a plain loop, under Fabric or a Trainer
    Reader, Augment    how a file becomes pixels, and how these change in training
    Classifier         the LightningModule of a question with classes
    ConvNet, SliceRNN  nets of images, and of series
    DCGAN              a generator against its critic
    load(run)          what a run trained, a Predictor: `.predict(paths)` → a table
    evaluate, compare  what the commands of these names do
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medvision.augment.draw import Augment
    from medvision.commands.compare import compare
    from medvision.commands.evaluate import evaluate
    from medvision.data.batches.datamodule import ImageDataModule
    from medvision.data.store.reader import Reader
    from medvision.inference.load import Predictor, load
    from medvision.nets.convnet import ConvNet
    from medvision.nets.slice_rnn import SliceRNN
    from medvision.tasks.classification.task import Classifier
    from medvision.tasks.generation.task import DCGAN

    __version__: str

__all__ = [
    "DCGAN",
    "Augment",
    "Classifier",
    "ConvNet",
    "ImageDataModule",
    "Predictor",
    "Reader",
    "SliceRNN",
    "__version__",
    "compare",
    "evaluate",
    "load",
]
_PLACES = {
    "Augment": "medvision.augment.draw",
    "Classifier": "medvision.tasks.classification.task",
    "ConvNet": "medvision.nets.convnet",
    "DCGAN": "medvision.tasks.generation.task",
    "ImageDataModule": "medvision.data.batches.datamodule",
    "Predictor": "medvision.inference.load",
    "Reader": "medvision.data.store.reader",
    "SliceRNN": "medvision.nets.slice_rnn",
    "compare": "medvision.commands.compare",
    "evaluate": "medvision.commands.evaluate",
    "load": "medvision.inference.load",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for, once."""
    if name == "__version__":
        from importlib.metadata import version

        value = version("medvision")
    elif name in _PLACES:
        value = getattr(import_module(_PLACES[name]), name)
    else:
        raise AttributeError(f"module 'medvision' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
