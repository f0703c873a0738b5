"""A generator's evaluator, the callback of its training, and its last judgement.

`task` is an `Adversarial` everywhere, whose hooks these functions are.
"""

from typing import Any

import numpy as np
import pandas as pd
import torch
from hydra.utils import instantiate
from torch import Tensor

import medvision.files as files
from medvision.evaluation.figures.style import save_figure
from medvision.nets.dcgan import draw_noise
from medvision.nets.encoder import encoder, untrained_encoder
from medvision.nets.entries import on_device
from medvision.tasks.classes import encoded_label
from medvision.tasks.generation.callback import FidelityCallback, ask_critic
from medvision.tasks.generation.copies import save_reference
from medvision.tasks.generation.evaluator import FidelityEvaluator, keep_reference
from medvision.tasks.generation.fidelity import measure_inception
from medvision.tasks.generation.figures import draw_neighbours, draw_progress, draw_samples
from medvision.tasks.generation.image_sets import Images
from medvision.tasks.trainable import Context

_FINAL = 1_000_003
"""Added to the seed of the images of the last judgement, which chose no epoch."""
MOST_BYTES = 2**30  # of the real images of a part that judge, as float32
PAIRS = 8  # shown beside their nearest training image


def open_judge(context: Context) -> FidelityEvaluator:
    """Measure what real images reach, in one feature space or two.

    Raises:
        MedvisionError: too few images of a class.
    """
    settings, seed = context.config.judge, context.config.seed
    train, held = (_take_images(context, part) for part in ("train", "val"))
    spaces = {"untrained": on_device(untrained_encoder(train.image.shape[1]))}
    if context.judge is not None:
        spaces["classifier"] = on_device(encoder(context.judge)[0])
    judge = FidelityEvaluator(
        train, held, spaces, context.classify, context.target.names, seed=seed, k=settings.k,
        asked=instantiate(settings.asked),
    )  # fmt: skip
    for sentence in judge.floor["blind"]:  # before an hour is spent on what cannot be judged
        print(f"note: {sentence}")
    return judge


def _take_images(context: Context, part: str) -> Images:
    """Take the labelled images of a part, or as many as memory may hold, chosen at random."""
    rows = context.rows.of(part)
    rows = rows[encoded_label(context.rows.truth(rows)) >= 0]
    most = MOST_BYTES // (4 * context.rows.images(rows[:1]).numel()) if len(rows) else 0
    index = np.sort(np.random.default_rng(context.config.seed).permutation(rows)[:most])
    if len(rows) > most:
        print(f"note: {most} of {len(rows)} {part} images judge, and are searched for copies")
    label = torch.from_numpy(encoded_label(context.rows.truth(index)))
    return Images(context.rows.images(index).contiguous(), label, context.rows.patients(index))


def build_callback(task: Any, context: Context) -> FidelityCallback:
    """Return the callback that judges images made from the same noise after every epoch."""
    settings, (noise, label) = context.config.judge, _draw_all(task, context.config.seed)
    return FidelityCallback(task.judge, noise, label, context.folder / "samples",
                            settings.patience, settings.grace)  # fmt: skip


def _draw_all(task: Any, seed: int) -> tuple[Tensor, Tensor]:
    """Draw the noise `[N,Z]` and label `[N]` of as many images of each class as the judge needs."""
    each, classes = max(task.judge.sizes.values()), len(task.judge.classes)
    label = torch.arange(classes).repeat_interleave(each)
    index = torch.arange(each).repeat(classes)
    return draw_noise(seed, label, index, task.latent), label


def judge_finally(task: Any, context: Context) -> dict[str, Any]:
    """Judge the chosen generator on images of its own, and write that down; return the gate."""
    judge, folder = task.eval().judge, context.folder
    noise, label = _draw_all(task, context.config.seed + _FINAL)
    image = task.sample(noise, label)
    scores = judge.score(image, label)
    scores["critic"] = ask_critic(task, judge, image, label)
    if context.inception is not None:
        sides = (judge.train.image, judge.held.image, image)
        scores["inception"] = measure_inception(context.inception, *sides)
    gate: dict[str, Any] = judge.decide(scores)
    counted = {name: {"images": len(side.label), "patients": len(set(side.patient))}
               for name, side in (("train", judge.train), ("val", judge.held))}  # fmt: skip
    counted["generated"] = {"images": len(label)}
    told = {"fidelity": scores, "floor": judge.floor, "gate": gate, "n": counted}
    files.write_json(folder / "metrics.json", told)
    save_reference(keep_reference(judge), folder / "fidelity" / "reference.pt")
    _draw_generated(context, judge, image, label)
    return gate


def _draw_generated(
    context: Context, judge: FidelityEvaluator, image: Tensor, label: Tensor
) -> None:
    """Draw what was made, its nearest training images, and the way that led there."""
    pixels, folder = _to_pixels(image), context.folder / "figures"
    save_figure(draw_samples(pixels, label.numpy(), judge.classes), folder / "samples.png")
    place, apart = judge.find_nearest(image)
    closest = np.argsort(apart)[:PAIRS]
    pairs = draw_neighbours(
        pixels[closest], _to_pixels(judge.train.image[place[closest]]), apart[closest]
    )
    save_figure(pairs, folder / "neighbours.png")
    history = pd.read_csv(context.folder / "history.csv")
    save_figure(draw_progress(history, context.config.monitor), folder / "learning_curves.png")


def _to_pixels(image: Tensor) -> np.ndarray[Any, Any]:
    """Return `[N,C,H,W]` in [0,1] as uint8 `[N,H,W,C]`."""
    return (image.permute(0, 2, 3, 1).numpy() * 255).round().astype(np.uint8)
