"""Tracking switched off: the interface of `study.mlflow_tracker`, and nothing recorded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from tis_ray.storage import AnyPlace
    from tis_ray.study.tracked_data import DataSet


Kind = Literal["study", "method", "cell"]
"""Of a run. A study has a run for each method and budget, and that one for each seed and draw."""


class NullRun:
    """A run that records nothing: the interface of `Run`."""

    run_id: str | None = None
    why_failed: str | None = None
    """Why the run will be closed as FAILED although nothing is raised in it."""

    @contextmanager
    def method(
        self,
        name: str,
        fingerprint: str,
        params: Mapping[str, object] | None = None,
        tags: Mapping[str, object] | None = None,
    ) -> Iterator[NullRun]:
        """Open the run of a method below a study's."""
        yield NullRun()

    @contextmanager
    def cell(
        self,
        name: str,
        fingerprint: str,
        params: Mapping[str, object] | None = None,
        tags: Mapping[str, object] | None = None,
    ) -> Iterator[NullRun]:
        """Open the run of a cell below a method's."""
        yield NullRun()

    def finished_cells(self) -> set[str]:
        """Return the fingerprints of the cells that hold all they will ever hold."""
        return set()

    def log_datasets(self, data: Sequence[DataSet]) -> None:
        """Record the rows that a study was made from."""

    def log_model(self, name: str, folder: AnyPlace) -> None:
        """Record a trained model: an adapter's PEFT folder, or a whole model's."""

    def log_params(self, params: Mapping[str, object]) -> None:
        """Record settings; nested mappings become dotted keys."""

    def log_metrics(self, metrics: Mapping[str, float | None], step: int = 0) -> None:
        """Record final numbers; None is left out."""

    def log_series(self, name: str, values: Mapping[int, float]) -> None:
        """Record one metric over steps (step → value)."""

    def set_tags(self, tags: Mapping[str, object]) -> None:
        """Record facts about the run; None is left out."""

    def log_artifact(self, path: AnyPlace, folder: str | None = None) -> None:
        """Record a file, or a folder with all its files, under `folder`."""


class NullTracker:
    """No tracking: the interface of `Tracker`."""

    uri: str | None = None

    @contextmanager
    def study(
        self,
        name: str,
        fingerprint: str,
        config: Mapping[str, object] | None = None,
        tags: Mapping[str, object] | None = None,
    ) -> Iterator[NullRun]:
        """Open the parent run of a study."""
        yield NullRun()
