"""Simulate studies whose truth is known, and count how often the intervals and tests are right.

    python experiments/coverage/simulate.py [few] [SETS] [RESAMPLES]

Writes coverage.json (with `few`, few.json) under MEDVISION_RUNS/coverage/, and from it alone the
results in README.md.

A data set has P patients with several images each. An image's score is the truth of its patient, a
part all models see (how easy the patient is), a part of this model and patient, and a part of the
image: rows of one patient are alike, for one model and for the difference of two.
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
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import binomtest, norm

import medvision.files as files
from medvision.evaluation.evaluator import Scored, open_evaluator
from medvision.provenance import describe_code, name_processor
from medvision.stats.bootstrap import draw, interval, resample_patients
from medvision.stats.hypothesis_tests import compare_decisions, compare_draws, smallest_difference
from medvision.stats.ranking import curve_areas
from medvision.tasks.classification.weighted import WeightedScores

HERE = Path(__file__).parent
UNITS = ("patients", "rows")


@dataclass(frozen=True)
class Study:
    """The law data sets are drawn from; all parts are normal with these standard deviations."""

    patients: int = 200
    images: int = 4
    shift: float = 1.2
    patient: float = 0.8  # of a patient, the same for all models
    own: float = 0.6  # of a model and a patient
    image: float = 0.6  # of a model and an image

    def truth(self, gain: float = 0.0) -> float:
        """Return the AUROC of infinitely many patients, in closed form."""
        spread = math.sqrt(2 * (self.patient**2 + self.own**2 + self.image**2))
        return float(norm.cdf((self.shift + gain) / spread))

    def gain_of(self, difference: float) -> float:
        """Return what to add to `shift` for an AUROC that is higher by `difference`."""
        truth = self.truth()
        return float(self.shift * (norm.ppf(truth + difference) / norm.ppf(truth) - 1))

    def draw(self, seed: int, gains: tuple[float, ...]) -> tuple[Any, Any, list[Any]]:
        """Draw one data set: patient `[N]`, label `[N]`, and of each model the scores `[N]`.

        Args:
            seed: decides all.
            gains: what each model adds to `shift`.
        """
        rng = np.random.default_rng([7, seed])
        who = np.repeat(np.arange(self.patients), self.images)
        label = (rng.permutation(self.patients) % 2)[who]
        shared = rng.normal(size=self.patients)[who] * self.patient
        own = [rng.normal(size=self.patients)[who] * self.own for _ in gains]
        noise = [rng.normal(size=len(who)) * self.image for _ in gains]
        scores = [(self.shift + gain) * label + shared + a + b
                  for gain, a, b in zip(gains, own, noise, strict=True)]  # fmt: skip
        return who, label, scores


LARGE, MIDDLE, SMALL = Study(), Study(patients=120, images=6), Study(patients=40)


def weigh(scores: NDArray[np.float64], label: NDArray[np.int64], shift: float) -> WeightedScores:
    """Turn scores into probabilities of the positive class, cut midway between the classes."""
    positive = norm.cdf(scores - shift / 2)
    return WeightedScores(np.stack([1 - positive, positive], axis=1), label, "binary")


def draw_auroc(
    models: Sequence[WeightedScores], keys: Sequence[int], resamples: int, seed: int
) -> list[NDArray[np.float64]]:
    """Return `[1+R]` of each model: `draw_means` without the scores that are not looked at."""
    drawn: list[list[NDArray[np.float64]]] = [[] for _ in models]
    for weights in resample_patients(keys, resamples, seed):
        for values, model in zip(drawn, models, strict=True):
            values.append(curve_areas(*model.rankings[1].cumulate(weights))[0])
    return [np.concatenate(values) for values in drawn]


def count(
    sets: int, resamples: int = 500, study: Study = LARGE, apart: float = 0.0,
    units: Sequence[str] = UNITS,
) -> dict[str, float]:  # fmt: skip
    """Return the shares of data sets in which an interval or a test says this or that.

    Args:
        sets: the number of data sets.
        resamples: of each.
        study: the law they are drawn from.
        apart: the true difference of the two models in AUROC; 0 are equal models.
        units: what is resampled and counted.

    Returns:
        a unit: `cover/<unit>`, the 95 % interval holds the first model's true AUROC; and
        `auroc/<unit>`, `decisions/<unit>`, the two are called different at 5 %. `shown` is the mean
        of the smallest difference in AUROC that a data set was said to show.
    """
    found = {f"{what}/{unit}": 0.0 for what in ("cover", "auroc", "decisions") for unit in units}
    gains = (study.gain_of(-apart / 2), study.gain_of(apart / 2))
    shown = []
    for seed in range(sets):
        who, label, scores = study.draw(seed, gains)
        models = [weigh(one, label, study.shift) for one in scores]
        right = [model.preds[np.arange(len(label)), label].astype(int) for model in models]
        for unit in units:
            keys = {"patients": who.tolist(), "rows": list(range(len(who)))}[unit]
            first, second = draw_auroc(models, keys, resamples, seed)
            one, p = interval(first), compare_draws(second - first).p
            found[f"cover/{unit}"] += one["low"] <= study.truth(gains[0]) <= one["high"]
            found[f"auroc/{unit}"] += p < 0.05
            found[f"decisions/{unit}"] += compare_decisions(right[1] - right[0], keys).p < 0.05
            if unit == "patients":
                shown.append(smallest_difference(second - first) or 0.0)
    return {k: v / sets for k, v in found.items()} | {"shown": float(np.mean(shown))}


FEW = (5, 10, 20, 40, 200)
FEW_SCORES = ("auroc", "recall", "accuracy", "f1")


def truths(study: Study) -> dict[str, float]:
    """Return what infinitely many patients score, cut midway, half of them positive."""
    spread = math.sqrt(study.patient**2 + study.own**2 + study.image**2)
    share = float(norm.cdf(study.shift / 2 / spread))
    return {"auroc": study.truth()} | dict.fromkeys(("recall", "accuracy", "f1"), share)


def count_few(
    sets: int, patients: int, resamples: int = 500, images: int = 4, shift: float = 3.0
) -> dict[str, float]:
    """Return the shares of data sets whose interval holds the truth, before and now.

    Returns:
        a score: `<score>/percentile`, the plain percentiles of the patient bootstrap;
        `<score>/now`, what `metrics.json` holds; `<score>/width`, the mean width of it.
    """
    study = Study(patients=patients, images=images, shift=shift)
    target, truth = {"classes": ["well", "ill"], "kind": "binary"}, truths(study)
    evaluator = open_evaluator("classification", target, {"rule": "fixed=0.5", "threshold": 0.5})
    found = {f"{s}/{what}": 0.0 for s in FEW_SCORES for what in ("percentile", "now", "width")}
    for seed in range(sets):
        who, label, (scores,) = study.draw(seed, (0.0,))
        weighted = weigh(scores, label, shift)
        arrays = {"probs": weighted.probs, "label": label, "preds": weighted.preds}
        scored = Scored(pd.DataFrame({"index": who}), {}, arrays, [("", str(one)) for one in who])
        asked = {name: evaluator.metrics[name] for name in FEW_SCORES}
        (drawn,) = draw(asked, [[scored]], scored.patients, resamples=resamples, seed=seed)
        for name, values in drawn.items():
            ends = np.nanquantile(values[1:], [0.025, 0.975])
            now = evaluator.interval(name, [scored], values)
            found[f"{name}/percentile"] += ends[0] <= truth[name] <= ends[1]
            found[f"{name}/now"] += now["low"] <= truth[name] <= now["high"]
            found[f"{name}/width"] += now["high"] - now["low"]
    return {name: value / sets for name, value in found.items()}


def main(sets: int = 500, resamples: int = 500) -> None:
    start = time.perf_counter()
    results = []
    for study in (LARGE, MIDDLE, SMALL):
        equal = count(sets, resamples, study)
        unequal = count(sets, resamples, study, equal["shown"], UNITS[:1])
        law = {"study": asdict(study), "truth": study.truth()}
        results.append(law | {"equal": equal, "unequal": unequal})
    content = {
        "sets": sets, "resamples": resamples, "results": results, "finished": files.today(),
        "code": describe_code(), "numpy": version("numpy"), "device": name_processor(),
        "seconds": round(time.perf_counter() - start, 1),
    }  # fmt: skip
    place = files.write_json(files.runs_folder() / "coverage" / "coverage.json", content)
    tabulate(place)


def main_few(sets: int = 200, resamples: int = 500) -> None:
    start = time.perf_counter()
    few = [
        {"patients": patients, "images": images, "shift": shift,
         "shares": count_few(sets, patients, resamples, images, shift)}
        for shift in (1.2, 3.0) for images in (1, 4) for patients in FEW
    ]  # fmt: skip
    content = {
        "sets": sets, "resamples": resamples, "few": few, "finished": files.today(),
        "code": describe_code(), "device": name_processor(),
        "seconds": round(time.perf_counter() - start, 1),
    }  # fmt: skip
    tabulate(files.write_json(files.runs_folder() / "coverage" / "few.json", content))


def tabulate(place: Path) -> None:
    """Write a coverage.json into the study's page and the ledgers."""
    sys.path.insert(0, str(HERE.parent))
    import ledger

    content = files.read_json(place)
    block, write = ("few", write_few) if "few" in content else ("results", write_results)
    lines = list(write(content))
    ledger.fill(HERE / "README.md", block, lines)
    ledger.fill_ledgers()
    print("\n".join(lines))


def write_results(content: dict[str, Any]) -> Iterator[str]:
    """Yield the table, the answer and the origin."""
    sets = content["sets"]
    yield f"| of {sets} simulated data sets | by patients | by rows |"
    yield "|---|---|---|"
    for one in content["results"]:
        n = f"{one['study']['patients']} patients, {one['study']['images']} images each"
        for name, shares in lay_out(one).items():
            yield f"| {n}: {name} | {' | '.join(show(share, sets) for share in shares)} |"
    equal = content["results"][0]["equal"]
    yield ""
    yield (
        "**Answer.** the patient bootstrap's 95 % interval holds the truth in "
        f"{percent(equal['cover/patients'])} of {sets} data sets, a row bootstrap's in "
        f"{percent(equal['cover/rows'])}; two equal models are called different in "
        f"{percent(equal['auroc/patients'])}, by rows in {percent(equal['auroc/rows'])}."
    )
    yield ""
    code = content["code"]
    yield (
        f"From {sets} simulated data sets of each kind, no run folders, "
        f"{content['finished'][:10]}, commit {code.get('commit', code['digest'])[:10]}, numpy "
        f"{content['numpy']}, {content['device']}, {content['seconds'] / 60:.1f} minutes, "
        f"{content['resamples']} resamples each. In brackets: 95 % Wilson intervals over data sets."
    )


def write_few(content: dict[str, Any]) -> Iterator[str]:
    """Yield a row a number of patients: the percentiles' coverage before, and the interval's."""
    yield "| true AUROC, patients, images each | " + " | ".join(
        f"{name}: percentiles → now (mean width)" for name in FEW_SCORES
    ) + " |"  # fmt: skip
    yield "|---" * (1 + len(FEW_SCORES)) + "|"
    for one in content["few"]:
        shares = one["shares"]
        cells = [
            f"{percent(shares[f'{n}/percentile'])} → {percent(shares[f'{n}/now'])} "
            f"({shares[f'{n}/width']:.2f})" for n in FEW_SCORES
        ]  # fmt: skip
        truth = Study(shift=one["shift"]).truth()
        yield f"| {truth:.3f}, {one['patients']}, {one['images']} | {' | '.join(cells)} |"
    now = [one["shares"][f"{n}/now"] for one in content["few"] for n in FEW_SCORES]
    before = [one["shares"][f"{n}/percentile"] for one in content["few"] for n in FEW_SCORES]
    yield ""
    yield (
        f"**Answer on few patients.** Of all {len(now)} cells the interval holds the truth in at "
        f"least {percent(min(now))} of the data sets; percentiles alone in {percent(min(before))}."
    )
    yield ""
    code = content["code"]
    yield (
        f"From {content['sets']} simulated data sets a row, {content['finished'][:10]}, commit "
        f"{code.get('commit', code['digest'])[:10]}, {content['resamples']} resamples each, "
        f"{content['device']}."
    )


def lay_out(one: dict[str, Any]) -> dict[str, list[float | None]]:
    """Return what is counted → the share by patients and by rows."""
    equal, unequal = one["equal"], one["unequal"]
    return {
        f"the 95 % interval holds the true AUROC, {one['truth']:.3f}": [
            equal[f"cover/{unit}"] for unit in UNITS
        ],
        "two equal models called different, AUROC (paired bootstrap)": [
            equal[f"auroc/{unit}"] for unit in UNITS
        ],
        "two equal models called different, decisions (McNemar: clustered, exact)": [
            equal[f"decisions/{unit}"] for unit in UNITS
        ],
        f"two models {equal['shown']:.3f} apart, which this n was said to show in 80 %, called "
        "different": [unequal["auroc/patients"], None],
    }


def show(share: float | None, sets: int) -> str:
    if share is None:
        return ""
    found = binomtest(round(share * sets), sets).proportion_ci(method="wilson")
    return f"{percent(share)} ({100 * found.low:.1f}\N{EN DASH}{percent(found.high)})"


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


if __name__ == "__main__":
    few, *numbers = sys.argv[1:] if sys.argv[1:2] == ["few"] else ["", *sys.argv[1:]]
    (main_few if few else main)(*map(int, numbers))
