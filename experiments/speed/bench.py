"""Time medvision beside its own ceiling and beside what a user would pick instead.

    python experiments/speed/bench.py FOLDER [PART …]

PART is start, sweep, growth, data or nets; without one all are run. FOLDER keeps the drawn
files, the runs and `results.json`, from which `page.py` writes this study's README. Contenders
take turns, so that a busy machine slows all of them, and each is a process of its own. The peers'
Pythons are named by MEDVISION_KERAS and MEDVISION_MONAI; a peer without one is left out.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from measure import Ran, run

HERE = Path(__file__).parent
ROUNDS = int(os.environ.get("MEDVISION_ROUNDS", "3"))
STEPS, WARM = 12, 3  # of a peer and of the ceiling: timed, and before that
TRAIN = [sys.executable, "-m", "medvision", "train"]
FOLDER = ["data=folder", "data.source.columns.patient=(p\\d+)",
          "data.shares={train: 0.8, val: 0.1, test: 0.1}"]  # fmt: skip
ALWAYS = ["test=false", "callbacks.early_stopping=null"]
LARGE = [*FOLDER, "data.reader.size=[224,224]"]
ARTICLE = [*LARGE, "model=keras_cnn", "augment=article"]
NETS = {
    "article, 1 channel": ("images", [*ARTICLE, "data.reader.channels=1"]),
    "article, 3 channels": ("images", [*ARTICLE, "data.reader.channels=3"]),
    "default": ("images", [*LARGE, "model=convnet", "model.net.stem_stride=4", "augment=xray"]),
    "slice RNN": ("series", ["data=table", "data.unit=series", "model=rnn", "augment=ct",
                             "data.reader.size=[128,128]", "data.batch_size=8"]),
    "DCGAN": ("images", [*FOLDER, "model=dcgan_classic", "augment=none", "judge=default",
                         "monitor=val/gate_score", "trainer.gradient_clip_val=null",
                         "data.reader.size=[64,64]", "data.batch_size=64"]),
    "tiny": ("images", [*FOLDER, "model=convnet", "model.net.widths=[4]", "augment=none",
                        "data.reader.size=[16,16]", "threads=1"]),
}  # fmt: skip
CHANNELS = {"article, 1 channel": 1, "article, 3 channels": 3}
PEERS = {
    "Keras script": ("MEDVISION_KERAS", ["article.py"]),
    "Lightning + torchvision": ("", ["plain_lightning.py", "torchvision"]),
    "Lightning + MONAI cache": ("MEDVISION_MONAI", ["plain_lightning.py", "monai"]),
}
Record = dict[str, Any]


class Bench:
    """Drawn files, runs and results in one folder."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder).resolve()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.count = 0

    def draw(self, kind: str, *sizes: int) -> Path:
        place = self.folder / "-".join([kind, *map(str, sizes)])
        run([sys.executable, str(HERE / "draw_files.py"), kind, str(place), *map(str, sizes)])
        return place

    def source(self, kind: str) -> str:
        if kind == "images":
            return f"data.source.input={self.draw('images', 2000, 512)}"
        return f"data.source.input={self.draw('series', 64, 32, 128) / 'table.csv'}"

    def train(self, words: list[str], epochs: int, fresh: bool = False) -> tuple[Ran, Record]:
        """Run `medvision train`; `fresh` decodes every file anew. Return the moments beside it."""
        self.count += 1
        clock = self.folder / f"clock-{os.getpid()}-{self.count}.jsonl"
        cache = self.folder / (f"cache-{clock.stem}" if fresh else "cache")
        ran = run(
            [*TRAIN, *words, *ALWAYS, f"trainer.max_epochs={epochs}", f"name={clock.stem}",
             "+callbacks.clock._target_=clock.Clock", f"+callbacks.clock.path={clock}"],
            self.places(cache),
        )  # fmt: skip
        moments = [json.loads(line) for line in clock.read_text().splitlines()]
        first = next(at for name, at in moments if name == "first step")
        epochs_at = [at for name, at in moments if name == "epoch"]
        validated = [at for name, at in moments if name == "validation"]
        return ran, {
            "to_first_step": first - ran.started,
            "cold": epochs_at[1] - ran.started,
            "epoch": epochs_at[2] - epochs_at[1] if epochs > 1 else None,
            "stepping": validated[-1] - epochs_at[-2],
            "fitted": epochs_at[-1] - epochs_at[0],
            "peak_mb": ran.peak_mb,
        }

    def ceiling(self, words: list[str]) -> Record:
        command = [sys.executable, str(HERE / "ceiling.py"), str(STEPS)]
        ran = run([*command, *words, *ALWAYS], self.places(self.folder / "cache"))
        return last_line(ran) | {"peak_mb": ran.peak_mb}

    def peer(self, name: str, channels: int, part: str = "") -> Record | None:
        variable, (script, *more) = PEERS[name]
        python = os.environ.get(variable) if variable else sys.executable
        if not python:
            return None
        folder = str(self.draw("images", 2000, 512))
        command = [python, str(HERE / "peers" / script), *more, folder, str(channels)]
        ran = run([*command, str(WARM), str(STEPS), *([part] if part else [])])
        return last_line(ran) | {"peak_mb": ran.peak_mb}

    def places(self, cache: Path) -> dict[str, str]:
        path = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
        return {"MEDVISION_CACHE": str(cache), "MEDVISION_RUNS": str(self.folder / "runs"),
                "MEDVISION_KEY": str(self.folder / "key"), "PYTHONPATH": path}  # fmt: skip

    def keep(self, part: str, records: list[Record]) -> None:
        path = self.folder / "results.json"
        results = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps(results | {part: records}, indent=1))


def last_line(ran: Ran) -> Record:
    told: Record = json.loads(ran.output.strip().splitlines()[-1])
    return told


def bench_nets(bench: Bench) -> Iterator[Record]:
    """Each net: medvision from a cold store, its ceiling, and peers where the net is theirs too."""
    for _ in range(ROUNDS):
        for name, (kind, words) in NETS.items():
            words = [*words, bench.source(kind)]
            _, ours = bench.train(words, 2, fresh=True)
            record = {"net": name, "ours": ours, "ceiling": bench.ceiling(words)}
            if channels := CHANNELS.get(name):
                peers = {who: bench.peer(who, channels) for who in PEERS}
                record["peers"] = {who: told for who, told in peers.items() if told}
            yield record


def bench_data(bench: Bench) -> Iterator[Record]:
    """The article's augmentation at 224², no net behind it."""
    for _ in range(ROUNDS):
        for name, channels in CHANNELS.items():
            kind, words = NETS[name]
            ours = bench.ceiling([*words, bench.source(kind)])
            yield {
                "who": "medvision",
                "channels": channels,
                "rate": ours["batch_size"] / ours["batch"],
            }
            for name in PEERS:
                if told := bench.peer(name, channels, "data"):
                    yield {"who": name, "channels": channels, **told}


def bench_start(bench: Bench) -> Iterator[Record]:
    """Seconds to help, to the first step of a prepared set, and of importing Lightning alone."""
    words = [*NETS["tiny"][1], bench.source("images")]
    bench.train(words, 1)
    for _ in range(max(ROUNDS, 5)):
        imported = run([sys.executable, "-c", "import pytorch_lightning"])
        helped = run([sys.executable, "-m", "medvision", "--help"])
        _, ours = bench.train(words, 1)
        yield {"import": imported.seconds, "help": helped.seconds, "first": ours["to_first_step"]}


def bench_sweep(bench: Bench) -> Iterator[Record]:
    """Twenty cells of one epoch: what a cell costs beside its training."""
    words = [*NETS["tiny"][1], bench.source("images"), *ALWAYS, "trainer.max_epochs=1"]
    bench.train(words, 1)
    seeds = ",".join(map(str, range(20)))
    clock = bench.folder / f"clock-sweep-{os.getpid()}.jsonl"
    ran = run(
        [*TRAIN, "-m", *words, f"seed={seeds}", f"name=sweep-{time.time_ns()}",
         "+callbacks.clock._target_=clock.Clock", f"+callbacks.clock.path={clock}"],
        bench.places(bench.folder / "cache"),
    )  # fmt: skip
    moments = [json.loads(line)[1] for line in clock.read_text().splitlines()
               if line.startswith('["epoch"')]  # fmt: skip
    fitted = sum(end - start for start, end in zip(moments[::2], moments[1::2], strict=True))
    yield {"cells": len(moments) // 2, "seconds": ran.seconds, "fitted": fitted}


def bench_growth(bench: Bench) -> Iterator[Record]:
    """The same small net on more images, larger ones, and longer series."""
    small = ["model=convnet", "model.net.widths=[8]", "model.net.stem_stride=4"]
    for count, side in ((500, 128), (2000, 128), (8000, 128), (2000, 256)):
        words = [*FOLDER, *small, "augment=xray", f"data.reader.size=[{side},{side}]",
                 f"data.source.input={bench.draw('images', count, side)}"]  # fmt: skip
        yield {"images": count, "side": side, **bench.train(words, 3, fresh=True)[1]}
    for slices in (16, 64):
        table = bench.draw("series", 48, slices, 96) / "table.csv"
        words = ["data=table", "data.unit=series", "model=mean_pool", "augment=ct",
                 "model.net.encoder.widths=[8]", "data.reader.size=[96,96]", "data.batch_size=8",
                 f"data.source.input={table}"]  # fmt: skip
        yield {"series": 48, "slices": slices, **bench.train(words, 3, fresh=True)[1]}


PARTS: dict[str, Callable[[Bench], Iterator[Record]]] = {
    "start": bench_start, "sweep": bench_sweep, "growth": bench_growth, "data": bench_data,
    "nets": bench_nets,
}  # fmt: skip


def main(folder: str, *parts: str) -> None:
    bench = Bench(folder)
    for part in parts or PARTS:
        records = []
        for record in PARTS[part](bench):
            records.append(record)
            print(part, json.dumps(record), flush=True)
            bench.keep(part, records)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(*sys.argv[1:])
