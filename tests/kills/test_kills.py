"""Whatever is killed at whatever write and started again is as if nothing had happened.

Each case runs a command undisturbed and again from what a kill at a write leaves: the same bits in
the end, and nothing left behind. `server.py` says what a write is.

The quick part kills at a few writes of the commands that take little time, and at one of one of the
others, all drawn by the digest of the code, so that each change of it meets others. The slow part
runs a command once, copies its folder before each write, and starts from each copy. Writes are
alike that do the same, asked for by one line of medvision, to a file of one kind; so are those that
find a temporary file empty. Of those that are alike it takes the first, the middle and the last; of
those inside the folders of a search or a sweep, where each run is a training, the middle one.
"""

import csv
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from medvision import files
from medvision.provenance import describe_code

READER = ("data.reader.size=[32,32]", "data.reader.window=[-100,200]")
SMALL = ("data=manifest", *READER, "data.batch_size=16", "data.workers=1", "threads=1")
STOPS = ("keep=best", "callbacks.early_stopping.patience=1",
         "+callbacks.early_stopping.min_delta=2")  # fmt: skip
CNN = ("model.net.widths=[4,8]", "trainer.max_epochs=4", *STOPS, "callbacks=ema", "model.mixup=0.4",
       "data.balance=true")  # fmt: skip
SHORT = ("model.net.widths=[4,8]", "trainer.max_epochs=2", "trainer.limit_train_batches=2")
# Of its few val patients none stops it, and the last epoch is kept.
RNN = ("model=rnn", "data.unit=series", "trainer.max_epochs=3",
       "data.sequence.drop=0.3", "data.sequence.crop=2")  # fmt: skip
GAN = (
    "experiment=dcgan_phantom", *SMALL, "data.balance=true", "data.epoch_size=256",
    "data.batch_size=64", "model.kimg=1.024", "model.generator.width=4", "model.critic.width=4",
    "model.generator.latent=8", "data.shares.train=0.6", "data.shares.val=0.3",
    "data.shares.test=0.1", "judge.grace=0", "judge.patience=2",
)  # fmt: skip
SEARCH = ("model.optimizer.lr=tag(log,interval(1e-4,1e-2))", "trials=2", "test=false",
          "pruner.n_startup_trials=1", "pruner.n_warmup_steps=0")  # fmt: skip
PHANTOMS = {"phantom": ("patients=24", "slices=2", "difficulty=0"),
            "crowd": ("patients=40", "slices=10", "difficulty=0")}  # fmt: skip
# Facts of a run that tell of its process and of the clock.
CLOCK = ("started", "finished", "seconds", "resumed", "test_openings", "checkpoints", "mac",
         "peak_memory_mb")  # fmt: skip
DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


@dataclass(frozen=True)
class Places:
    """Where a case works: all in `work` is emptied before each start, `fixed` stays."""

    work: Path
    fixed: Path

    @property
    def phantom(self) -> Path:
        return self.fixed / "phantom" / "manifest.csv"

    @property
    def crowd(self) -> Path:
        return self.fixed / "crowd" / "manifest.csv"


class Server:
    """A process that forks commands; see `server.py`."""

    def __init__(self, places: Places) -> None:
        self.places = places
        env = os.environ | {
            "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "",
            "MEDVISION_KEY": str(places.fixed / "key"),
            "MEDVISION_CACHE": str(places.work / "cache"),
            "MEDVISION_RUNS": str(places.work / "runs"),
        }  # fmt: skip
        script = Path(__file__).with_name("server.py")
        self.process = subprocess.Popen(
            [sys.executable, str(script), str(places.work)], env=env, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def run(
        self, words: Sequence[str], kill: int | None = None, copies: Path | None = None
    ) -> tuple[int, int]:
        """Return the exit status, or the signal below 0, and how many writes there were."""
        log = str(self.places.fixed / "log")
        order = {"words": words, "kill": kill, "copies": copies and str(copies), "log": log}
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        return answer["status"], answer["writes"]

    @property
    def output(self) -> str:
        return (self.places.fixed / "log.out").read_text()

    @property
    def writes(self) -> list[str]:
        return (self.places.fixed / "log.writes").read_text().splitlines()


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Server]:
    """A server without work as yet."""
    top = tmp_path_factory.mktemp("kills")
    places = Places(top / "work", top / "fixed")
    for folder in (places.work, places.fixed):
        folder.mkdir()
    started = Server(places)
    yield started
    assert started.process.stdin is not None
    started.process.stdin.close()
    assert started.process.wait(timeout=60) == 0


@dataclass(frozen=True)
class Case:
    """A command that is killed.

    Attributes:
        words: of it; `{}` are places.
        before: the command whose outcome it starts from.
        quick: at how many of its writes the quick part kills.
        several: it trains several runs.
    """

    words: tuple[str, ...]
    before: tuple[str, ...] = ()
    quick: int = 0
    several: bool = False


def train(*words: str, name: str = "n", data: str = "phantom") -> tuple[str, ...]:
    return ("train", *words, f"data.manifest={{{data}}}", f"name={name}")


DONE = train(*SMALL, *SHORT)
CASES = {
    "cnn": Case(train(*SMALL, *CNN), quick=1),
    "rnn": Case(train(*SMALL, *RNN)),
    "gan": Case(train(*GAN, data="crowd")),
    "tune": Case(("tune", *train(*SMALL, *SHORT)[1:], *SEARCH), several=True),
    "sweep": Case((*train(*SMALL, *SHORT, "test=false"), "-m", "seed=0,1"), several=True),
    "prepare": Case(("prepare", "source=phantom", "output={work}/made", "patients=4", "slices=2",
                     "size=32"), quick=1),
    "evaluate": Case(("evaluate", "run=n"), before=DONE, quick=1),
    "validate": Case(("evaluate", "run=n", "data.manifest={crowd}", "allow_overlap=true"),
                     before=DONE),
    "generate": Case(("generate", "run=n", "per_class=2", "allow_ungated=true"),
                     before=train(*GAN, data="crowd")),
    "report": Case(("report", "run=n"), before=DONE, quick=1),
    "predict": Case(("predict", "run=n", "input={fixed}/phantom", "output={work}/said.csv",
                     "on_foreign=warn"), before=DONE, quick=1),
}  # fmt: skip


def fill_in(words: Sequence[str], places: Places) -> list[str]:
    named = {"work": places.work, "fixed": places.fixed, "phantom": places.phantom,
             "crowd": places.crowd}  # fmt: skip
    return [re.sub(r"\{(\w+)\}", lambda found: str(named[found[1]]), word) for word in words]


def make_phantoms(server: Server, words: Sequence[str]) -> None:
    """Make what a command is to read, once."""
    for name, how in PHANTOMS.items():
        output = server.places.fixed / name
        if not output.exists() and any(f"{{{name}}}" in word for word in words):
            made = server.run(["prepare", "source=phantom", "size=32", f"output={output}", *how])
            assert made[0] == 0, server.output


def begin(server: Server, before: tuple[str, ...]) -> Path:
    """Return a copy of what a command leaves, made once."""
    start = server.places.fixed / f"start-{files.digest(*before)[:8]}"
    if not start.exists():
        shutil.rmtree(server.places.work)
        server.places.work.mkdir()
        if before:
            make_phantoms(server, before)
            assert server.run(fill_in(before, server.places))[0] == 0, server.output
        shutil.copytree(server.places.work, start)
    return start


def reset(places: Places, start: Path) -> None:
    shutil.rmtree(places.work)
    shutil.copytree(start, places.work)


def choose(case: Case, writes: Sequence[str]) -> list[int]:
    """Number the writes that stand for all."""
    alike: dict[str, list[int]] = {}
    for number, line in enumerate(writes, 1):
        inside = "inside " if case.several and re.search(r"/runs/n/[^/.][^/]*/", line) else ""
        alike.setdefault(inside + kind(line), []).append(number)
    return sorted({n for name, same in alike.items() for n in stand_for(name, same)})


def stand_for(name: str, same: Sequence[int]) -> set[int]:
    """Choose from writes that are alike."""
    middle = same[len(same) // 2]
    return {middle} if name.startswith("inside") else {same[0], middle, same[-1]}


def kind(line: str) -> str:
    """Name what a write does, where in medvision, to which kind of file."""
    _, event, caller, path = line.split(" ", 3)
    name = path.rpartition("/")[2]
    if event == "reopen" and ".aside" in name:
        return f"{event} {Path(name).suffix}"
    own = re.sub(r"[0-9a-f]{8,}|[0-9]+", "#", name)
    return f"{event} {caller} {own if caller == '-' else Path(name).suffix}"


def kill_at(server: Server, case: Case, number: int) -> None:
    """Leave what a kill at a write leaves."""
    reset(server.places, begin(server, case.before))
    killed, _ = server.run(fill_in(case.words, server.places), kill=number)
    assert killed in (-signal.SIGKILL, 0), server.output  # a thread's writes may be some fewer


def restart(server: Server, case: Case, whole: dict[str, Any]) -> list[str]:
    """Start again; tell what differs from what was undisturbed."""
    status, _ = server.run(fill_in(case.words, server.places))
    if status:
        return [f"exit {status}: {server.output[-300:]}"]
    return [*compare(read_all(server.places.work), whole)]


def run_undisturbed(
    server: Server, case: Case, copies: Path | None = None
) -> tuple[list[str], dict[str, Any]]:
    """Return the writes of a command, and what it leaves."""
    reset(server.places, begin(server, case.before))
    make_phantoms(server, case.words)
    status, _ = server.run(fill_in(case.words, server.places), copies=copies)
    assert status == 0, server.output
    return server.writes, read_all(server.places.work)


def compare(one: dict[str, Any], other: dict[str, Any]) -> Iterator[str]:
    for name in sorted({*one, *other}):
        if name not in one or name not in other:
            yield f"{'left behind' if name in one else 'missing'}: {name}"
        elif one[name] != other[name]:
            yield f"differs: {name}: {describe(one[name], other[name])}"


def describe(one: Any, other: Any) -> str:
    """Show the first thing in which two contents differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        key = next(k for k in {**one, **other} if one.get(k) != other.get(k))
        return f"{key}: {one.get(key)!r:.300} is not {other.get(key)!r:.300}"
    return f"{one!r:.300} is not {other!r:.300}"


def read_all(top: Path) -> dict[str, Any]:
    """Read what a command has left, without the clock: name of each file → what it holds."""
    held: dict[str, Any] = {}
    for path in sorted(p for p in top.rglob("*") if p.is_file() and p.suffix != ".lock"):
        name = path.relative_to(top).as_posix()
        if "events.out.tfevents" in name:
            held[f"{path.parent.relative_to(top)}/curves"] = read_board(path.parent)
        else:
            held[name] = read_one(path)
    return held


def read_one(path: Path) -> Any:
    if path.name.startswith("."):
        return "hidden"
    match path.name:
        case "record.json":
            return read_record(json.loads(path.read_text()))
        case "history.csv":
            return pd.read_csv(path, dtype=str).drop(columns="seconds").to_dict("records")
        case "study.log":
            return read_study(path)
        case "report.html" | "report.md":
            return len(re.findall("<img", path.read_text()))
    if path.suffix == ".ckpt":
        weights = torch.load(path, weights_only=True)
        return weights["epoch"], files.digest(
            *(f"{key}{value.tolist()}" for key, value in sorted(weights["state_dict"].items()))
        )
    if path.suffix in (".csv", ".json"):
        return DATE.sub("", path.read_text())
    return files.digest_file(path)


def read_record(record: dict[str, Any]) -> dict[str, Any]:
    """Read what no clock decides; the history, whose digest one does, is compared itself."""
    digests = {k: v for k, v in record.get("digests", {}).items() if k != "history.csv"}
    facts = {key: value for key, value in record.items() if key not in CLOCK}
    return facts | {"looks": len(record.get("test_openings", [])), "digests": digests}


def read_board(folder: Path) -> dict[str, Any]:
    """Read what TensorBoard shows: the steps of everything, and the points of every curve."""
    from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    board = EventAccumulator(str(folder), {"tensors": 0})
    board.Reload()
    return {tag: [(event.step, show_floats(make_ndarray(event.tensor_proto)))
                  for event in board.Tensors(tag)] for tag in board.Tags()["tensors"]}  # fmt: skip


def show_floats(array: np.ndarray) -> str:
    return str(array.tolist()) if array.dtype.kind == "f" else ""


def read_study(path: Path) -> list[Any]:
    """Read the trials that ended; a killed one lives on in another."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    backend = optuna.storages.journal.JournalFileBackend(str(path))
    study = optuna.load_study(
        study_name=path.parent.name, storage=optuna.storages.JournalStorage(backend)
    )
    return [
        (trial.params, trial.state.name, trial.value, trial.intermediate_values)
        for trial in study.trials if trial.state.name != "FAIL"
    ]  # fmt: skip


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.quick])
def test_killed_at_some_writes(name, server):
    kill_at_some(server, name)


def test_killed_at_a_write_of_a_longer_command(server):
    kill_at_some(server, draw("").choice([n for n, case in CASES.items() if not case.quick]))


def kill_at_some(server: Server, name: str) -> None:
    """Kill a command at writes that are drawn, and start it again."""
    case = CASES[name]
    writes, whole = run_undisturbed(server, case)
    for number in sorted(draw(name).sample(range(1, len(writes) + 1), case.quick or 1)):
        kill_at(server, case, number)
        print(name, last := server.writes[-1])
        assert restart(server, case, whole) == [], last


def draw(name: str) -> random.Random:
    """Draw by the code and a command."""
    return random.Random(describe_code()["digest"] + name)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", CASES)
def test_killed_at_every_write(name, server, tmp_path):
    started, case = time.monotonic(), CASES[name]
    writes, whole = run_undisturbed(server, case, tmp_path)
    chosen, wrong = choose(case, writes), {}
    for number in chosen:
        shutil.rmtree(server.places.work)
        (tmp_path / str(number)).rename(server.places.work)
        told = restart(server, case, whole)
        print(writes[number - 1], *(told or ["the same"]), flush=True)
        if told:
            wrong[writes[number - 1]] = told
    shutil.rmtree(tmp_path)  # of a search, a gigabyte
    write_row(name, len(writes), len(chosen), len(wrong), round(time.monotonic() - started))
    assert not wrong


def write_row(*cells: object) -> None:
    """Add a row to the table that `KILLS_TABLE` names, if it names one."""
    if table := os.environ.get("KILLS_TABLE"):
        with Path(table).open("a", newline="") as stream:
            csv.writer(stream).writerow(cells)
