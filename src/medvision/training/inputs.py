"""What is done to the pixels of a training, in one line."""

from collections import Counter
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from medvision.files import conf_folder
from medvision.training.job import Job


def describe_pixels(job: Job) -> str:
    """Write `read as 128×128, 1 channel (files: 300×400, colour), augment=ct`."""
    samples = job.data.ready
    reader = job.data.options.reader
    facts = samples.file_facts(samples.unit.rows(samples.rows("train")))
    height, width = samples.stores[0].array.shape[1:3]
    told = f"read as {height}×{width}, {reader.channels} channel{'s' * (reader.channels > 1)}"
    if facts:
        sizes = Counter((fact.height, fact.width) for fact in facts)
        (first, second), _ = sizes.most_common(1)[0]
        coloured = sum(fact.colour for fact in facts)
        colour = "colour" if coloured == len(facts) else "some in colour" if coloured else "grey"
        more = f" and {len(sizes) - 1} other sizes" if len(sizes) > 1 else ""
        told += f" (files: {first}×{second}{more}, {colour})"
    return f"{told}, augment={_name_preset(job.config)}" if job.task.predicts else told


def _name_preset(config: DictConfig) -> str:
    """Name the file of `conf/augment` that says the same; another policy is the user's own."""
    asked = _without_target(config.augment)
    for path in sorted((conf_folder() / "augment").glob("*.yaml")):
        if _without_target(OmegaConf.load(path)) == asked:
            return path.stem
    return "as you set it"


def _without_target(node: Any) -> dict[str, Any]:
    held = cast(dict[str, Any], OmegaConf.to_container(node, resolve=True))
    return {key: value for key, value in held.items() if key != "_target_"}
