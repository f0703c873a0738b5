"""Judging a generator: real images to judge by, the callback of its training, its frozen model."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from hydra.utils import instantiate
from torch import Tensor, nn

import medvision.files as files
from medvision.data.batches.samples import Samples, as_image
from medvision.data.inputs.profile import summarise_facts, to_plain
from medvision.evaluation.figures.style import save_figure
from medvision.identity import patient_keys
from medvision.model import Model, Seen, load_model
from medvision.nets.dcgan import draw_noise
from medvision.nets.encoder import encoder, untrained_encoder
from medvision.runs import Run
from medvision.tasks.generation.callback import FidelityCallback, ask_critic
from medvision.tasks.generation.copies import save_reference
from medvision.tasks.generation.evaluator import FidelityEvaluator, keep_reference
from medvision.tasks.generation.fidelity import measure_inception
from medvision.tasks.generation.figures import draw_neighbours, draw_samples
from medvision.tasks.generation.image_sets import Images
from medvision.tasks.generation.task import Adversarial
from medvision.training.build import describe_generator
from medvision.training.job import Job

FINAL = 1_000_003
"""Added to the seed of the images of the last judgement, which chose no epoch."""
MOST_BYTES = 2**30  # of the real images of a part that judge, as float32
PAIRS = 8  # shown beside their nearest training image


def open_judge(job: Job) -> FidelityEvaluator:
    """Measure what real images reach, in one feature space or two.

    Raises:
        MedvisionError: too few images of a class.
    """
    samples, settings = job.data.ready, job.config.judge
    spaces, classify = {"untrained": on_device(untrained_encoder(samples.channels))}, None
    if job.judge is not None:
        model = load_model(job.judge.model)
        spaces["classifier"] = on_device(encoder(model.net)[0])
        classify = label_as(model)
    train, held = (take_images(samples, part, job.config.seed) for part in ("train", "val"))
    judge = FidelityEvaluator(
        train, held, spaces, classify, samples.target.plain()["classes"],
        seed=job.config.seed, k=settings.k, asked=instantiate(settings.asked),
    )  # fmt: skip
    for sentence in judge.floor["blind"]:  # before an hour is spent on what cannot be judged
        print(f"note: {sentence}")
    return judge


def take_images(samples: Samples, part: str, seed: int) -> Images:
    """Take the labelled images of a part, or as many as memory may hold, chosen at random."""
    rows = samples.rows(part)
    label = np.asarray(samples.targets["label"])
    rows = rows[label[rows] >= 0]
    most = MOST_BYTES // (4 * samples.stores[0].array[0].size)
    index = np.sort(np.random.default_rng(seed).permutation(rows)[:most])
    if len(rows) > most:
        print(f"note: {most} of {len(rows)} {part} images judge, and are searched for copies")
    image = as_image(torch.from_numpy(samples.gather(index))).contiguous()
    patients = patient_keys(samples.table.iloc[index]).tolist()
    return Images(image, torch.from_numpy(label[index]), patients)


def on_device(net: nn.Module) -> Callable[[Tensor], Tensor]:
    """Let a frozen net answer for images of the host on the best device there is."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    net = net.eval().to(device)
    return lambda image: net(image.to(device)).float()


def label_as(model: Model) -> Callable[[Tensor], Tensor]:
    """Return image → `[B,K]`, whose largest entry is what a classifier decides for.

    Of two classes that is by its frozen threshold, which its val part chose.
    """
    answer, threshold = on_device(model.net), model.threshold
    if threshold is None or isinstance(threshold, list):
        return answer

    def decide(image: Tensor) -> Tensor:
        positive = (answer(image) / model.temperature).softmax(1)[:, 1]
        return torch.stack([torch.full_like(positive, threshold), positive], dim=1)

    return decide


def build_callback(run: Run, job: Job, judge: FidelityEvaluator) -> FidelityCallback:
    """Return the callback that judges images made from the same noise after every epoch."""
    config = job.config
    noise, label = draw_all(job, judge, config.seed)
    return FidelityCallback(judge, noise, label, run.folder / "samples", config.judge.patience,
                   config.judge.grace)  # fmt: skip


def draw_all(job: Job, judge: FidelityEvaluator, seed: int) -> tuple[Tensor, Tensor]:
    """Draw the noise `[N,Z]` and label `[N]` of as many images of each class as the judge needs."""
    each, classes = max(judge.sizes.values()), len(judge.classes)
    label = torch.arange(classes).repeat_interleave(each)
    index = torch.arange(each).repeat(classes)
    return draw_noise(seed, label, index, job.config.model.generator.latent), label


def freeze_generator(run: Run, job: Job, task: Adversarial, judge: FidelityEvaluator) -> Model:
    """Judge the chosen generator on images of its own, write that down, and freeze it."""
    data, samples = job.data, job.data.ready
    task, target = task.eval(), samples.target.plain()
    noise, label = draw_all(job, judge, job.config.seed + FINAL)
    image = task.sample(noise, label)
    scores = judge.score(image, label)
    scores["critic"] = ask_critic(task, judge, image, label)
    if job.inception is not None:
        sides = (judge.train.image, judge.held.image, image)
        scores["inception"] = measure_inception(job.inception, *sides)
    gate = judge.decide(scores)
    counted = {name: {"images": len(side.label), "patients": len(set(side.patient))}
               for name, side in (("train", judge.train), ("val", judge.held))}  # fmt: skip
    counted["generated"] = {"images": len(label)}
    told = {"fidelity": scores, "floor": judge.floor, "gate": gate, "n": counted}
    files.write_json(run.metrics, told)
    save_reference(keep_reference(judge), run.folder / "fidelity" / "reference.pt")
    draw_generated(run, judge, image, label)
    return Model(
        net=task.ema, config=describe_generator(job.config, data), classes=target["classes"],
        kind="generator", contract=data.options.reader.contract(), rename=target["rename"],
        seed=job.config.seed, seen=inherit(job),
        trained_on=to_plain(summarise_facts(samples.file_facts(samples.rows("train")))), gate=gate,
    )  # fmt: skip


def inherit(job: Job) -> Seen:
    """Return what the generator has seen, and what those have on which it or its judge builds."""
    samples, card = job.data.ready, job.data.card
    seen = Seen(*samples.seen("train"), *samples.seen("val"), key=card.key if card else None)
    judge = [] if job.judge is None else [load_model(job.judge.model).seen]
    for earlier in (*job.earlier, *judge):
        seen = seen.join(earlier)
    return seen


def draw_generated(run: Run, judge: FidelityEvaluator, image: Tensor, label: Tensor) -> None:
    """Draw what was made, and the images that lie nearest to a training image beside it."""
    pixels = to_pixels(image)
    figure = draw_samples(pixels, label.numpy(), judge.classes)
    save_figure(figure, run.folder / "figures" / "samples.png")
    place, apart = judge.find_nearest(image)
    closest = np.argsort(apart)[:PAIRS]
    pairs = draw_neighbours(
        pixels[closest], to_pixels(judge.train.image[place[closest]]), apart[closest]
    )
    save_figure(pairs, run.folder / "figures" / "neighbours.png")


def to_pixels(image: Tensor) -> np.ndarray[Any, Any]:
    """Return `[N,C,H,W]` in [0,1] as uint8 `[N,H,W,C]`."""
    return (image.permute(0, 2, 3, 1).numpy() * 255).round().astype(np.uint8)
