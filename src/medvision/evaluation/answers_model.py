"""What a run folder can say of its model where a checklist asks; "" = unknown."""

from collections.abc import Callable, Mapping
from typing import Any

from medvision.evaluation.report.run_files import RunFiles, plain
from medvision.evaluation.report.summary import as_text, tell_best_epoch, tell_threshold
from medvision.evaluation.report.table import show_seconds

KINDS = {"binary": "binary", "multiclass": "multi-class", "multilabel": "multi-label"}


def _category(found: RunFiles) -> str:
    net, kind = name_net(found), found.record.get("kind")
    return f"Deep learning: {net}, {KINDS[kind]} classification." if net and kind in KINDS else ""


def _model(found: RunFiles) -> str:
    if not (net := name_net(found)):
        return ""
    options = as_text(plain(_net(found)))
    size = found.setting("data.reader.size")
    image = f" {' × '.join(map(str, size))} pixels." if isinstance(size, list) else ""
    digest = (found.record.get("code") or {}).get("digest")
    code = f" Layer by layer in the code (digest {digest})." if digest else ""
    return f"{net}{f' with {options}' if options else ''}.{image}{code}"


def _software(found: RunFiles) -> str:
    versions = found.record.get("versions")
    return f"Python {found.record.get('python')}, {as_text(versions)}." if versions else ""


def _initialisation(found: RunFiles) -> str:
    if not name_net(found):
        return ""
    weights = found.setting("model.weights") or found.setting("model.net.weights")
    seed = found.record.get("seed")
    rest = "the head" if weights else "All parameters"
    given = f"Pretrained weights {weights}; " if weights else ""
    how = found.setting("model.init") or "as the layers do"
    return f"{given}{rest} at random from seed {seed} (init: {how})."


def _training(found: RunFiles) -> str:
    optimizer, seconds = found.setting("model.optimizer"), found.record.get("seconds")
    if not optimizer:
        return ""
    told = [f"{_last(optimizer)} with {as_text(plain(optimizer))}"]
    if scheduler := found.setting("model.scheduler"):
        told.append(f"schedule {_last(scheduler)}")
    if loss := found.setting("model.loss"):
        told.append(f"loss {_last(loss)} {as_text(plain(loss))}".rstrip())
    told.append(f"batches of {found.setting('data.batch_size')}")
    if epochs := found.record.get("epochs"):
        told.append(f"{epochs} epochs")
    if seconds:
        told.append(f"{show_seconds(float(seconds))} on {found.record.get('device')}")
    return f"{', '.join(told)}."


def _selection(found: RunFiles) -> str:
    best = tell_best_epoch(found)
    return f"{best.removeprefix('; ').capitalize()}, on val." if best else ""


def _ensembling(found: RunFiles) -> str:
    if not name_net(found):
        return ""
    averaged = " with averaged weights (EMA)" if "ema" in (found.setting("callbacks") or {}) else ""
    views = found.setting("tta")
    more = f", {views} augmented views averaged" if views else ""
    return f"No ensemble: one net{averaged}{more}."


def _imbalance(found: RunFiles) -> str:
    if not found.setting("model"):
        return ""
    used = []
    if weights := found.setting("model.class_weights"):
        used.append(f"class weights in the loss ({as_text(weights)})")
    if found.setting("data.balance"):
        used.append("classes drawn equally often")
    if found.audit.get("generated"):
        used.append("generated images")
    if not used:
        return "No method was used."
    told = ", ".join(used)
    temperature = found.metrics.get("temperature")
    after = (
        ""
        if temperature in (None, 1)
        else " Logits are then divided by a temperature fitted on val."
    )
    return f"{told[0].upper()}{told[1:]}.{after}"


def _output(found: RunFiles) -> str:
    point = found.metrics.get("operating_point") or {}
    if not point:
        return ""
    if point.get("threshold") is None:
        return "Probabilities; the class with the highest is decided for."
    each = tell_threshold(point["threshold"], found.classes)
    return f"Probabilities, cut at {each}: {point.get('rule')} on val, then frozen."


def _updating(found: RunFiles) -> str:
    if not found.metrics.get("operating_point"):
        return ""
    return (
        "No updating: temperature and operating point were fitted on val, before test was opened."
    )


def _computed(found: RunFiles) -> str:
    digest = found.record.get("model")
    return f"By `medvision predict` from model.pt (digest {digest[:16]})." if digest else ""


def _guards(found: RunFiles) -> str:
    if not found.record.get("model"):
        return ""
    return (
        "`medvision predict` refuses unreadable images and those unlike the training images in "
        "modality, colour, size, spacing or values, unless told otherwise."
    )


def _code(found: RunFiles) -> str:
    code = found.record.get("code") or {}
    commit = f", commit {code['commit'][:10]}" if code.get("commit") else ""
    changed = ", with changes that are not committed" if code.get("changed") else ""
    return f"Code digest {code['digest']}{commit}{changed}." if code.get("digest") else ""


def _repeat(found: RunFiles) -> str:
    command = found.record.get("command")
    return f"Configuration and command are below: {command}." if command and found.config else ""


def name_net(found: RunFiles) -> str:
    """Return the class of the net or generator; "" where the configuration has none."""
    return _last(_net(found))


def _net(found: RunFiles) -> Mapping[str, Any]:
    net = found.setting("model.generator" if found.makes_images else "model.net")
    return net if isinstance(net, Mapping) else {}


def _last(part: Mapping[str, Any]) -> str:
    return str(part.get("_target_") or "").rpartition(".")[2]


ANSWERS: dict[str, Callable[[RunFiles], str]] = {
    "category": _category,
    "model": _model,
    "software": _software,
    "initialisation": _initialisation,
    "training": _training,
    "selection": _selection,
    "ensembling": _ensembling,
    "imbalance": _imbalance,
    "output": _output,
    "updating": _updating,
    "computed": _computed,
    "guards": _guards,
    "code": _code,
    "repeat": _repeat,
}
