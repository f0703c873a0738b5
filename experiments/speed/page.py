"""Write this study's README from `results.json` of the bench: medians, ratios, spread, the machine.

python experiments/speed/page.py FOLDER
"""

import json
import math
import platform
import sys
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import torch

from medvision.files import today
from medvision.provenance import describe_process
from medvision.training.machine import choose_precision, cpu_has_bf16

HERE = Path(__file__).parent
Records = list[dict[str, Any]]


def main(folder: str) -> None:
    results = json.loads((Path(folder) / "results.json").read_text())
    origin = describe_machine(results)
    results["peers"] = list_peers(results.get("nets", []))
    lines = [write_answer(results), "", origin]
    for part, write in PARTS.items():
        if results.get(part):
            lines += ["", *write(results[part])]
    if not torch.cuda.is_available():
        lines += ["", "On a GPU: **not measured**; none was at hand."]
    print("\n".join(lines))
    sys.path.insert(0, str(HERE.parent))
    import ledger

    ledger.fill(HERE / "README.md", "results", lines)
    ledger.fill_ledgers()


def write_answer(results: dict[str, Records]) -> str:
    """Say of each goal whether it was reached; a goal for other hardware is only reported."""
    goals = []
    for name in unique(r["net"] for r in results.get("nets", []) if r["net"] != "tiny"):
        ratio = median(r["ceiling"]["epoch"] / r["ours"]["epoch"] for r in results["nets"]
                       if r["net"] == name)  # fmt: skip
        goals.append((f"{name}, epoch ÷ ceiling", ratio, 0.97, True))
    for who, least in (("Keras script", 3.5), ("Lightning + torchvision", 3.0)):
        for channels in (1, 3):
            ratio = median(compare(results.get("peers", []), who, channels) or [math.nan])
            promised = who != "Keras script" or (channels == 1 and cpu_has_bf16())
            goals.append((f"÷ {who}, {channels} channel(s)", ratio, least, promised))
    ratio = median(compare(results.get("data", []), "Lightning + MONAI cache", 1) or [math.nan])
    goals.append(("data path ÷ MONAI", ratio, 15.0, True))
    told = []
    for name, value, least, promised in goals:
        if not math.isnan(value):
            verdict = judge(value >= least) if promised else "for bf16 and 1 channel, here reported"
            told.append(f"{name} {value:.2f} (≥ {least:g}: {verdict})")
    return f"**Answer.** {'; '.join(told)}."


def write_start(records: Records) -> Iterator[str]:
    ratio = spread(r["first"] / r["import"] for r in records)
    help_, first, lone = (median(r[key] for r in records) for key in ("help", "first", "import"))
    yield "| start | seconds | goal |"
    yield "|---|---|---|"
    yield f"| `medvision --help` | {help_:.2f} | ≤ 0.3: {judge(help_ <= 0.3)} |"
    yield f"| `import pytorch_lightning` alone | {lone:.1f} | |"
    yield f"| `medvision train` to its first step, prepared data | {first:.1f} | |"
    reached = judge(median(r["first"] / r["import"] for r in records) <= 1.3)
    yield f"| the last ÷ the import, pair by pair | {ratio} | ≤ 1.3: {reached} |"


def write_nets(records: Records) -> Iterator[str]:
    yield (
        "| end to end, images a second | ceiling | medvision, epoch 2 | epoch ÷ ceiling "
        "| steps alone ÷ ceiling | first epoch from the command on, s | peak memory, GB |"
    )
    yield "|---" * 7 + "|"
    for name in unique(r["net"] for r in records):
        some = [r for r in records if r["net"] == name]
        if name == "tiny":
            continue
        images = some[0]["ceiling"]["images"]
        best, ours = (images / median(values) for values in (
            [r["ceiling"]["epoch"] for r in some], [r["ours"]["epoch"] for r in some]))  # fmt: skip
        whole = [r["ceiling"]["epoch"] / r["ours"]["epoch"] for r in some]
        steps = spread(train_seconds(r["ceiling"]) / r["ours"]["stepping"] for r in some)
        cold = median(r["ours"]["cold"] for r in some)
        peak = median(r["ours"]["peak_mb"] for r in some) / 1024
        yield (f"| {name} | {best:.1f} | {ours:.1f} | **{spread(whole)}** | {steps} | {cold:.0f} "
               f"| {peak:.1f} |")  # fmt: skip
    tiny = [r for r in records if r["net"] == "tiny"]
    if tiny:
        each = [1000 * (r["ours"]["stepping"] / r["ceiling"]["steps"] - r["ceiling"]["step"]
                        - r["ceiling"]["batch"]) for r in tiny]  # fmt: skip
        yield ""
        yield (f"Lightning, callbacks, buffered outputs and logs cost **{spread(each, 1)} ms** a "
               f"step beside net and data path (goal ≤ 3 ms: {judge(median(each) <= 3)}), measured "
               "on one thread with a net of a few milliseconds.")  # fmt: skip


def train_seconds(ceiling: dict[str, Any]) -> float:
    """Return the seconds of an epoch's training steps; its last batch may be a smaller one."""
    return float(ceiling["step"] * ceiling["images"] / ceiling["batch_size"])


def write_peers(records: Records) -> Iterator[str]:
    yield ("| the article's net on 1600 images, training images a second | 1 channel "
           "| medvision ÷ it | 3 channels | medvision ÷ it | peak memory, GB |")  # fmt: skip
    yield "|---" * 6 + "|"
    for who in unique(r["who"] for r in records):
        peak = max(r["peak_mb"] for r in records if r["who"] == who) / 1024
        yield f"| {who} | {' | '.join(show_rates(records, who, 1))} | {peak:.1f} |"


def list_peers(records: Records) -> Records:
    """Return a record a contender of the article's net, medvision first."""
    found = []
    for r in records:
        if peers := r.get("peers"):
            own = {
                "rate": r["ceiling"]["images"] / r["ours"]["epoch"],
                "peak_mb": r["ours"]["peak_mb"],
            }
            channels = 3 if "3" in r["net"] else 1
            found += [{"who": who, "channels": channels, **told}
                      for who, told in ({"medvision": own} | peers).items()]  # fmt: skip
    return found


def show_rates(records: Records, who: str, digits: int) -> Iterator[str]:
    for channels in (1, 3):
        yield f"{median(find_rates(records, who, channels)):.{digits}f}"
        yield "" if who == "medvision" else f"**{spread(compare(records, who, channels))}**"


def compare(records: Records, who: str, channels: int) -> list[float]:
    """Return medvision ÷ another, round by round."""
    own, its = (find_rates(records, name, channels) for name in ("medvision", who))
    return [a / b for a, b in zip(own, its, strict=False)]


def find_rates(records: Records, who: str, channels: int) -> list[float]:
    return [r["rate"] for r in records if r["who"] == who and r["channels"] == channels]


def write_data(records: Records) -> Iterator[str]:
    yield ("| data path alone, images a second | 1 channel | medvision ÷ it | 3 channels "
           "| medvision ÷ it |")  # fmt: skip
    yield "|---" * 5 + "|"
    for who in unique(r["who"] for r in records):
        yield f"| data path of {who} | {' | '.join(show_rates(records, who, 0))} |"


def write_sweep(records: Records) -> Iterator[str]:
    (one,) = records
    each = (one["seconds"] - one["fitted"]) / one["cells"]
    yield (f"A sweep of {one['cells']} cells of one epoch takes {one['seconds']:.0f} s, "
           f"{one['fitted']:.0f} s of them training: **{each:.1f} s a cell** to compose, check, "
           "calibrate, draw intervals and figures, write TensorBoard and the report.")  # fmt: skip


def write_growth(records: Records) -> Iterator[str]:
    yield ("| growth | pixels stored | first epoch from the command on, s | epoch 2, s "
           "| epoch 2, µs a kilopixel | peak memory, GB |")  # fmt: skip
    yield "|---" * 6 + "|"
    for r in records:
        if "images" in r:
            name, pixels = f"{r['images']} images of {r['side']}²", r["images"] * r["side"] ** 2
        else:
            name = f"{r['series']} series of {r['slices']} slices of 96²"
            pixels = r["series"] * r["slices"] * 96**2
        yield (f"| {name} | {pixels / 1e6:.0f} M | {r['cold']:.1f} | {r['epoch']:.2f} "
               f"| {1e9 * r['epoch'] / pixels:.1f} | {r['peak_mb'] / 1024:.2f} |")  # fmt: skip


PARTS = {"nets": write_nets, "peers": write_peers, "data": write_data, "start": write_start,
         "sweep": write_sweep, "growth": write_growth}  # fmt: skip


def spread(values: Iterable[float], digits: int = 2) -> str:
    """Return the median, and the range of the rounds behind it."""
    found = sorted(values)
    told = f"{median(found):.{digits}f}"
    if len(found) == 1:
        return told
    return f"{told} ({found[0]:.{digits}f}–{found[-1]:.{digits}f})"


def judge(reached: bool) -> str:
    return "reached" if reached else "missed"


def unique(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def describe_machine(results: dict[str, Records]) -> str:
    process, count = describe_process(0), sum(map(len, results.values()))
    versions = ", ".join(f"{name} {version(name)}" for name in
                         ("torch", "torchvision", "pytorch-lightning"))  # fmt: skip
    code = process["code"]
    return (
        f"From {count} measurements in run folders, {today()[:10]}, commit "
        f"{code.get('commit', code['digest'])[:10]}, {process['device']}, {process['threads']} "
        f"threads, {choose_precision('auto')}, {platform.system()}, Python "
        f"{platform.python_version()}, {versions}. Medians; in brackets the range of the rounds. "
        "`make bench`"
    )


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(sys.argv[1])
