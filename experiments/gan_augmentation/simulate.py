"""Simulate augmentation studies whose truth is known, and count what the verdict says of them.

    python experiments/gan_augmentation/simulate.py [STUDIES] [RESAMPLES]

Writes verdicts.json under MEDVISION_RUNS/gan_augmentation/, and from it alone a block of README.md.

A study has a candidate at three ratios and two controls, each trained over five seeds; the ratio is
chosen on val, and the verdict is given on test. An image's score is its truth, moved by the gain of
the arm and by the luck of the training, a part all models see (how easy the patient is), a part
that the trainings of one arm share, and a part of each training.
"""

import math
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binomtest, norm, rankdata, ttest_1samp

import medvision.files as files
from medvision.provenance import describe_code, name_processor
from medvision.stats.bootstrap import interval, resample_patients
from medvision.stats.hypothesis_tests import ALPHA
from medvision.stats.ranking import Floats
from multi_seed import choose, contrast, decide

HERE = Path(__file__).parent
CONTROLS, RATIOS = ("classical", "duplicated"), ("0.25", "0.5", "1")
ARMS = (*CONTROLS, *RATIOS)
LOOKS = 3  # verdicts that experiments/gan_augmentation/run.sh gives
# What each arm adds to the AUROC of the classical one, in the order of ARMS.
TRUTHS = {
    "nothing helps": (0.0, 0.0, 0.0, 0.0, 0.0),
    "duplicates harm, generated images do nothing": (0.0, -0.03, 0.0, 0.0, 0.0),
    "generated images help no more than duplicates": (0.0, 0.03, 0.03, 0.03, 0.03),
    "generated images help, one ratio by .03 and two by half": (0.0, 0.0, 0.015, 0.03, 0.015),
    "generated images harm by .03": (0.0, 0.0, -0.03, -0.03, -0.03),
    "generated images help by half as much": (0.0, 0.0, 0.0075, 0.015, 0.0075),
}
OTHERS = {
    "patients": "trainings forgotten (bootstrap of patients alone)",
    "seeds": "patients forgotten (paired t over seeds)",
    "classical": "no duplicated control",
    "peeked": "ratio chosen on test",
}


@dataclass(frozen=True)
class Law:
    """What studies are drawn from; all parts are normal with these standard deviations."""

    test: tuple[int, int] = (234, 390)  # patients of each class, as in PneumoniaMNIST
    val: tuple[int, int] = (135, 389)
    images: int = 1  # a patient
    seeds: int = 5
    auroc: float = 0.95
    patient: float = 0.8  # shared by all models
    arm: float = 0.3  # of an arm and an image, shared by its trainings
    training: float = 0.5  # of a training and an image
    luck: float = 0.07  # of a training: moves its classes apart

    def shift(self, auroc: float) -> float:
        """Return how far the classes are apart for an AUROC, in closed form."""
        spread = math.sqrt(2 * (self.patient**2 + self.arm**2 + self.training**2))
        return float(norm.ppf(auroc)) * spread

    def draw(self, study: int, gains: Sequence[float]) -> Iterator[tuple[Any, Any, Floats]]:
        """Draw val and test of one study: patient `[N]`, label `[N]`, scores `[arms,S,N]` of each.

        Args:
            study: decides all.
            gains: in AUROC, of each arm.
        """
        rng = np.random.default_rng([11, study])
        shifts = np.array([self.shift(self.auroc + gain) for gain in gains])[:, None]
        shifts = shifts + rng.normal(size=(len(gains), self.seeds)) * self.luck
        for counts in (self.val, self.test):
            truth = np.repeat([0, 1], counts)
            who = np.repeat(np.arange(len(truth)), self.images)
            label = truth[who]
            scores = shifts[..., None] * label + rng.normal(size=len(truth))[who] * self.patient
            scores += rng.normal(size=(len(gains), 1, len(label))) * self.arm
            scores += rng.normal(size=(len(gains), self.seeds, len(label))) * self.training
            yield who, label, scores


LIKE_PNEUMONIA, SMALL = Law(), Law(test=(40, 40), val=(30, 30), images=4)


def measure_areas(label: Any, scores: Floats) -> Floats:
    """Return the AUROC of each row of scores, `[...,N]` → `[...]`."""
    positive = label == 1
    m, n = positive.sum(), (~positive).sum()
    ranks = rankdata(scores, axis=-1)[..., positive].sum(axis=-1)
    return np.asarray((ranks - m * (m + 1) / 2) / (m * n))


def draw_areas(who: Any, label: Any, scores: Floats, resamples: int, seed: int) -> Floats:
    """Return AUROCs `[S,1+R]`: what `draw_trainings` does, by pairs, for scores without ties."""
    weights = np.concatenate([*resample_patients(who.tolist(), resamples, seed)])
    up, down = (weights[:, label == k].astype(np.float32) for k in (1, 0))
    above = (scores[:, label == 1, None] > scores[:, None, label == 0]).astype(np.float32)
    won = np.stack([np.einsum("rn,rn->r", up @ pairs, down) for pairs in above])
    return np.asarray(won / (up.sum(axis=1) * down.sum(axis=1)), dtype=np.float64)


def count(
    studies: int, gains: Sequence[float], resamples: int = 300, law: Law = LIKE_PNEUMONIA,
    looks: int = LOOKS,
) -> dict[str, float]:  # fmt: skip
    """Return the shares of studies in which this or that is said.

    Args:
        studies: the number of them.
        gains: of each of ARMS, in AUROC.
        resamples: of the patients of a study.
        law: what they are drawn from.
        looks: as in `decide`.

    Returns:
        `benefit`, `none`, `harm` of the verdict; `alone/…` of the verdict of a study that gives one
        only; `apart`, the two controls are told apart at 5 %; and of the OTHERS, who leave out a
        part of the design and say a benefit at 5 %.
    """
    said = ("benefit", "none", "harm")
    found = dict.fromkeys([*said, *(f"alone/{one}" for one in said), "apart", *OTHERS], 0.0)
    for study in range(studies):
        (_, seen, on_val), (who, label, on_test) = law.draw(study, gains)
        val, test = measure_areas(seen, on_val), measure_areas(label, on_test)
        chosen, peeked = (
            choose({name: part[ARMS.index(name)].tolist() for name in RATIOS})
            for part in (val, test)
        )
        names = dict.fromkeys([*CONTROLS, chosen, peeked])
        drawn = {n: draw_areas(who, label, on_test[ARMS.index(n)], resamples, study) for n in names}
        P = int(who[-1]) + 1
        found[decide(drawn, chosen, CONTROLS, patients=P, looks=looks).outcome] += 1
        found[f"alone/{decide(drawn, chosen, CONTROLS, patients=P).outcome}"] += 1
        found["peeked"] += decide(drawn, peeked, CONTROLS, patients=P).outcome == "benefit"
        found["classical"] += decide(drawn, chosen, CONTROLS[:1], patients=P).outcome == "benefit"
        between = contrast(drawn["duplicated"] - drawn["classical"])
        found["apart"] += between.p is not None and between.p < ALPHA
        ahead = [drawn[chosen] - drawn[name] for name in CONTROLS]
        found["patients"] += all((interval(one.mean(axis=0))["low"] or 0) > 0 for one in ahead)
        found["seeds"] += all(
            one[:, 0].mean() > 0 and ttest_1samp(one[:, 0], 0).pvalue < ALPHA for one in ahead
        )
    return {name: hits / studies for name, hits in found.items()}


def main(studies: int = 500, resamples: int = 300) -> None:
    start = time.perf_counter()
    results = [
        {"law": asdict(law), "truth": truth, "said": count(studies, gains, resamples, law)}
        for law in (LIKE_PNEUMONIA, SMALL)
        for truth, gains in TRUTHS.items()
    ]
    content = {
        "studies": studies, "resamples": resamples, "looks": LOOKS, "results": results,
        "finished": files.today(), "code": describe_code(), "numpy": version("numpy"),
        "device": name_processor(), "seconds": round(time.perf_counter() - start, 1),
    }  # fmt: skip
    place = files.write_json(files.runs_folder() / "gan_augmentation" / "verdicts.json", content)
    tabulate(place)


def tabulate(place: Path) -> None:
    """Write a verdicts.json into the study's page."""
    sys.path.insert(0, str(HERE.parent))
    import ledger

    lines = list(write_results(files.read_json(place)))
    ledger.fill(HERE / "README.md", "simulated", lines)
    print("\n".join(lines))


def write_results(content: dict[str, Any]) -> Iterator[str]:
    """Yield the table, what it says and the origin."""
    studies, looks = content["studies"], content["looks"]
    said = ["no proven benefit", "proven benefit", "proven harm", "benefit, of one verdict a study"]
    yield f"| truth, {studies} studies each | {' | '.join(said)} | {' | '.join(OTHERS.values())} |"
    yield "|---" * (len(said) + len(OTHERS) + 1) + "|"
    for one in content["results"]:
        law, shares = one["law"], one["said"]
        each = "1 image" if law["images"] == 1 else f"{law['images']} images"
        n = f"{sum(law['test'])} test patients, {each} each"
        cells = [show(shares[key], studies) for key in ("none", "benefit", "harm", "alone/benefit")]
        cells += [percent(shares[key]) for key in OTHERS]
        yield f"| {n}: {one['truth']} | {' | '.join(cells)} |"
    null, helped = content["results"][0]["said"], content["results"][3]["said"]
    yield ""
    yield (
        f"**Machinery.** Where nothing helps, {percent(null['none'])} of {studies} studies say no "
        f"proven benefit; where one ratio helps by .03, {percent(helped['benefit'])} find it. With "
        f"one verdict a study instead of {looks}: {percent(null['alone/none'])} and "
        f"{percent(helped['alone/benefit'])}. Two equal arms, not chosen, are told apart at 5 % in "
        f"{percent(null['apart'])}."
    )
    yield ""
    code = content["code"]
    yield (
        f"From {studies} simulated studies of each kind, seeded, no run folders, "
        f"{content['finished'][:10]}, code {code.get('commit', code['digest'])[:10]}, numpy "
        f"{content['numpy']}, {content['device']}, {content['seconds'] / 60:.1f} minutes, "
        f"{content['resamples']} resamples each; AUROC of the classical arm "
        f"{content['results'][0]['law']['auroc']}. In brackets: 95 % Wilson intervals over "
        "studies. The last columns: how often who leaves out one part of the design, and gives one "
        "verdict a study, says a benefit."
    )


def show(share: float, studies: int) -> str:
    found = binomtest(round(share * studies), studies).proportion_ci(method="wilson")
    return f"{percent(share)} ({100 * found.low:.1f}\N{EN DASH}{percent(found.high)})"


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
