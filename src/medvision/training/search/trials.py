"""The trials of a search: shared by the processes at work, resumed where one was killed.

    runs/<name>/study.log               Optuna's journal
    runs/<name>/.trials/<number>.lock   held while a process trains that trial
    runs/<name>/.trials/study.lock      held while one proposes
    runs/<name>/.trials/journal.lock    held while one writes a line

Whoever shares the folder shares the study. A trial that is said to run and whose lock is free
lost its process: Optuna retries its values first, and its run folder resumes. Locks tell that at
once and without doubt; the heartbeat of Optuna's databases tells it after a while, takes a
suspended process for a lost one, and never retries what Ctrl-C or a full disk ended.
"""

import copy
import math
import os
import shlex
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import optuna
from filelock import FileLock
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, open_dict, read_write
from optuna.storages import RetryHeartbeatStaleTrialCallback
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import TrialState

import medvision.files as files
from medvision.callbacks.pruning import Prune
from medvision.data.manifest.path_map import without_names
from medvision.errors import MedvisionError, Stopped
from medvision.training.config import compose_train
from medvision.training.explain import explain
from medvision.training.search.space import Space, write_words


@dataclass(frozen=True)
class Search:
    """What is searched, and how.

    Attributes:
        flags: Hydra's own (`--config-dir DIR`).
        words: those of every trial, `test=false` among them.
        swept: key → the text of its space.
        better: which way the monitor is.
        base: digest of everything else that decides a result: configuration, data, weights.
        folder: of the study and its runs.
        settings: of `conf/tune.yaml`.
    """

    flags: list[str]
    words: list[str]
    swept: dict[str, str]
    space: Space
    monitor: str
    better: Literal["min", "max"]
    base: str
    folder: Path
    settings: DictConfig

    def lock(self, name: str | int) -> Path:
        return self.folder / ".trials" / f"{name}.lock"


def compose(flags: Sequence[str], words: Sequence[str]) -> DictConfig:
    """Compose one training as Hydra's own app would."""
    whole = compose_train(flags, words)
    HydraConfig.instance().set_config(whole)
    config = copy.deepcopy(whole)
    with read_write(config), open_dict(config):
        del config["hydra"]
    return config


def build(settings: DictConfig, part: str, number: int) -> Any:
    """Build the sampler or the pruner; null is Optuna's default sampler, and no pruning.

    Args:
        settings: of `conf/tune.yaml`.
        part: `sampler` or `pruner`.
        number: of the trial it is for: each draws anew from (seed, number), so that neither
            processes nor a second start repeat what was drawn.
    """
    node = settings[part]
    if node is None:
        return optuna.pruners.NopPruner() if part == "pruner" else None
    seeded = {"seed": node.seed + number} if type(node.get("seed")) is int else {}
    try:
        return instantiate(node, **seeded)
    except InstantiationException as error:
        reason = str(error.__cause__ or error).splitlines()[0]
        raise MedvisionError(f"{part} cannot be built: {reason}; see conf/tune.yaml") from error


def open_study(search: Search) -> optuna.Study:
    """Open the study of the folder, or begin it.

    Raises:
        MedvisionError: the folder holds another search.
    """
    place = search.folder / "study.log"
    facts = {"monitor": search.monitor, "space": search.swept, "base": search.base,
             "words": search.words}  # fmt: skip
    with files.locked(search.lock("study")):
        journal = _Journal(place, search.lock("journal"))
        study = optuna.create_study(
            storage=optuna.storages.JournalStorage(journal),
            study_name=search.folder.name,
            direction="minimize" if search.better == "min" else "maximize",
            pruner=build(search.settings, "pruner", 0),
            load_if_exists=True,
        )
        there = study.user_attrs
        differing = [k for k in ("monitor", "space", "base") if there.get(k, facts[k]) != facts[k]]
        if differing:
            apart = _describe_difference(there, search, differing[0])
            raise MedvisionError(
                f"{search.folder} holds another search ({apart}); "
                f"give this one a folder of its own, such as name={search.folder.name}-2"
            )
        for key in facts.keys() - there.keys():
            study.set_user_attr(key, facts[key])
    return study


class _Journal(JournalFileBackend):
    """Optuna's journal, which says in a sentence that it could not be written."""

    def __init__(self, place: Path, lock: Path) -> None:
        super().__init__(str(place), _JournalLock(lock, place))
        self.place = place

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        try:
            super().append_logs(logs)
        except OSError as error:
            raise files.explain_refusal(error, self.place) from error


class _JournalLock(JournalFileOpenLock):
    """Held while a line is written; Optuna's own outlives its process, for half a minute.

    Whoever takes it drops a last line that a full disk or a kill cut off: Optuna would append to it
    and read neither.
    """

    def __init__(self, path: Path, journal: Path) -> None:
        self._lock, self._journal = FileLock(path), journal

    def acquire(self) -> bool:
        self._lock.acquire()
        with self._journal.open("rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, size - 1))
            torn = stream.read(1) not in (b"", b"\n")
        if torn:
            os.truncate(self._journal, self._journal.read_bytes().rfind(b"\n") + 1)
        return True

    def release(self) -> None:
        self._lock.release()


def _describe_difference(there: dict[str, Any], search: Search, what: str) -> str:
    """Say how the search in the folder differs."""
    if what == "monitor":
        return f"of {there['monitor']}, not {search.monitor}"
    if what == "space":
        key = next(k for k in {**there["space"], **search.swept}
                   if there["space"].get(k) != search.swept.get(k))  # fmt: skip
        return f"of {key}={there['space'].get(key, 'one value')}, not " + search.swept.get(
            key, "one value"
        )
    if there["words"] != search.words:
        return f"with the words {shlex.join(there['words'])}"
    return "with the same words, but other files: configuration, data or weights"


def run_trials(search: Search, study: optuna.Study) -> None:
    """Train one trial after the other, until all there should be are done or under way."""
    end = time.monotonic() + 60 * (search.settings.timeout or math.inf)
    exhausted = False
    while not exhausted and time.monotonic() < end:
        with ExitStack() as held:
            with files.locked(search.lock("study")):
                _retire_killed(search, study)
                number = count_trials(study)
                if number >= search.settings.trials:
                    return
                trial = _propose(search, study, number)
                held.enter_context(files.locked(search.lock(trial.number)))
            print(f"trial {trial.number} ({number + 1} of {search.settings.trials}): "
                  f"{' '.join(write_words(trial.params))}", flush=True)  # fmt: skip
            exhausted = _run_trial(search, study, trial)


def _retire_killed(search: Search, study: optuna.Study) -> None:
    """Give up trials whose process is gone; the same values, with what they reported, come next."""
    retry = RetryHeartbeatStaleTrialCallback(inherit_intermediate_values=True)
    retried = resumed(study)
    for trial in study.get_trials(states=[TrialState.RUNNING]):
        if files.is_locked(search.lock(trial.number)):
            continue
        if trial.number not in retried:  # in this order a kill between the two loses nothing
            if trial.params.keys() != search.space.keys():  # killed while they were drawn: anew
                trial.params, trial.distributions = {}, {}
            retry(study, trial)
        _finish_trial(study, trial.number, None, TrialState.FAIL)


def resumed(study: optuna.Study) -> set[int]:
    """Number the trials whose values a later one has taken over."""
    history = RetryHeartbeatStaleTrialCallback.retry_history
    return {number for trial in study.get_trials(deepcopy=False) for number in history(trial)}


def count_trials(study: optuna.Study) -> int:
    """Count what is done or under way; a killed trial counts in the one that resumes it."""
    killed = resumed(study)
    trials = study.get_trials(deepcopy=False)
    return sum(t.state != TrialState.WAITING and t.number not in killed for t in trials)


def _propose(search: Search, study: optuna.Study, number: int) -> optuna.Trial:
    """Draw the values of trial `number`, or take up a killed one."""
    sampler = build(search.settings, "sampler", number)
    study.sampler = sampler or optuna.samplers.TPESampler()
    return study.ask(fixed_distributions=search.space)


def _run_trial(search: Search, study: optuna.Study, trial: optuna.Trial) -> bool:
    """Train one trial and tell the study how it went.

    Returns:
        whether the sampler has nothing left to try.
    """
    from medvision.training.fit import train

    known = set(study.trials[trial.number].intermediate_values)

    def report(value: float, epoch: int) -> None:
        if epoch not in known:
            trial.report(value, epoch)

    words = [*search.words, *write_words(trial.params)]
    value, state, reason = None, TrialState.COMPLETE, ""
    try:
        prune = Prune(search.monitor, report, trial.should_prune)
        value = train(compose(search.flags, words), words, [prune], cell=True)
        if not math.isfinite(value):
            value, state, reason = None, TrialState.FAIL, f"{search.monitor} was not a number"
    except Stopped as error:
        state, reason = TrialState.PRUNED, str(error)
    except Exception as error:
        if files.find_refusal(error) is not None:
            raise  # the next trial would meet the same full disk; this one resumes
        state, reason = TrialState.FAIL, explain(error)
        print(f"medvision: this trial failed: {reason}", file=sys.stderr, flush=True)
    if state is TrialState.PRUNED:
        print(reason, flush=True)
    if reason:
        trial.set_user_attr("reason", without_names(reason)[:2000])
    return _finish_trial(study, trial.number, value, state)


def _finish_trial(study: optuna.Study, number: int, value: float | None, state: TrialState) -> bool:
    """Write down how a trial ended; return whether the sampler has nothing left to try."""
    try:
        study.tell(number, value, state=state)
    except RuntimeError as error:  # how a sampler that enumerates says that it is through
        if "Study.stop" not in str(error):
            raise
        return True
    return False
