"""What a run folder holds, read once for the pages that are made of it."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from omegaconf import OmegaConf

import medvision.files as files
import medvision.trust.integrity as integrity
from medvision.errors import MedvisionError
from medvision.evaluation.covariates import Covariate, find_covariates, read_rows, real_rows
from medvision.evaluation.epochs import find_best_epoch
from medvision.evaluation.evaluator import Evaluator, open_recorded
from medvision.evaluation.figures.gallery import INDEX
from medvision.evaluation.predictions import name_scored
from medvision.evaluation.report.scores import read_scores
from medvision.evaluation.report.table import count_words
from medvision.openings import count_openings

Scores = Mapping[str, Mapping[str, Any]]


class BestEpoch(NamedTuple):
    """The epoch that was kept, and the value it was kept for."""

    epoch: int
    monitor: str
    value: float


@dataclass(frozen=True)
class RunFiles:
    """What a run folder holds; empty where a file is missing.

    `stated` is a prevalence that was asked for, in place of the configuration's.
    """

    folder: Path
    record: Mapping[str, Any]
    audit: Mapping[str, Any]
    metrics: Mapping[str, Any]
    history: pd.DataFrame
    config: str
    classes: Sequence[str]
    card: Mapping[str, Any] = field(default_factory=dict)
    stated: float | None = None

    def get(self, path: str) -> Any:
        """Return what stands at a dotted path; None where there is nothing.

        Args:
            path: its first word is `record`, `audit`, `metrics`, `card` or `config`, such as in
                `config.data.reader.size`.
        """
        file, *names = path.split(".")
        value: Any = self.settings if file == "config" else getattr(self, file)
        for name in names:
            value = value.get(name) if isinstance(value, Mapping) else None
        return value

    @property
    def part(self) -> str:
        """The part the report is about: test, or val where no test part was scored."""
        return "test" if self.metrics.get("test") else "val"

    @cached_property
    def openings(self) -> tuple[int, int]:
        """How often the test part was opened in the runs folder, and over how many settings."""
        return count_openings(self.record)

    @cached_property
    def evaluator(self) -> Evaluator:
        """What knows the run's task."""
        return open_recorded(self.record, self.metrics, self.folder)

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The configuration as plain values."""
        content = OmegaConf.to_container(OmegaConf.create(self.config or "{}"))
        return {str(k): v for k, v in content.items()} if isinstance(content, dict) else {}

    @property
    def prevalence(self) -> float | None:
        """The prevalence at which predictive values are told as well."""
        told = self.get("config.report.prevalence") if self.stated is None else self.stated
        return None if told is None else float(told)

    @property
    def net(self) -> Mapping[str, Any]:
        """The settings of the net or generator."""
        net = self.get("config.model.net") or self.get("config.model.generator")
        return net if isinstance(net, Mapping) else {}

    @property
    def flow(self) -> Mapping[str, Any]:
        """The counts from manifest to parts."""
        flow: Mapping[str, Any] = self.audit.get("flow") or {}
        return flow

    @property
    def unit(self) -> str:
        """What a sample is: images or series."""
        return name_scored(self.metrics)

    @cached_property
    def rows(self) -> pd.DataFrame:
        """The rows of the run's manifest, see `read_rows`; none where it has none."""
        return read_rows(self.folder / "manifest.csv")

    @cached_property
    def real(self) -> pd.DataFrame:
        """The rows of patients."""
        return real_rows(self.rows)

    @cached_property
    def covariates(self) -> list[Covariate]:
        """What the manifest tells of patients beside their labels.

        What a simulation alone knows of them, such as the size of a lesion, no table of patients
        would have.
        """
        hidden = self.get("card.facts.truth") if self.get("card.facts.simulated") else {}
        return list(find_covariates(self.real.drop(columns=[*(hidden or {})], errors="ignore")))

    @property
    def datasets(self) -> dict[str, int]:
        """Name of each data set → number of its patients."""
        held = self.real.groupby("dataset")["patient"].nunique()
        return {str(name): int(number) for name, number in held.items()}

    def words(self, column: str, part: str = "") -> list[str]:
        """Return the different words of a column, "" among them, of all rows or of a part."""
        rows = self.real[self.real["split"] == part] if part else self.real
        return rows[column].unique().tolist() if column in rows else []

    @property
    def scores(self) -> Scores:
        """The scores of the part that the report is about."""
        return read_scores(self.metrics, self.part)

    @property
    def defined(self) -> Scores:
        """Those that have a value."""
        return {k: s for k, s in self.scores.items() if s["value"] is not None}

    @property
    def bounded(self) -> Scores:
        """Those that have an interval."""
        return {k: s for k, s in self.scores.items() if s.get("low") is not None}

    @cached_property
    def evaluations(self) -> dict[str, Any]:
        """Name of each evaluation on other rows → its `metrics.json`."""
        paths = files.list_visible(self.folder / "evaluations", "*/metrics.json")
        return {path.parent.name: _read_evaluation(path.parent) for path in paths}

    @property
    def cases(self) -> Mapping[str, int] | None:
        """Kind of each decision → how many there are; None where no gallery was drawn."""
        path = self.folder / "figures" / "cases" / INDEX
        return dict(files.read_json(path)["counts"]) if path.exists() else None

    @property
    def explained(self) -> bool:
        """Cases were drawn, with what spoke for them."""
        return self.cases is not None or any((self.folder / "figures").glob("case*.png"))

    @property
    def epochs(self) -> int:
        """How many epochs were trained."""
        return int(self.history["epoch"].nunique()) if "epoch" in self.history else 0

    @property
    def best_epoch(self) -> BestEpoch | None:
        """The epoch that was kept; None where nothing tells."""
        monitor = str(self.get("config.monitor") or "")
        epoch = self.record.get("best_epoch")
        if epoch is None:
            epoch = find_best_epoch(self.history, monitor, self.evaluator)
        if epoch is None or monitor not in self.history:
            return None
        values = self.history.loc[self.history["epoch"] == epoch, monitor].dropna()
        return None if values.empty else BestEpoch(epoch, monitor, float(values.iloc[-1]))

    @property
    def kept_for(self) -> str:
        """Why that epoch was kept, as its run wrote it down; "" where it did not."""
        return str(self.record.get("kept_for") or "")

    @property
    def size(self) -> str:
        """What the part was scored on: `624 test images of 310 patients`."""
        counted = count_words(self.get(f"metrics.n.{self.part}"))
        in_words = re.sub(r" (images|series), ", rf" {self.part} \1 of ", counted)
        return in_words or f"the {self.part} part"

    def patients(self, part: str) -> int | None:
        """Return how many patients a part has: as scored, else as served."""
        counted = self.get(f"metrics.n.{part}") or {}
        if "patients" not in counted:
            counted = self.get(f"audit.counts.{part}") or {}
        return counted.get("patients")

    def find(self, key: str) -> list[str]:
        """Return every different text under `key` in audit and record, however deep."""
        return list(dict.fromkeys(_find(key, [self.audit, self.record])))


def check_prevalence(stated: Any) -> None:
    """Refuse what is no share between nobody and all.

    Raises:
        MedvisionError: with what to say.
    """
    if stated is not None and not (isinstance(stated, int | float) and 0 < stated < 1):
        raise MedvisionError(
            f"a prevalence of {stated} is not between 0 and 1; give a share, such as 0.02"
        )


def read_run_files(run: Path, prevalence: float | None = None) -> RunFiles:
    """Read what there is; missing files are empty, and a run made elsewhere is stamped as that.

    Args:
        run: its folder.
        prevalence: at which predictive values are told, in place of the configuration's.

    Raises:
        MedvisionError: a file is there but broken, or is not what it was.
    """
    config = run / "config.yaml"
    metrics = _read_evaluation(run)
    return RunFiles(
        folder=run,
        record=_read(run / "record.json"),
        audit=_read(run / "audit.json"),
        metrics=metrics,
        history=_read_table(run / "history.csv"),
        config=config.read_text(encoding="utf-8") if config.exists() else "",
        classes=_read_classes(run),
        card=_read(run / "card.json"),
        stated=prevalence,
    )


def _read_evaluation(folder: Path) -> dict[str, Any]:
    """Read `metrics.json`, stamped with whose it is; its task is one that may be opened."""
    stamp = integrity.STAMPS.get(integrity.check_files(folder))
    metrics = _read(folder / "metrics.json")
    open_recorded(integrity.read_record(folder), metrics, folder)
    if stamp and metrics:
        metrics["stamps"] = [stamp, *metrics.get("stamps", ())]
    return metrics


def _read(path: Path) -> dict[str, Any]:
    return dict(files.read_json(path)) if path.exists() else {}


def _read_table(path: Path) -> pd.DataFrame:
    return pd.read_csv(path) if path.exists() and path.stat().st_size else pd.DataFrame()


def _read_classes(run: Path) -> list[str]:
    """Return the classes in order, as the predictions name their columns."""
    for part in ("test", "val"):
        if (path := run / "predictions" / f"{part}.csv").exists():
            columns = pd.read_csv(path, nrows=0).columns
            return [c.removeprefix("prob_") for c in columns if c.startswith("prob_")]
    return []


def _find(key: str, places: Sequence[Any]) -> Iterator[str]:
    for place in places:
        if isinstance(place, Mapping):
            if isinstance(place.get(key), str):
                yield place[key]
            yield from _find(key, list(place.values()))
        elif isinstance(place, list):
            yield from _find(key, place)
