"""Values that cannot be, told before anything is read."""

from collections.abc import Iterator
from math import inf
from typing import Any

from omegaconf import DictConfig, OmegaConf

from medvision.data.mixing import RULE, is_ratio
from medvision.errors import collect, did_you_mean

MAY_BE_NULL = (
    "threads", "data.fold", "data.workers", "data.epoch_size", "data.extra_ratio",
    "trainer.gradient_clip_val", "model.clip",
)  # fmt: skip
WHOLE = {
    "seed": 0, "tta": 0, "threads": 1, "data.batch_size": 1, "data.fold": 0, "data.folds": 2,
    "data.split_seed": 0, "data.workers": 1, "model.frozen_epochs": -1, "trainer.max_epochs": 1,
    "trainer.accumulate_grad_batches": 1, "callbacks.early_stopping.patience": 0,
    "data.epoch_size": 1, "model.generator.latent": 1, "model.generator.embedding": 0,
    "model.penalty_every": 1, "judge.patience": 0, "judge.k": 1,
}  # fmt: skip
"""Key → the lowest whole number it may be."""
REAL = {
    "model.optimizer.lr": (0.0, inf), "model.optimizer.weight_decay": (0.0, inf),
    "model.layer_decay": (0.0, 1.0), "model.mixup": (0.0, inf), "model.l1": (0.0, inf),
    "model.loss.label_smoothing": (0.0, 1.0), "model.slice_weight": (0.0, inf),
    "trainer.gradient_clip_val": (0.0, inf), "model.critic_optimizer.lr": (0.0, inf),
    "model.kimg": (0.001, inf), "model.ema_kimg": (0.0, inf), "model.policy_kimg": (0.0, inf),
    "model.warmup_kimg": (0.0, inf), "model.r1": (0.0, inf), "model.r2": (0.0, inf),
    "model.gradient_penalty": (0.0, inf), "model.clip": (0.0, inf), "model.final_lr": (0.0, 1.0),
    "judge.grace": (0.0, 1.0),
}  # fmt: skip
"""Key → the lowest and the highest number it may be."""
CHOICES: dict[str, tuple[str | bool | None, ...]] = {
    "allocator": ("keep", "system"),
    "compile": ("auto", True, False, "reduce-overhead"),
    "data.on_leak": ("error", "drop"),
    "data.on_unreadable": ("stop", "exclude"),
    "data.residency": ("auto", "disk", "host", "device"),
    "data.backend": ("auto", "host", "device"),
    "model.class_weights": ("balanced", None),
}
WORDS: dict[str | bool | None, str] = {None: "null", True: "true", False: "false"}
RATIO = "data.extra_ratio"
SWITCHES = ("test", "rerun", "data.balance", "model.channels_last", "model.cache_features")


def check_ranges(config: DictConfig) -> None:
    """Refuse values out of range, all of them at once.

    Raises:
        MedvisionError: naming each key with what it may be.
    """
    problems = list(find_problems(config))
    if problems:
        raise collect("values that cannot be", problems, "Mend them and run again")


def find_problems(config: DictConfig) -> Iterator[str]:
    """Yield a sentence for each key whose value cannot be; keys a config lacks are no problem."""
    for key in (*WHOLE, *REAL, *CHOICES, *SWITCHES, RATIO):
        parent = OmegaConf.select(config, key.rpartition(".")[0]) if "." in key else config
        if not isinstance(parent, DictConfig) or key.rpartition(".")[2] not in parent:
            continue
        value = OmegaConf.select(config, key)
        if value is None and key in MAY_BE_NULL:
            continue
        if (rule := _broken_rule(key, value)) is not None:
            yield f"{key}={'null' if value is None else value} must be {rule}"


def _broken_rule(key: str, value: Any) -> str | None:
    if key in CHOICES:
        shown = [WORDS.get(choice, str(choice)) for choice in CHOICES[key]]
        near = did_you_mean(str(value), shown)
        # 1 is no true.
        fits = any(value == choice and type(value) is type(choice) for choice in CHOICES[key])
        return None if fits else f"{' or '.join(shown)}{near}"
    if key == RATIO:
        return None if is_ratio(value) else RULE
    if key in SWITCHES:
        return None if isinstance(value, bool) else "true or false"
    if key in WHOLE:
        fits = type(value) is int and value >= WHOLE[key]
        return None if fits else f"a whole number, {WHOLE[key]} or more"
    low, high = REAL[key]
    fits = type(value) in (int, float) and low <= value <= high
    return None if fits else f"a number from {low:g}" + ("" if high == inf else f" to {high:g}")
