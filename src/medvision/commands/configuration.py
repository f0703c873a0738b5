"""Hydra's side of a command: where conf/ lies, words that need quoting, errors in one sentence."""

import traceback
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from medvision.errors import MedvisionError

LOWER_IS_BETTER = ("loss", "brier", "ece")
FREE_MAPPINGS = ("data.columns.", "data.rename.", "data.source.")


def conf_folder() -> Path:
    """Find `conf/`: inside an installed package, or beside `src` in a checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "conf"
    return installed if installed.is_dir() else package.parents[1] / "conf"


def direction(monitor: str) -> str:
    """Tell whether a monitored metric is better when lower (`min`) or higher (`max`)."""
    return "min" if monitor.rpartition("/")[2] in LOWER_IS_BETTER else "max"


def quote(word: str) -> str:
    """Quote a value that Hydra's grammar refuses or takes apart, so that any path works as typed.

    Keys of free mappings (`data.columns.…`) may be new, which Hydra writes as `++`.
    """
    key, equals, value = word.partition("=")
    if word.startswith("-") or not equals:
        return word
    if key.startswith(FREE_MAPPINGS):
        key = "++" + key
    try:
        parsed = OverridesParser.create().parse_override(f"{key}={value}")
        is_path = parsed.is_sweep_override() and Path(value).exists()
    except HydraException:
        is_path = True
    if not is_path:
        return f"{key}={value}"
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"{key}='{escaped}'"


def explain(error: BaseException) -> str:
    """Say in one sentence what went wrong; a fault of ours keeps its type and place."""
    if isinstance(error, MedvisionError):
        return str(error)
    if isinstance(error, HydraException | OmegaConfBaseException):
        return explain_config(error)
    where = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno})"


def explain_config(error: BaseException) -> str:
    """Turn Hydra's words about an override into one sentence with the way out."""
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    cause = error.__cause__
    detail = next((line.strip() for line in str(cause or "").splitlines() if line.strip()), "")
    words = first.rstrip(".") + (f" ({detail.rstrip('.')})" if detail and detail != first else "")
    return f"{words}; see the keys with: medvision train --cfg job"
