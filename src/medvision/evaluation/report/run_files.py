"""What a run folder holds, read once for the pages that are made of it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import OmegaConf

import medvision.files as files
from medvision.evaluation.covariates import read_rows
from medvision.evaluation.evaluator import Evaluator, name_task, open_evaluator, target_of


@dataclass(frozen=True)
class RunFiles:
    """What a run folder holds; empty where a file is missing."""

    folder: Path
    record: Mapping[str, Any]
    audit: Mapping[str, Any]
    metrics: Mapping[str, Any]
    history: pd.DataFrame
    config: str
    classes: Sequence[str]
    card: Mapping[str, Any] = field(default_factory=dict)

    @property
    def part(self) -> str:
        """The part the report is about: test, or val where no test part was scored."""
        return "test" if self.metrics.get("test") else "val"

    @property
    def makes_images(self) -> bool:
        """It is the run of a generator, which is judged otherwise."""
        return self.record.get("kind") == "generator" or "gate" in self.metrics

    @cached_property
    def evaluator(self) -> Evaluator:
        """What knows the run's task."""
        return open_evaluator(name_task({**self.record, **self.metrics}), target_of(self.record))

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The configuration as plain values."""
        content = OmegaConf.to_container(OmegaConf.create(self.config or "{}"))
        return {str(k): v for k, v in content.items()} if isinstance(content, dict) else {}

    @cached_property
    def rows(self) -> pd.DataFrame:
        """The rows of the run's manifest, see `read_rows`; none where it has none."""
        return read_rows(self.folder / "manifest.csv")

    @property
    def facts(self) -> Mapping[str, Any]:
        """What `prepare` wrote on the card."""
        facts: Mapping[str, Any] = self.card.get("facts") or {}
        return facts

    @property
    def flow(self) -> Mapping[str, Any]:
        """The counts from manifest to parts."""
        flow: Mapping[str, Any] = self.audit.get("flow") or {}
        return flow

    @property
    def unit(self) -> str:
        """What a sample is: images or series."""
        return "series" if self.setting("data.unit") == "series" else "images"

    def setting(self, key: str) -> Any:
        """Return a value of the configuration by its dotted key; None where there is none."""
        value: Any = self.settings
        for name in key.split("."):
            value = value.get(name) if isinstance(value, Mapping) else None
        return value

    def patients(self, part: str) -> int | None:
        """Return how many patients a part has: as scored, else as served."""
        counted = (self.metrics.get("n") or {}).get(part) or {}
        if "patients" not in counted:
            counted = (self.audit.get("counts") or {}).get(part) or {}
        return counted.get("patients")

    def find(self, key: str) -> Iterator[str]:
        """Yield every text under `key` in audit and record, however deep."""
        return _find(key, [self.audit, self.record])


def read_run_files(run: Path) -> RunFiles:
    """Read what there is; missing files are empty.

    Raises:
        MedvisionError: a file is there but broken.
    """
    config = run / "config.yaml"
    return RunFiles(
        folder=run,
        record=_read(run / "record.json"),
        audit=_read(run / "audit.json"),
        metrics=_read(run / "metrics.json"),
        history=_read_table(run / "history.csv"),
        config=config.read_text(encoding="utf-8") if config.exists() else "",
        classes=_read_classes(run),
        card=_read(run / "card.json"),
    )


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


def plain(part: Any) -> dict[str, Any]:
    """Return the settings of a part without what builds it."""
    held = part if isinstance(part, Mapping) else {}
    return {str(k): v for k, v in held.items() if not str(k).startswith("_") and v is not None}
