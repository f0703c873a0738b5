"""`medvision generate`: images of a frozen generator, as one more manifest."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from rich.console import Console

import medvision.files as files
from medvision.cells import unguard_cells
from medvision.data.batches.generated import (
    Generated,
    describe_gate,
    write_generated,
    write_png,
)
from medvision.data.manifest.card import Card, read_card
from medvision.data.manifest.manifest import CARD, MANIFEST
from medvision.devices import limit_threads
from medvision.errors import MedvisionError, did_you_mean
from medvision.evaluation.report.table import Table
from medvision.inference.predictor import open_model_evaluator, run_net
from medvision.model import Model, load_generator, load_model
from medvision.provenance import command_line
from medvision.runs import Run, find_run
from medvision.target import array_of
from medvision.tasks.generation.copies import load_reference
from medvision.tasks.generation.filter import Checks, filter_images
from medvision.tasks.generation.sampling import GeneratedImages, make_images


@dataclass(frozen=True)
class GenerateRequest:
    """What is asked of which generator.

    Attributes:
        classes: numbers of the classes to make.
    """

    run: Run
    model: Model
    per_class: int
    seed: int
    classes: list[int]

    @cached_property
    def generator(self) -> str:
        """SHA-256 of its `model.pt`."""
        return files.digest_file(self.run.model)

    @property
    def gated(self) -> bool:
        return bool((self.model.gate or {}).get("passed"))

    @property
    def words(self) -> dict[str, Any]:
        """What decides the images."""
        names = [self.model.classes[k] for k in self.classes]
        return {"seed": self.seed, "per_class": self.per_class, "made": names}

    @property
    def images(self) -> tuple[list[int], list[int]]:
        """Class number and index of each image."""
        label = [k for k in self.classes for _ in range(self.per_class)]
        return label, [*range(self.per_class)] * len(self.classes)

    @property
    def folder(self) -> Path:
        """Where the images go unless the user says otherwise."""
        some = "" if len(self.classes) == len(self.model.classes) else "-" + "+".join(
            str(k) for k in self.classes)  # fmt: skip
        name = f"{self.generator[:8]}-seed{self.seed}-{self.per_class}{some}"
        return files.cache_folder() / "generated" / name


def run(
    run: str,
    per_class: int,
    seed: int = 0,
    classes: list[str] | None = None,
    output: Path | None = None,
    allow_ungated: bool = False,
    threads: int | None = None,
) -> None:
    """Make images with a trained generator: PNG files, a manifest and a card, for training alone.

    run=RUN              a run folder of a generator, `last`, or a unique beginning of its name
    per_class=500        how many images of each class
    seed=0               another seed gives other images; an image depends on seed, class and
                         number alone, however many are made
    classes=[a,b]        only these; default: all the generator knows
    output=DIR           default: a folder under MEDVISION_CACHE; the same command answers what
                         is there already
    allow_ungated=true   go on although the generator failed its gate, or has none: stamped in the
                         card and in the report of every run that trains on the images
    threads=1            of torch on a CPU; default: as the machine has them

    Use them: medvision train … data.extra=[DIR/manifest.csv] data.extra_ratio=0.25
    """
    limit_threads(threads)
    order = _read_order(run, per_class, seed, classes)
    _check_gate(order, allow_ungated)
    folder = Path(output).expanduser().absolute() if output else order.folder
    with files.locked(folder.with_name(f".{folder.name}.lock")):
        known = _is_there(order, folder)
        if not known:
            made = make_images(order.model.net, order.seed, *order.images)
            write(order, made, folder)
    _print_made(order, folder, known)


def _read_order(
    name: str, per_class: int, seed: int, classes: Sequence[str] | None
) -> GenerateRequest:
    """Find the generator and check what is asked of it.

    Raises:
        MedvisionError: numbers that cannot be, a run that is unfinished or makes no images, or a
            class that the generator does not know.
    """
    for key, value, low in (("per_class", per_class, 1), ("seed", seed, 0)):
        if type(value) is not int or value < low:
            raise MedvisionError(f"{key}={value} must be a whole number, {low} or more")
    run = find_run(name)
    if run.status != "done":
        raise MedvisionError(
            f"{run.title} has not finished ({run.status or 'no status'}); give its training "
            "command again, or name another run"
        )
    model = load_generator(run.model)
    if run.stamp:
        print(f"note: {run.title}: {run.stamp}")
    if model.config.get("embedding") == 0:
        raise MedvisionError(
            f"{run.title} was not told the class of its images, so it makes none of a class that "
            "is asked for; train a conditional generator"
        )
    wanted = [str(each) for each in model.classes] if classes is None else list(classes)
    for each in wanted or [""]:
        if each not in model.classes:
            raise MedvisionError(
                f"classes=[{','.join(wanted)}]: {run.title} knows no {each!r}"
                f"{did_you_mean(each, model.classes)}; it makes {', '.join(model.classes)}"
            )
    return GenerateRequest(
        run, model, per_class, seed, sorted({model.classes.index(c) for c in wanted})
    )


def _check_gate(order: GenerateRequest, allow_ungated: bool) -> None:
    """Refuse a generator that was judged unfit, or was never judged, unless that is allowed."""
    if order.gated or allow_ungated:
        return
    gate = order.model.gate
    fault = "has no gate: nobody judged its images"
    if gate is not None:
        fault = f"failed its gate ({'; '.join(gate['reasons'])})"
    raise MedvisionError(
        f"{order.run.title} {fault}; train a better generator, or go on with allow_ungated=true, "
        "which is stamped wherever its images train"
    )


def _is_there(order: GenerateRequest, folder: Path) -> bool:
    """Tell whether a folder holds just what is asked for already.

    Raises:
        MedvisionError: it holds something else, or what was edited since.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    facts = read_card(folder / CARD).facts if folder.is_dir() else {}
    wanted = {"generator": order.generator} | order.words
    if {key: facts.get(key) for key in wanted} != wanted:
        raise MedvisionError(f"{folder} holds something else; choose another output=DIR")
    manifest = folder / MANIFEST
    if not manifest.exists() or files.digest_file(manifest) != facts.get("rows"):
        raise MedvisionError(f"{manifest} was edited; remove {folder} and generate it again")
    return True


def write(order: GenerateRequest, made: GeneratedImages, folder: Path) -> None:
    """Write everything beside `folder`, then rename: it is there whole or not at all."""
    aside = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(aside, ignore_errors=True)  # what a killed command left
    try:
        told = filter_images(made, open_checks(order.run))
        table = pd.concat([_write_images(order, made, aside), told], axis=1)
        write_generated(aside, table, _describe_card(order, made))
        aside.replace(folder)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise


def open_checks(run: Run) -> Checks:
    """Find what a generator's run has left for this, and the classifier that judged it.

    Raises:
        MedvisionError: that classifier is not there any more, or was trained anew.
    """
    path = run.folder / "fidelity" / "reference.pt"
    reference = load_reference(path) if path.exists() else None
    judge = run.record.get("judge")
    if judge is None:
        return Checks(reference)
    try:
        model = find_run(judge["run"]).model
        same = files.digest_file(model) == judge["model"]
    except (MedvisionError, OSError):
        same = False
    if not same:
        raise MedvisionError(
            f"the classifier that judged {run.title} ({judge['run']}) is gone or was trained anew, "
            "so nobody can look at the labels of its images; bring it back, or train both again"
        )
    return Checks(reference, _classify_with(load_model(model)))


def _classify_with(model: Model) -> Callable[[torch.Tensor], NDArray[np.float64]]:
    """Return image `[N,C,H,W]` in [0,1] → calibrated probabilities `[N,K]` of a classifier."""
    evaluator = open_model_evaluator(model)

    def classify(image: torch.Tensor) -> NDArray[np.float64]:
        batches = ({"image": some} for some in torch.split(image, 256))
        said = run_net(model, batches, np.arange(len(image)), "asking the classifier")
        return array_of(evaluator.combine([said], [evaluator]), "probs")

    return classify


def _write_images(order: GenerateRequest, made: GeneratedImages, folder: Path) -> pd.DataFrame:
    """Write a PNG an image; return the manifest's rows, without what the filter says of them."""
    rows = []
    for image, k, index in zip(made.images, made.label.tolist(), made.index.tolist(), strict=True):
        name = order.model.classes[k]
        path = f"images/{k}-{files.file_safe(name)}/{index:05}.png"
        told = {"Generator": order.generator, "Seed": str(order.seed), "Class": name,
                "Index": str(index)}  # fmt: skip
        digest = write_png(folder / path, image, told)
        patient = f"gen-{order.generator[:8]}-{k}-{index}"
        rows.append((path, patient, name, "train", "generated", order.seed, index, digest))
    return pd.DataFrame(rows, columns=["path", "patient", "label", "split", "origin", "seed",
                                       "index", "digest"])  # fmt: skip


def _describe_card(order: GenerateRequest, made: GeneratedImages) -> Card:
    """Return the card but for the digest of the manifest."""
    model, seen = order.model, order.model.seen.to_plain()
    H, W, C = made.images.shape[1:]
    told = Generated(
        generator=order.generator, run=order.run.title, gate=model.gate, ungated=not order.gated,
        seen={name: seen[name] for name in seen if name != "key"}, size=[H, W], channels=C,
        reader=model.contract, rows="", key=model.seen.key,
    )  # fmt: skip
    return Card(
        dataset=f"generated-{order.generator[:8]}-seed{order.seed}",
        classes=model.classes,
        patient_rule="no patient: each generated image is one of its own",
        key=model.seen.key,
        command=command_line(),
        versions={"medvision": version("medvision")},
        origin="generated",
        facts=told.to_facts() | order.words,
    )


def _print_made(order: GenerateRequest, folder: Path, known: bool) -> None:
    """Print how many images of each class there are, how they were judged, and what to type now."""
    table = unguard_cells(pd.read_csv(folder / MANIFEST, dtype=str, keep_default_na=False))
    counts = [
        [name, len(rows), (rows["keep"] != "false").sum()]
        for name, rows in table.groupby("label", sort=False)
    ]
    console = Console(markup=False, highlight=False, soft_wrap=True)
    title = f"generated by {order.run.title}"
    Table(["class", "images", "kept"], counts, title=title).print(console)
    manifest = folder / MANIFEST
    console.print(f"gate      {describe_gate(order.model.gate)}")
    for stamp in order.model.seen.unknown:
        console.print(f"note      {stamp}")
    console.print(f"{'there' if known else 'written':<10}{manifest}")
    console.print(f"next      medvision train … 'data.extra=[{manifest}]' data.extra_ratio=0.25")
