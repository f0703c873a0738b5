"""Nets that a foreign file describes: judged as objects, then built where nothing else can happen.

Weights alone cannot run code; a name can, and so can an argument: a builder that is given a path
unpickles it. What is named in a file that is not this user's own is therefore resolved and judged
as an object, never by how its name begins, before it is called.
"""

import inspect
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map_only

from medvision.errors import MedvisionError
from medvision.trust.names import WAY_OUT

_NETS = ("medvision.nets", "torch.nn.modules", "monai.networks.nets", "timm.models")
_AUGMENTATIONS = ("medvision.augment",)
_PLACES = ("medvision.nets", "medvision.augment", "torch.nn", "torchvision.models",
           "monai.networks", "timm")  # fmt: skip
_OFF = {"pretrained": False}
_FETCHING = ("weights", "weights_backbone", "encoder_weights", "checkpoint_path", "cache_dir")
_building: ContextVar[bool] = ContextVar("building", default=False)


def _loads(key: str, value: Any) -> bool:
    """Tell an argument by which a constructor loads or fetches something."""
    if key.endswith(("_url", "_path")):
        return isinstance(value, str | Mapping)  # a number is the rate of dropped paths
    return (key in _FETCHING or key.startswith("pretrained")) and value not in (None, False)


def leave_fetching_out(node: Any) -> Any:
    """Return plain containers in which no argument loads or fetches: `model.pt` has all weights.

    What a constructor would fetch of itself, as detectors do their backbone, is switched off too.
    """
    if isinstance(node, Mapping):
        kept = {
            key: _OFF.get(str(key)) if _loads(str(key), value) else leave_fetching_out(value)
            for key, value in node.items()
        }
        own = _fetches_itself(str(node["_target_"])) if "_target_" in node else []
        return kept | {key: _OFF.get(key) for key in own if key not in kept}
    return [leave_fetching_out(value) for value in node] if isinstance(node, list) else node


def _fetches_itself(target: str) -> list[str]:
    """Return the arguments whose defaults would load or fetch something."""
    from hydra.utils import get_object

    try:
        parameters = inspect.signature(get_object(target)).parameters
    except ValueError:  # what is written in C says nothing, and fetches nothing
        return []
    return [
        name for name, one in parameters.items()
        if one.default is not one.empty and _loads(name, one.default)
    ]  # fmt: skip


def check_config(node: Any, place: object, *, augmentation: bool = False) -> None:
    """Refuse a config whose names are not all nets that may be built, or arguments that load.

    Args:
        node: plain containers, as they will be instantiated.
        place: the file they come from.
        augmentation: names are augmentations instead.

    Raises:
        MedvisionError: naming what is refused.
    """
    if isinstance(node, Mapping):
        _check_keys(node, place)
        if "_target_" in node:
            _check_target(node, place, _AUGMENTATIONS if augmentation else _NETS)
        for value in node.values():
            check_config(value, place, augmentation=augmentation)
    elif isinstance(node, str):
        if "${" in node:
            raise _refusal(place, f"holds {node!r}, which would be evaluated")
    elif isinstance(node, Sequence):
        for value in node:
            check_config(value, place, augmentation=augmentation)


def _check_keys(node: Mapping[Any, Any], place: object) -> None:
    for key, value in node.items():
        name = str(key)
        if "${" in name or (name.startswith("_") and name not in ("_target_", "_partial_")):
            raise _refusal(place, f"holds the key {name}")
        if _loads(name, value):
            raise _refusal(place, f"says {name}={value!r}, by which a net loads or fetches a file")


def _check_target(node: Mapping[str, Any], place: object, homes: tuple[str, ...]) -> None:
    target = node["_target_"]
    found = _resolve(target) if isinstance(target, str) else None
    if found is None or not _may_be_built(found, node, homes):
        raise _refusal(place, f"names {target}, which is no net of a package it may name")


def _refusal(place: object, what: str) -> MedvisionError:
    return MedvisionError(f"{place} was not made with your key and {what}; {WAY_OUT}")


def _resolve(target: str) -> Any:
    """Find an object by its dotted path; None: there is none where nets may come from.

    The path decides what may be imported, and nothing else: through the attributes of a module it
    may still lead anywhere.
    """
    head, *names = target.split(".")
    inside = any(f"{target}.".startswith(f"{place}.") for place in _PLACES)
    if not inside or find_spec(head) is None:
        return None
    found: Any = import_module(head)
    path = head
    for name in names:
        path = f"{path}.{name}"
        if not hasattr(found, name):
            try:
                import_module(path)
            except ImportError:
                return None
        found = getattr(found, name, None)
    return found


def _may_be_built(found: Any, node: Mapping[str, Any], homes: tuple[str, ...]) -> bool:
    """Judge the object itself: where it was defined, not by what path it was reached."""
    if isinstance(found, type):
        lies_in = any(f"{found.__module__}.".startswith(f"{home}.") for home in homes)
        return lies_in and (homes == _AUGMENTATIONS or issubclass(found, nn.Module))
    if homes == _AUGMENTATIONS:
        return False
    module, name = getattr(found, "__module__", ""), getattr(found, "__name__", "")
    if (module, name) == ("medvision.nets.build", "build_net"):
        return found is getattr(import_module(module), name)
    if (module, name) == ("timm.models._factory", "create_model"):
        return node.get("model_name") in _timm_names()
    return found in _torchvision_builders()


@cache
def _torchvision_builders() -> frozenset[Callable[..., nn.Module]]:
    from torchvision import models

    return frozenset(models.get_model_builder(name) for name in models.list_models())


@cache
def _timm_names() -> frozenset[str]:
    import timm

    return frozenset(timm.list_models())


class _MemoryLimit(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Refuses, before it is taken, more memory than a net of the stored weights can need."""

    def __init__(self, stored: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.left = 8 * stored + _SPARE

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        named = dict(kwargs or {})
        self.left -= max(_measure(func, args, named), _LEAST)
        if self.left < 0:
            raise _Refused("to take far more memory than the weights it holds")
        return func(*args, **named)


_SPARE, _LEAST = 2**27, 2**14  # bytes; what every operation costs at least: there are not endless


def _measure(func: Any, args: tuple[Any, ...], named: dict[str, Any]) -> int:
    """Return how many bytes an operation will make, which is asked of shapes alone."""
    if func._schema.name.endswith("_") or func.is_view:
        return 0
    try:
        shapes = tree_map_only(Tensor, lambda value: value.to("meta"), (args, named))
        if "device" in {argument.name for argument in func._schema.arguments}:
            shapes[1]["device"] = torch.device("meta")
        made = func(*shapes[0], **shapes[1])
    except (NotImplementedError, RuntimeError, TypeError):  # what only values tell is small
        return 0
    return sum(v.numel() * v.element_size() for v in tree_flatten(made)[0] if isinstance(v, Tensor))


@contextmanager
def building(weights: Mapping[str, Any], place: object) -> Iterator[None]:
    """Build what a foreign file describes: no socket, process, pickle, write, or endless memory.

    Args:
        weights: what the file stores for it.
        place: the file.

    Raises:
        MedvisionError: what is built tried one of these.
    """
    _install_hook()
    stored = sum(v.numel() * v.element_size() for v in weights.values() if isinstance(v, Tensor))
    token, bytecode = _building.set(True), sys.dont_write_bytecode
    sys.dont_write_bytecode = True  # a late import of a package would write beside its source
    try:
        with _MemoryLimit(stored):
            yield
    except _Refused as error:
        raise MedvisionError(
            f"{place} was not made with your key, and building its net tried {error}; {WAY_OUT}"
        ) from error
    except Exception as error:
        reason = str(error.__cause__ or error).strip().splitlines()[0]
        raise MedvisionError(
            f"{place} describes a net that cannot be built ({reason}); get it again from whoever "
            "made it"
        ) from error
    finally:
        sys.dont_write_bytecode = bytecode
        _building.reset(token)


class _Refused(BaseException):
    """Passes through code that swallows exceptions."""


_EVENTS = {
    "socket.": "to reach the network", "urllib.": "to reach the network",
    "subprocess.": "to start a process", "os.system": "to start a process",
    "os.exec": "to start a process", "os.fork": "to start a process",
    "os.posix_spawn": "to start a process", "os.spawn": "to start a process",
    "pty.spawn": "to start a process", "pickle.find_class": "to unpickle an object",
    "os.remove": "to delete a file",
    "os.rename": "to move a file", "os.rmdir": "to delete a folder", "os.mkdir": "to write",
    "os.truncate": "to write", "os.link": "to write", "os.symlink": "to write",
    "os.chmod": "to write", "os.chown": "to write",
    "os.kill": "to end a process", "shutil.": "to write", "sqlite3.": "to open a database",
    "ctypes.dlopen": "to load a library",
}  # fmt: skip
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def _refuse_event(event: str, arguments: tuple[Any, ...]) -> None:
    if not _building.get():
        return
    if event == "open":
        _, mode, flags = arguments
        writes = any(c in mode for c in "wax+") if isinstance(mode, str) else flags & _WRITING
        if writes:
            raise _Refused("to write a file")
        return
    for beginning, what in _EVENTS.items():
        if event.startswith(beginning):
            raise _Refused(what)


@cache
def _install_hook() -> None:
    """Add the hook once; Python keeps it until the process ends."""
    with _MemoryLimit(0):
        nn.Linear(1, 1)  # what torch imports at its first use, it may write for
    sys.addaudithook(_refuse_event)
