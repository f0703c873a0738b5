"""What a run says of itself, in sentences: templates over its files, and facts of its record."""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from jinja2 import BytecodeCache, DictLoader, Environment, StrictUndefined, TemplateError
from jinja2.bccache import Bucket

from medvision.errors import MedvisionError
from medvision.evaluation.covariates import title_of
from medvision.evaluation.evaluator import Evaluator
from medvision.evaluation.report.page import read_sentences
from medvision.evaluation.report.participants import describe_participants
from medvision.evaluation.report.run_files import RunFiles
from medvision.evaluation.report.table import show_interval, show_score, show_seconds

_SHOWN_ELSEWHERE = {
    "command",
    "status",
    "reason",
    "error",
    "test_openings",
    "patient_rule",
    "stamps",
}


class Sentences:
    """The sentences of a run, each a template of `templates/*.toml` or of its task.

    A template knows `run`, `get(path)` of it and its `flow`. It writes plain text, which the page
    escapes; a text of the user fills one line at most.
    """

    def __init__(self, run: RunFiles) -> None:
        self.templates = _templates(run.evaluator)
        self.run, self.flow = run, describe_participants(run)

    def lines(self, name: str) -> list[str]:
        """Return what a template says, a sentence each; none where the run does not say.

        Raises:
            MedvisionError: a file of the run holds something else than the template asks for.
        """
        template = self.templates.get_template(name)
        try:
            text = template.render(run=self.run, get=self.run.get, flow=self.flow)
        except (
            TemplateError,
            ArithmeticError,
            AttributeError,
            LookupError,
            TypeError,
            ValueError,
        ) as error:
            raise MedvisionError(
                f"{self.run.folder}: the sentence {name!r} of the report cannot be written "
                f"({error}); check the files of the run"
            ) from error
        return [" ".join(line.split()) for line in text.splitlines() if line.strip()]

    def text(self, name: str) -> str:
        """Return what a template says, all its sentences in one."""
        return " ".join(self.lines(name))


class _Compiled(BytecodeCache):
    """Compiles a sentence once a process: a sweep writes a page a job."""

    codes: ClassVar[dict[tuple[str, str], Any]] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        bucket.code = self.codes.get((bucket.key, bucket.checksum))

    def dump_bytecode(self, bucket: Bucket) -> None:
        self.codes[bucket.key, bucket.checksum] = bucket.code


def _templates(evaluator: Evaluator) -> Environment:
    """Return the sentences of all runs, and what a task says in their place."""
    texts: dict[str, str] = {}
    for form in ("checklist.toml", "summary.toml"):
        texts |= read_sentences(form)
    texts |= evaluator.sentences()
    templates = Environment(
        loader=DictLoader(texts), undefined=StrictUndefined, finalize=_in_one_line,
        bytecode_cache=_Compiled(),
    )  # fmt: skip
    templates.tests["list"] = lambda value: isinstance(value, list)
    templates.filters |= {
        "score": show_score, "interval": show_interval, "spoken": _speak_score,
        "label": evaluator.label,
        "seconds": lambda value: show_seconds(float(value)), "text": as_text, "plain": plain,
        "active": lambda part: {key: value for key, value in plain(part).items() if value},
        "class_name": _name_class, "covariate": title_of, "counted": count,
    }  # fmt: skip
    return templates


def _in_one_line(value: Any) -> Any:
    return " ".join(value.splitlines()) if isinstance(value, str) else value


def _speak_score(score: Mapping[str, Any]) -> str:
    """Write a score and its interval as prose does."""
    value, _, between = show_interval(score).partition(" (")
    return f"{value} (95 % CI {between}" if score.get("low") is not None else value


def as_text(value: Any) -> str:
    """Write a value of the record; long lists are counted."""
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {as_text(v)}" for k, v in value.items())
    if isinstance(value, list):
        return f"{len(value)} entries" if len(value) > 8 else ", ".join(map(as_text, value))
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def plain(part: Any) -> dict[str, Any]:
    """Return the settings of a part without what builds it."""
    held = part if isinstance(part, Mapping) else {}
    return {str(k): v for k, v in held.items() if not str(k).startswith("_") and v is not None}


def _name_class(part: Mapping[str, Any]) -> str:
    """Return the name of the class that a part of the configuration builds."""
    return str(part.get("_target_") or "").rpartition(".")[2]


def count(numbers: Mapping[str, int], without: str = "") -> list[str]:
    """Write each number with what it counts."""
    return [f"{number} {name}" for name, number in numbers.items() if name != without]


def describe_facts(record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Name and value of what else the record holds; long lists, such as digests, are counted."""
    for key, value in record.items():
        if key not in _SHOWN_ELSEWHERE and value not in (None, "", [], {}):
            yield _describe_fact(key, value)


def _describe_fact(key: str, value: Any) -> tuple[str, str]:
    if key == "seconds":
        return "wall time", show_seconds(float(value))
    if key.endswith("_mb"):
        return key.removesuffix("_mb").replace("_", " "), f"{value} MB"
    return key.replace("_", " "), as_text(value)
