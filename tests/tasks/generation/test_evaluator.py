"""Planted failures, each caught for the right reason; a healthy generator passes."""

import json

import cv2
import numpy as np
import pytest
import torch

from medvision.errors import MedvisionError
from medvision.nets.encoder import untrained_encoder
from medvision.tasks.generation.copies import Copies
from medvision.tasks.generation.evaluator import ASKED, FidelityEvaluator
from medvision.tasks.generation.feature_space import Space
from medvision.tasks.generation.gate import is_collapsed
from medvision.tasks.generation.image_sets import FEWEST, Images

SIDE, CLASSES = 16, ["flat", "ringed"]


def make(n, seed, slices=1):
    """Bodies with an organ on the left, class 1 with a bright spot; `slices` images a patient."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    images, labels, patients = [], [], []
    for number in range(n // slices):
        width, height = rng.uniform(0.3, 0.45, 2)
        place, bright, aside = *rng.uniform([0.2, 0.3], [0.3, 0.7]), rng.uniform(-0.12, 0.12)
        texture = cv2.resize(rng.uniform(0, 0.25, (4, 4)), (SIDE, SIDE))  # of the patient alone
        for _ in range(slices):
            label = number % 2
            body = texture + 0.4 * (
                ((x - aside - 0.5) / width) ** 2 + ((y - 0.5) / height) ** 2 < 1
            )
            heart = bright * np.exp(-((x - aside - place) ** 2 + (y - 0.5) ** 2) / 0.01)
            spot = 0.5 * label * np.exp(-((x - 0.7) ** 2 + (y - 0.4) ** 2) / 0.01)
            image = body + heart + spot + 0.03 * rng.normal(size=(SIDE, SIDE))
            images.append(np.clip(image, 0, 1).astype(np.float32))
            labels.append(label)
            patients.append(f"{seed}-{number}")
    return Images(torch.from_numpy(np.stack(images)[:, None]), torch.tensor(labels), patients)


def classify(image):
    """Calls an image by the spot of class 1."""
    spot = image[:, 0, 5:8, 10:13].mean((1, 2)) - image[:, 0, 9:12, 10:13].mean((1, 2))
    return torch.stack([0.1 - spot, spot - 0.1], dim=1)


def pool(image):
    """A second feature space: 4 x 4 means, in which left and right are told apart."""
    return torch.nn.functional.avg_pool2d(image, 4).flatten(1)


@pytest.fixture(scope="module")
def judge():
    spaces = {"untrained": untrained_encoder(1), "pooled": pool}
    return FidelityEvaluator(make(240, 0), make(160, 1), spaces, classify, CLASSES)


@pytest.fixture(scope="module")
def fresh():
    return make(300, 2)


def verdict(judge, image, label):
    scores = judge.score(image, label)
    json.dumps(scores, allow_nan=False)
    return judge.decide(scores)


def fails_by(verdict):
    words = {
        "coverage is": "coverage",
        "collapsed": "coverage",
        "classifier agrees": "labels",
        "are copies": "copies",
    }
    return {name for word, name in words.items() if any(word in r for r in verdict["reasons"])}


def test_a_healthy_generator_passes(judge, fresh):
    done = verdict(judge, fresh.image, fresh.label)
    assert done["passed"], done["reasons"]
    assert done["reasons"] == []
    assert done["score"] > 0.75
    assert done["spaces"] == ["untrained", "pooled"]


def test_few_images_are_told_by_their_repeating_where_coverage_cannot():
    # 20 of 40 images cover most of the others' neighbourhoods.
    small = FidelityEvaluator(make(120, 0), make(80, 1), {"pooled": pool}, None, CLASSES)
    fresh = make(120, 2)
    scores = small.score(repeat(fresh, 20), fresh.label)
    assert scores["coverage"]["relative"] > small.asked.coverage
    assert "few different images" in small.decide(scores)["reasons"][0]


def test_a_constant_generator_fails_by_coverage(judge, fresh):
    first = [int((fresh.label == c).nonzero()[0]) for c in (0, 1)]
    image = fresh.image[torch.tensor(first)][fresh.label]
    done = verdict(judge, image, fresh.label)
    assert fails_by(done) == {"coverage"}
    assert done["score"] < 0.1
    assert "makes nearly one image a class" in is_collapsed(judge.quick(image, fresh.label))


def repeat(images, few):
    rows = torch.arange(len(images.label))
    for c in (0, 1):
        own = rows[images.label == c]
        rows[images.label == c] = own[torch.arange(len(own)) % few]
    return images.image[rows]


def test_a_generator_of_twenty_images_fails_by_coverage(judge, fresh):
    image = repeat(fresh, 20)
    assert fails_by(verdict(judge, image, fresh.label)) == {"coverage"}
    assert "few different images" in is_collapsed(judge.quick(image, fresh.label))


@pytest.mark.parametrize("spoil", ["exact", "shifted", "noisy"])
def test_a_copy_machine_fails_by_copying(judge, spoil):
    image = judge.train.image
    if spoil == "shifted":
        image = image.roll(1, 3)
    if spoil == "noisy":
        draw = torch.Generator().manual_seed(0)
        image = (image + 0.01 * torch.randn(image.shape, generator=draw)).clamp(0, 1)
    done = verdict(judge, image, judge.train.label)
    assert "copies" in fails_by(done), done
    if spoil == "exact":
        assert fails_by(done) == {"copies"}


def test_mirrored_images_fail_by_coverage_where_sides_differ(judge, fresh):
    done = verdict(judge, fresh.image.flip(3), fresh.label)
    assert "coverage" in fails_by(done)
    assert not done["passed"]


def test_wrong_labels_fail_by_agreement(judge, fresh):
    done = verdict(judge, fresh.image, 1 - fresh.label)
    assert "labels" in fails_by(done)
    half = torch.where(torch.arange(len(fresh.label)) % 4 < 2, fresh.label, 1 - fresh.label)
    assert "labels" in fails_by(verdict(judge, fresh.image, half))


def test_the_ladder_says_which_rung_is_noticed_and_how(judge):
    floor = judge.floor
    json.dumps(floor, allow_nan=False)
    ladder = floor["ladder"]
    assert {"noise", "blur", "mirrored", "one class only", "20 images repeated"} < set(ladder)
    assert ladder["20 images repeated"]["flagged"] == ["coverage"]
    assert "coverage" in ladder["mirrored"]["flagged"]
    assert "agreement" in ladder["wrong labels"]["flagged"]
    assert ladder["half copies"]["flagged"] == ["copying"]
    assert ladder["half copies"]["copied"] == pytest.approx(0.5, abs=0.1)
    unseen = [name for name, rung in ladder.items() if not rung["flagged"]]
    assert floor["blind"] == [f"the gate is blind to {name}" for name in unseen]


def test_healthy_sets_are_called_copies_in_less_than_one_of_twenty_splits():
    images, called = make(400, 9).image, 0
    for seed in range(40):
        rows = np.random.default_rng(seed).permutation(len(images))
        train, held, fresh = images[rows[:160]], images[rows[160:260]], images[rows[260:]]
        space = Space("pooled", pool, train)
        patients, label = [str(row) for row in rows[160:260]], rows[160:260] % 2
        copies = Copies({"pooled": space}, {"pooled": space.describe(held)}, patients, label, seed)
        called += copies.find({"pooled": space.describe(fresh)})["copied"] > ASKED.copied
        assert copies.find({"pooled": space.train})["copied"] > 0.9
    assert called <= 2


def test_rare_classes_count_in_the_null_of_copies_as_among_generated_images():
    patients, label = [str(n) for n in range(60)], np.repeat([0, 1], [50, 10])
    features = np.random.default_rng(0).normal(size=(60, 4)) / 10
    train = np.random.default_rng(1).normal(size=(90, 4)) / 10
    space = Space("pooled", lambda x: x.flatten(1), torch.from_numpy(train)[:, :, None, None])
    copies = Copies({"pooled": space}, {"pooled": features}, patients, label, 0)
    for half, rows in zip(copies.halves, copies.balanced, strict=True):
        drawn = label[half][rows]
        assert (drawn == 0).sum() == (drawn == 1).sum() > 0
    near, far = copies.nulls["pooled"][0]
    assert len(near) == len(far) == len(copies.balanced[1])


def test_slices_of_a_patient_neither_shrink_the_floor_nor_share_a_half():
    train, held = make(400, 5, slices=4), make(400, 6, slices=4)
    judge = FidelityEvaluator(train, held, {"pooled": pool}, None, CLASSES)
    floors = [c["coverage"] for c in judge.floor["spaces"]["pooled"]["classes"].values()]
    assert min(floors) > 0.6
    one, other = ({held.patient[i] for i in half} for half in judge.copies.halves)
    assert not one & other
    fresh = make(400, 7, slices=4)
    assert judge.decide(judge.quick(fresh.image, fresh.label))["passed"]


def test_the_same_images_score_the_same(fresh):
    def judged():
        judge = FidelityEvaluator(
            make(120, 0), make(120, 1), {"pooled": pool}, classify, CLASSES, seed=3
        )
        return judge.score(fresh.image, fresh.label), judge.floor

    before = torch.random.get_rng_state()
    assert judged() == judged()
    assert torch.equal(before, torch.random.get_rng_state())


def test_the_quick_score_picks_like_the_full_one(judge, fresh):
    quick, full = (f(fresh.image, fresh.label) for f in (judge.quick, judge.score))
    assert quick["gate_score"] == pytest.approx(full["gate_score"], abs=0.15)
    assert {"kid", "fd", "precision", "recall"} <= set(full["spaces"]["pooled"]["classes"]["flat"])
    assert 0 <= full["near_duplicates"] < 0.1
    blurred = torch.nn.functional.avg_pool2d(fresh.image, 5, 1, 2)
    assert judge.quick(blurred, fresh.label)["gate_score"] < quick["gate_score"]


def test_without_a_classifier_or_with_one_class_it_says_what_it_cannot_see(fresh):
    judge = FidelityEvaluator(make(120, 0), make(120, 1), {"pooled": pool}, None, CLASSES)
    scores = judge.score(fresh.image, fresh.label)
    done = judge.decide(scores)
    assert scores["label_agreement"] is None
    assert done["passed"]
    assert "one feature space alone, the pooled net" in done["reasons"][0]
    assert "label agreement was not judged" in done["reasons"][1]

    blind = FidelityEvaluator(
        make(120, 0),
        make(120, 1),
        {"pooled": pool},
        lambda x: classify(x) + torch.eye(2)[0],
        CLASSES,
    )
    assert "calls 0% of the real images of class ringed so" in blind.notes[1]
    assert blind.score(fresh.image, fresh.label)["label_agreement"] is None

    def only(images):
        one = images.label == 0
        patients = [p for p, own in zip(images.patient, one, strict=True) if own]
        return Images(images.image[one], images.label[one], patients)

    lone = FidelityEvaluator(
        only(make(160, 0)), only(make(160, 1)), {"pooled": pool}, classify, CLASSES[:1]
    )
    assert "not defined for one class" in lone.notes[1]
    assert "one class only" not in lone.floor["ladder"]
    few = only(fresh)
    assert lone.decide(lone.score(few.image, few.label))["passed"]


def test_too_few_images_of_a_class_say_oversample_instead():
    few, held = make(2 * FEWEST - 2, 0), make(120, 1)
    with pytest.raises(MedvisionError, match="49 images of class flat, fewer than 50: oversample"):
        FidelityEvaluator(few, held, {"pooled": pool}, None, CLASSES)
    with pytest.raises(MedvisionError, match="9 images of class ringed, fewer than 20: hold out"):
        FidelityEvaluator(held, make(18, 2), {"pooled": pool}, None, CLASSES)


def test_images_that_do_not_fit_are_refused(judge, fresh):
    with pytest.raises(MedvisionError, match="1 of class flat"):
        judge.quick(fresh.image[:1], fresh.label[:1])
    with pytest.raises(MedvisionError, match="they are 1×8×8, the real ones 1×16×16"):
        judge.quick(fresh.image[:, :, :8, :8], fresh.label)
    with pytest.raises(MedvisionError, match="intensities are not all between 0 and 1"):
        judge.quick(fresh.image * 2 - 1, fresh.label)
    with pytest.raises(MedvisionError, match="intensities are not all"):
        judge.quick(fresh.image * np.nan, fresh.label)
    with pytest.raises(MedvisionError, match="labels from 5 to 6"):
        judge.quick(fresh.image, fresh.label + 5)
    train = judge.train
    with pytest.raises(MedvisionError, match="patients are in train and in the held-out part"):
        FidelityEvaluator(train, train, {"pooled": pool}, None, CLASSES)
    with pytest.raises(MedvisionError, match="there is no feature space"):
        FidelityEvaluator(train, judge.held, {}, None, CLASSES)


def test_features_that_are_not_finite_are_refused(judge):
    with pytest.raises(MedvisionError, match="features seen by broken hold nan"):
        FidelityEvaluator(judge.train, judge.held, {"broken": lambda x: pool(x) / 0}, None, CLASSES)
