"""`medvision tune`: Optuna searches an experiment's space; each trial is an ordinary run folder."""

import inspect
import shlex
import warnings
from collections.abc import Sequence
from pydoc import locate
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from optuna.trial import TrialState

import medvision.files as files
from medvision.devices import takes_several
from medvision.errors import MedvisionError
from medvision.evaluation.report.table import UNDEFINED, show_score
from medvision.runs import find_runs, name_folder, run_key
from medvision.tasks import find_task
from medvision.training.config import (
    REPEATS,
    own_direction,
    part_flags,
    quote,
    register_resolvers,
)
from medvision.training.explain import explain
from medvision.training.search.space import Space, corners, part_sweeps, read_space, write_words
from medvision.training.search.trials import (
    Search,
    build,
    compose,
    count_trials,
    open_study,
    resumed,
    run_trials,
)

try:
    import optuna
except ImportError as error:
    raise MedvisionError(
        "medvision tune needs Optuna; add it with: pip install 'medvision[tune]'"
    ) from error


def launch(words: Sequence[str]) -> int:
    """Search the space of an experiment on the val part; its test part stays closed.

    experiment=NAME     its file says what to search, under hydra.sweeper.params
    trials=50           in all, of every process; the same command goes on where it was
    timeout=MINUTES     begin no further trial after so long
    sampler.…, pruner.… of Optuna: conf/tune.yaml; pruner=null trains every trial to its end
    KEY=VALUE           any key of medvision train, fixed
    KEY=SPACE           "interval(0,0.5)"  "tag(log,interval(1e-4,1e-2))"  "int(interval(1,4))"
                        "range(8,65,8)"  a,b  "choice([16,32],[32,64])"

    Start it several times, on several machines that share the runs folder, and they share the work.
    """
    register_resolvers()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    try:
        search = plan(words)
    except (HydraException, OmegaConfBaseException) as error:
        raise MedvisionError(explain(error, words)) from error
    study = open_study(search)
    run_trials(search, study)
    _print_search(search, study)
    return 0


def plan(words: Sequence[str]) -> Search:
    """Read the command and refuse what no trial could do, before there is a study.

    Raises:
        MedvisionError: a mistake in the words, the space, the configuration or the data.
        HydraException: words that do not compose.
    """
    flags, overrides = part_flags(words)
    unknown = [f for f in flags if f.startswith("-") and f not in ("--config-dir", "-cd")]
    if unknown:
        raise MedvisionError(f"medvision tune has no flag {unknown[0]}; see medvision tune --help")
    settings, rest = read_settings(overrides)
    fixed, swept = part_sweeps(rest)
    _check_words(fixed)
    fixed = [*(word for word in fixed if _key_of(word) != "test"), "test=false"]
    fixed, swept, config = _join_experiment(flags, fixed, swept)
    _check_keys(swept)
    space = read_space(swept)
    # Resolved at once: names follow from the choices of what was composed last.
    plain: Any = OmegaConf.to_container(config, resolve=True)
    if takes_several(config):
        raise MedvisionError(
            f"trainer.devices={config.trainer.devices}: a trial takes one device; "
            "start the same command once for each device instead"
        )
    base = run_key([], plain, _check_points(flags, fixed, space))
    folder = name_folder(plain["name"])
    monitor = str(plain["monitor"])
    better = own_direction(monitor, plain["model"]["_target_"])
    return Search(flags, fixed, swept, space, monitor, better, base, folder, settings)


def _key_of(word: str) -> str:
    """Return the key of a word, or the key itself, without Hydra's signs for a new one."""
    return word.partition("=")[0].lstrip("+")


def _join_experiment(
    flags: list[str], fixed: list[str], swept: dict[str, str]
) -> tuple[list[str], dict[str, str], DictConfig]:
    """Put what the experiment searches before what the command gives, which replaces it.

    Returns:
        the words every trial has, the space, and the configuration without the space.
    """
    config = compose(flags, fixed)
    filed = HydraConfig.get().sweeper.get("params") or {}
    said = {_key_of(word) for word in (*fixed, *swept)}
    more, spaces = part_sweeps([
        f"{key}={text}" for key, text in filed.items() if _key_of(str(key)) not in said
    ])  # fmt: skip
    if more:
        fixed = [*more, *fixed]
        config = compose(flags, fixed)
    return fixed, spaces | swept, config


def read_settings(words: Sequence[str]) -> tuple[DictConfig, list[str]]:
    """Part the words of `conf/tune.yaml` from those of training.

    A new `_target_` keeps the settings that it takes.
    """
    settings = OmegaConf.load(files.conf_folder() / "tune.yaml")
    assert isinstance(settings, DictConfig)
    rest = []
    for word in words:
        key, _, text = word.lstrip("+").partition("=")
        if key.partition(".")[0] not in settings:
            rest.append(word)
            continue
        override = OverridesParser.create().parse_override(quote(f"{key}={text}"))
        if override.is_sweep_override():
            raise MedvisionError(f"{word} is not one value; give {key}= one")
        if key.endswith("._target_"):
            _replace_target(settings, key.partition(".")[0], text)
        OmegaConf.update(settings, key, override.value(), force_add=True)
    if type(settings.trials) is not int or settings.trials < 1:
        raise MedvisionError(f"trials={settings.trials} must be a whole number, 1 or more")
    limit = settings.timeout
    if limit is not None and (type(limit) not in (int, float) or limit <= 0):
        raise MedvisionError(f"timeout={limit} must be a number of minutes above 0, or null")
    build(settings, "sampler", 0)
    build(settings, "pruner", 0)
    return settings, rest


def _replace_target(settings: DictConfig, part: str, target: str) -> None:
    found = locate(target)
    if not callable(found):
        raise MedvisionError(f"{part}._target_={target} cannot be found; see conf/tune.yaml")
    taken = inspect.signature(found).parameters
    settings[part] = {k: v for k, v in (settings[part] or {}).items() if k in taken}


def _check_words(fixed: Sequence[str]) -> None:
    """Refuse what contradicts a search."""
    said = {_key_of(word): word.partition("=")[2].lower() for word in fixed}
    if said.get("test", "false") != "false":
        raise MedvisionError(
            "test=true would open the test part for every trial; leave it out, "
            "and open it once for the best trial with the command that tune prints"
        )
    if said.get("rerun", "false") != "false":
        raise MedvisionError(
            "rerun=true would undo what a search resumes; start a new one with name=…"
        )


def _check_keys(swept: dict[str, str]) -> None:
    """Refuse an empty space, and keys by which trials could not be compared."""
    if not swept:
        raise MedvisionError(
            "there is nothing to search; give the experiment a space under hydra.sweeper.params, "
            "or add one, such as 'model.optimizer.lr=tag(log,interval(1e-4,1e-2))'"
        )
    for key in swept:
        if _key_of(key) in (*REPEATS, "monitor", "test", "rerun", "trainer.devices"):
            raise MedvisionError(
                f"{key} is nothing to search: its trials could not be compared; give it one value"
            )


def _check_points(flags: list[str], fixed: list[str], space: Space) -> list[str]:
    """Compose the corners of the space, set the data up once, and return what a trial reads.

    Returns:
        digests of manifests and weights.
    """
    from medvision.training.job import prepare_job
    from medvision.training.validate import check_settings

    for point in [*corners(space)][::-1]:
        config = compose(flags, [*fixed, *write_words(point)])
        check_settings(config)
    job = prepare_job(config)
    return job.identity()


def _print_search(search: Search, study: optuna.Study) -> None:
    """Print the table of the sweep, the best trial, and what to type to open its test part.

    Raises:
        MedvisionError: no trial was trained to its end, and none is under way.
    """
    from medvision.evaluation.sweep.report import report_sweep

    if files.list_visible(search.folder, "*/record.json"):
        report_sweep(find_runs(search.folder))
    killed = resumed(study)
    states = [t.state for t in study.get_trials(deepcopy=False) if t.number not in killed]
    shown = {"finished": TrialState.COMPLETE, "pruned": TrialState.PRUNED,
             "failed": TrialState.FAIL, "under way elsewhere": TrialState.RUNNING}  # fmt: skip
    counts = ", ".join(f"{states.count(s)} {name}" for name, s in shown.items() if s in states)
    left = search.settings.trials - count_trials(study)
    more = f"; the same command does the {left} left" if left > 0 else ""
    print(f"trials: {counts or 'none'}{more}")
    if TrialState.COMPLETE in states:
        _print_best(search, study.best_trial)
    elif TrialState.FAIL in states or TrialState.PRUNED in states:
        reasons = (t.user_attrs.get("reason") for t in study.trials)
        why = next((f" ({reason})" for reason in reasons if reason), "")
        raise MedvisionError(
            f"no trial was trained to its end{why}; mend that and search again with name=…, "
            "or give more trials="
        )


def _print_best(search: Search, best: optuna.trial.FrozenTrial) -> None:
    """Print the best trial and the command that opens its test part."""
    task = find_task(compose(search.flags, search.words).model._target_)
    values = write_words(best.params)
    score = UNDEFINED if best.value is None else show_score(best.value)
    print(f"best: trial {best.number}, {search.monitor} {score}, {' '.join(values)}")
    words = [word for word in search.words if _key_of(word) != "test"]
    command = ["medvision", "train", *search.flags, *words, *values]
    if not task.predicts:  # it is judged otherwise, and has no test part
        print(f"train it on its own: {shlex.join(command)}")
    else:
        print(f"open its test part, once: {shlex.join([*command, 'test=true'])}")
    fold = next((word for word in words if _key_of(word) == "data.fold"), "=null")
    if not fold.endswith("=null"):
        print(f"note: this search saw {fold} alone; search each fold under a name= of its own and "
              "open each best once: those test scores are the nested ones")  # fmt: skip
