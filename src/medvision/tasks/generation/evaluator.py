"""The judge of a generator: real images it is measured against, and what it says of generated ones.

All that depends on real images alone is computed once: features, neighbourhoods, floors (training
against held-out images, in the place of generated ones) and the corruption ladder. Every score is
relative to its floor, with the same number of images, drawn alike.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medvision.errors import MedvisionError, collect
from medvision.tasks.generation import gate
from medvision.tasks.generation.copies import LIKELY, Copies, Reference
from medvision.tasks.generation.feature_space import Encode, Space, encode_images
from medvision.tasks.generation.fidelity import (
    Features,
    cover,
    find_nearest,
    measure_distances,
    measure_distinctness,
    measure_frechet,
    measure_kernel,
    measure_radii,
    measure_spread,
)
from medvision.tasks.generation.gate import Thresholds
from medvision.tasks.generation.image_sets import (
    Images,
    check_images,
    corrupt,
    find_problems,
    shape_of,
)

Ints = NDArray[np.int64]


_CLEARLY = 0.1  # above chance: what a classifier must know of a class to be asked for its labels


class Depth(NamedTuple):
    """How thoroughly is judged.

    Attributes:
        taken: generated images of a class that are looked at, at most.
        images: of them and of real ones, in a draw.
        draws: that are averaged.
        reported: measure what the gate does not look at too: FD, KID, precision, recall.
    """

    taken: int
    images: int
    draws: int
    reported: bool = False


FULL, _GATE, QUICK = Depth(500, 250, 3, True), Depth(500, 250, 3), Depth(100, 100, 2)
ASKED = Thresholds()


class _Draw(NamedTuple):
    """One draw of a class: rows of equal number, and the radii of the held-out ones in a space."""

    held: Ints
    train: Ints
    radii: dict[str, Features]


class FidelityEvaluator:
    """Scores generated images against real ones, and decides whether they may be used.

    Args:
        train: what the generator was trained on.
        held: images of other patients, which it has not seen.
        spaces: name → encoder, `[B,C,H,W]` in [0,1] → `[B,D]`, in evaluation mode.
        classify: → probabilities or logits `[B,K]`, of a classifier that knows `train` at most;
            None: labels are not judged.
        classes: the names of the K classes.
        seed: of all draws.
        k: neighbours that make a real image's neighbourhood.
        asked: what the gate asks for.
        mirror_matters: whether the gate is called blind where it passes mirrored images.

    Raises:
        MedvisionError: too few images or patients of a class, or images that do not fit.
    """

    def __init__(
        self, train: Images, held: Images, spaces: Mapping[str, Encode],
        classify: Callable[[Tensor], Tensor] | None, classes: Sequence[str], seed: int = 0,
        k: int = 5, asked: Thresholds = ASKED, mirror_matters: bool = True,
    ) -> None:  # fmt: skip
        check_images(train, held, spaces, classes)
        self.train, self.held, self.classes = train, held, list(classes)
        self.classify = classify if len(classes) > 1 else None
        self.seed, self.k, self.asked, self.mirror_matters = seed, k, asked, mirror_matters
        self.spaces = {name: Space(name, encode, train.image) for name, encode in spaces.items()}
        self.real = {name: space.describe(held.image) for name, space in self.spaces.items()}
        self.labels = train.label.cpu().numpy(), held.label.cpu().numpy()
        self.copies = Copies(self.spaces, self.real, held.patient, self.labels[1], seed)
        self.draws = {depth: self._draw(depth) for depth in (FULL, QUICK)}
        self.draws[_GATE] = self.draws[FULL]
        self.agrees = self._agree(held.image, self.labels[1])
        self.poor = self._find_poor_class()
        if self.poor is not None:
            self.classify = None
        train_features = {name: space.train for name, space in self.spaces.items()}
        self.floors = {
            depth: self._measure(train_features, self.labels[0], depth, floor=True)
            for depth in (FULL, QUICK)
        }
        self.floors[_GATE] = self.floors[FULL]

    @property
    def notes(self) -> list[str]:
        """What this judge cannot look at, in sentences."""
        notes = []
        if len(self.spaces) == 1:
            notes.append(f"judged in one feature space alone, the {next(iter(self.spaces))} net")
        if len(self.classes) == 1:
            notes.append("label agreement is not defined for one class")
        elif self.poor is not None:
            c, agrees = self.poor
            notes.append(
                f"label agreement was not judged: the classifier calls {agrees:.0%} of the real "
                f"images of class {self.classes[c]} so, hardly more than chance; train a better one"
            )
        elif self.classify is None:
            notes.append("label agreement was not judged: there is no classifier (judge.run)")
        return notes

    @property
    def sizes(self) -> dict[str, int]:
        """Images of each class that `score` needs at least."""
        return {name: len(self.draws[FULL][c][0].held) for c, name in enumerate(self.classes)}

    def score(self, image: Tensor, label: Tensor) -> dict[str, Any]:
        """Score generated images in full: `image [N,C,H,W]` in [0,1], `label [N]`.

        Raises:
            MedvisionError: fewer images of a class than `sizes`, or images that do not fit.
        """
        scores, features = self._score(image, label, FULL)
        return scores | {"near_duplicates": self.copies.find_duplicates(features)}

    def quick(self, image: Tensor, label: Tensor) -> dict[str, Any]:
        """Score generated images by what the gate and the alarm need, with fewer images."""
        return self._score(image, label, QUICK)[0]

    def decide(self, scores: Mapping[str, Any]) -> dict[str, Any]:
        """Pass or fail: `passed`, `score`, `spaces` and `reasons`, see `gate.decide_gate`."""
        return gate.decide_gate(scores, self.asked, self.notes)

    def find_nearest(self, image: Tensor) -> tuple[Ints, Features]:
        """Return for each generated image the nearest training image, and how far away it is.

        Returns:
            rows of `train` `[N]`, and the distance in the first space, 1 = the median of held-out
            images.
        """
        space = next(iter(self.spaces.values()))
        row, apart = find_nearest(space.describe(image), space.train)
        return row, apart / max(float(np.median(self.unseen)), 1e-12)

    @cached_property
    def unseen(self) -> Features:
        """The distance of each held-out image to the nearest training image, in the first space."""
        name, space = next(iter(self.spaces.items()))
        return find_nearest(self.real[name], space.train)[1]

    @cached_property
    def floor(self) -> dict[str, Any]:
        """What real images reach, and the corruption ladder with what the gate makes of it."""
        ladder = self._climb()
        blind = [
            f"the gate is blind to {name}"
            for name, rung in ladder.items()
            if not rung["flagged"] and (name != "mirrored" or self.mirror_matters)
        ]
        measured = self.floors[FULL]
        return {
            "n": self.sizes,
            "spaces": {n: {"classes": s["classes"]} for n, s in measured["spaces"].items()},
            "label_agreement": self.agrees,
            "ladder": ladder,
            "blind": blind,
            "asked": asdict(self.asked),
            "notes": self.notes,
        }

    def _draw(self, depth: Depth) -> list[list[_Draw]]:
        """Draw equal numbers of training and held-out images of each class."""
        return [
            [self._draw_once(c, depth, number) for number in range(depth.draws)]
            for c in range(len(self.classes))
        ]

    def _draw_once(self, c: int, depth: Depth, number: int) -> _Draw:
        rng = np.random.default_rng([self.seed, 2, c, number])
        train, held = (np.flatnonzero(label == c) for label in self.labels)
        n = min(len(train), len(held), depth.images)
        held, train = rng.choice(held, n, replace=False), rng.choice(train, n, replace=False)
        owners = [self.held.patient[int(row)] for row in held]
        try:
            radii = {m: measure_radii(f[held], owners, self.k) for m, f in self.real.items()}
        except MedvisionError as error:
            raise MedvisionError(f"held-out part, class {self.classes[c]}: {error}") from error
        return _Draw(held, train, radii)

    def _score(
        self, image: Tensor, label: Tensor, depth: Depth
    ) -> tuple[dict[str, Any], dict[str, Features]]:
        numbers = self._check_generated(image, label, depth)
        rows = [np.flatnonzero(numbers == c)[: depth.taken] for c in range(len(self.classes))]
        taken = np.sort(np.concatenate(rows))
        image, numbers = image[torch.from_numpy(taken).to(image.device)], numbers[taken]
        features = {name: space.describe(image) for name, space in self.spaces.items()}
        agreement = self._agree(image, numbers)
        return self._complete(features, numbers, agreement, depth), features

    def _complete(
        self, features: dict[str, Features], label: Ints, agreement: list[float] | None,
        depth: Depth,
    ) -> dict[str, Any]:  # fmt: skip
        """Put the scores of features and labels together, relative to the floors."""
        measured = self._measure(features, label, depth)
        scores: dict[str, Any] = {
            "coverage": self._worst(measured, depth, "coverage"),
            "diversity": self._worst(measured, depth, "diversity"),
            "distinct": self._worst(measured, depth, "distinct"),
            "label_agreement": self._compare_agreement(agreement),
            "copying": self.copies.find(features),
            "spaces": measured["spaces"],
        }
        return scores | {"gate_score": gate.score_gate(scores, self.asked)}

    def _measure(
        self, features: dict[str, Features], label: Ints, depth: Depth, floor: bool = False
    ) -> dict[str, Any]:
        """Measure every class in every space, mean over draws; FD and KID in full depth only."""
        result: dict[str, Any] = {}
        for name, own in features.items():
            classes = {}
            for c, title in enumerate(self.classes):
                rows = np.flatnonzero(label == c)
                draws = [
                    self._measure_once(name, own, draw, self._choose(rows, draw, i, floor), depth)
                    for i, draw in enumerate(self.draws[depth][c])
                ]
                classes[title] = {key: float(np.mean([d[key] for d in draws])) for key in draws[0]}
            result[name] = {"classes": classes}
        return {"spaces": result}

    def _choose(self, rows: Ints, draw: _Draw, number: int, floor: bool) -> Ints:
        if floor:
            return draw.train
        rng = np.random.default_rng([self.seed, 3, number])
        return np.asarray(rng.choice(rows, min(len(rows), len(draw.held)), replace=False))

    def _measure_once(
        self, name: str, features: Features, draw: _Draw, rows: Ints, depth: Depth
    ) -> dict[str, float]:
        real, fake = self.real[name][draw.held], features[rows]
        apart = measure_distances(real, fake)
        own = measure_radii(fake, range(len(fake)), self.k) if depth.reported else None
        scores = cover(apart, draw.radii[name], own, self.k)
        scores["diversity"], scores["distinct"] = measure_spread(fake), measure_distinctness(fake)
        if depth.reported:
            compact = self.spaces[name].compact
            scores["fd"] = measure_frechet(compact(real), compact(fake))
            scores["kid"] = measure_kernel(compact(real), compact(fake))
        return scores

    def _worst(self, measured: dict[str, Any], depth: Depth, key: str) -> dict[str, Any]:
        """Divide by the floor and return the least of all spaces and classes, with its place."""
        floor = self.floors[depth]["spaces"]
        found: list[dict[str, Any]] = []
        for name, space in measured["spaces"].items():
            for title, scores in space["classes"].items():
                least = floor[name]["classes"][title][key]
                relative = scores[key] / least if least > 0 else 0.0
                scores[f"relative_{key}"] = relative
                found.append({"relative": relative, "space": name, "class": title})
        return min(found, key=lambda one: one["relative"])

    def _agree(self, image: Tensor, label: Ints) -> list[float] | None:
        """Return, for each class, the share of images that the classifier calls so."""
        if self.classify is None:
            return None
        called = encode_images(self.classify, image, "classifier").argmax(axis=1)
        return [float((called[label == c] == c).mean()) for c in range(len(self.classes))]

    def _find_poor_class(self) -> tuple[int, float] | None:
        """Return the class, if any, of which the classifier knows hardly more than chance."""
        worst = min(((a, c) for c, a in enumerate(self.agrees or [])), default=None)
        least = 1 / len(self.classes) + _CLEARLY
        return None if worst is None or worst[0] > least else (worst[1], worst[0])

    def _compare_agreement(self, agreement: list[float] | None) -> dict[str, Any] | None:
        if agreement is None or self.agrees is None:
            return None
        chance = 1 / len(self.classes)  # labels that say nothing agree as often
        found: list[dict[str, Any]] = [
            {"relative": (fake - chance) / (real - chance), "fake": fake, "real": real,
             "class": title}
            for fake, real, title in zip(agreement, self.agrees, self.classes, strict=True)
        ]  # fmt: skip
        return min(found, key=lambda one: one["relative"])

    def _climb(self) -> dict[str, Any]:
        """Score each rung of the ladder; the rungs are made of training images.

        So it is coverage and labels that must notice them, and copying only where copies are meant.
        """
        label = self.labels[0]
        own = {name: space.train for name, space in self.spaces.items()}
        agrees = self._agree(self.train.image, label)
        ladder = {}
        for name, spoilt in corrupt(self.train.image.cpu(), self.train.label.cpu(), self.seed):
            features = {n: space.describe(spoilt) for n, space in self.spaces.items()}
            scores = self._complete(features, label, self._agree(spoilt, label), _GATE)
            ladder[name] = self._sum_up(scores, ("coverage", "agreement"))
        if self.classify is not None:
            wrong = (label + 1) % len(self.classes)
            agreement = self._agree(self.train.image, wrong)
            ladder["wrong labels"] = self._sum_up(
                self._complete(own, wrong, agreement, _GATE), ("coverage", "agreement")
            )
        scores = self._complete(own, label, agrees, _GATE) | {"copying": self.copies.plant_half()}
        ladder["half copies"] = self._sum_up(scores, ("copying",))
        return ladder

    def _sum_up(self, scores: dict[str, Any], eyes: tuple[str, ...]) -> dict[str, Any]:
        agreement = scores["label_agreement"]
        return {
            "coverage": {
                name: min(one["relative_coverage"] for one in space["classes"].values())
                for name, space in scores["spaces"].items()
            },
            "agreement": None if agreement is None else agreement["relative"],
            "copied": scores["copying"]["copied"],
            "flagged": [name for name in gate.find_faults(scores, self.asked) if name in eyes],
        }

    def _check_generated(self, image: Tensor, label: Tensor, depth: Depth) -> Ints:
        problems = find_problems("generated images", image, label, self.classes)
        if not problems and image.shape[1:] != self.train.image.shape[1:]:
            problems = [f"they are {shape_of(image)}, the real ones {shape_of(self.train.image)}"]
        if not problems:
            counts = [int((label == c).sum()) for c in range(len(self.classes))]
            problems = [
                f"{count} of class {name}, {len(self.draws[depth][c][0].held)} are needed"
                for c, (name, count) in enumerate(zip(self.classes, counts, strict=True))
                if count < len(self.draws[depth][c][0].held)
            ]
        if problems:
            raise collect("the generated images cannot be judged", problems, "Generate them anew")
        return np.asarray(label.cpu().numpy(), dtype=np.int64)


def keep_reference(judge: FidelityEvaluator) -> Reference:
    """Take from a judge what finds copies without it."""
    space = next(iter(judge.spaces.values()))
    usual = max(float(np.median(judge.unseen)), 1e-12)
    near = float(np.quantile(judge.unseen, LIKELY)) / usual
    return Reference(space.train, space.mean, space.deviation, usual, near)
