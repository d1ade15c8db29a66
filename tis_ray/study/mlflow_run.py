"""One open MLflow run, found by its fingerprint or made, and closed with its true status.

A run that fails to reach the server does not fail the study: the loss is logged as a warning, and
a re-run of the study fills the gap.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from tis_ray.stopping import told_of_stop
from tis_ray.storage import AnyPlace, local_file, local_folder, place
from tis_ray.study.mlflow_data import dataset_input
from tis_ray.study.mlflow_limits import flatten, storable_key, storable_number, storable_text
from tis_ray.study.mlflow_models import log_model
from tis_ray.study.no_tracker import Kind, NullRun
from tis_ray.study.tracked_data import DataSet

if TYPE_CHECKING:
    from mlflow.entities import Run as MlflowRun
    from mlflow.tracking import MlflowClient

FINGERPRINT_TAG, KIND_TAG, ERROR_TAG = "tis.fingerprint", "tis.kind", "tis.error"
STUDY_TAG = "tis.study_run"
"""Of every run below a study, however deep: the id of the study's run."""
PARENT_TAG = "mlflow.parentRunId"
EVALUATION = {"mlflow.runType": "evaluation"}
PARAM_LENGTH, TAG_LENGTH = 6000, 8000
METRICS_PER_BATCH, ENTRIES_PER_BATCH = 1000, 100
"""MLflow's limits on one `log_batch` call: metrics, and params or tags."""

_log = logging.getLogger(__name__)
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class Run(NullRun):
    """One open MLflow run."""

    def __init__(
        self, client: MlflowClient, run_id: str, experiment_id: str, study_id: str, reopened: bool
    ):
        self.run_id: str = run_id
        self._client, self._experiment_id, self._reopened = client, experiment_id, reopened
        self._study_id = study_id

    @contextmanager
    def method(
        self,
        name: str,
        fingerprint: str,
        params: Mapping[str, object] | None = None,
        tags: Mapping[str, object] | None = None,
    ) -> Iterator[NullRun]:
        """Open the run of a method: RUNNING inside the block, then FINISHED, FAILED or KILLED.

        A method of the same study and fingerprint continues its earlier run. MLflow's page opens a study
        by itself where runs below it are called evaluations, so that methods show without a click.
        """
        with self._below(
            "method", name, fingerprint, params, {**(tags or {}), **EVALUATION}
        ) as run:
            yield run

    @contextmanager
    def cell(
        self,
        name: str,
        fingerprint: str,
        params: Mapping[str, object] | None = None,
        tags: Mapping[str, object] | None = None,
    ) -> Iterator[NullRun]:
        """Open the run of a cell in the same way, below a method's run or a study's."""
        with self._below("cell", name, fingerprint, params, tags) as run:
            yield run

    @contextmanager
    def _below(
        self,
        kind: Kind,
        name: str,
        fingerprint: str,
        params: Mapping[str, object] | None,
        tags: Mapping[str, object] | None,
    ) -> Iterator[NullRun]:
        with opened(
            self._client,
            self._experiment_id,
            kind,
            name,
            fingerprint,
            tags,
            {PARENT_TAG: self.run_id, STUDY_TAG: self._study_id},
        ) as run:
            run.log_params(params or {})
            yield run

    def finished_cells(self) -> set[str]:
        """Return the fingerprints of the study's cells that hold all they will ever hold."""
        terms = {STUDY_TAG: self._study_id, KIND_TAG: "cell"}
        runs = self._ask(search, self._client, self._experiment_id, terms, "FINISHED") or []
        return {run.data.tags.get(FINGERPRINT_TAG, "") for run in runs}

    def log_datasets(self, data: Sequence[DataSet]) -> None:
        """Record the rows that a study was made from; MLflow keeps each once, by name and digest."""
        inputs = [dataset_input(each) for each in data]
        self._ask(self._client.log_inputs, self.run_id, datasets=inputs)

    def log_model(self, name: str, folder: AnyPlace) -> None:
        """Record a trained model, so that `mlflow.transformers` loads it."""
        call = partial(
            log_model, self._client, self.run_id, self._experiment_id, name, place(folder)
        )
        # What MLflow's flavor cannot read or write shows in many ways; the study has its model anyway.
        tolerant(call, f"the model of run {self.run_id}", Exception)

    def log_params(self, params: Mapping[str, object]) -> None:
        """Record settings; nested mappings become dotted keys, long values are cut.

        MLflow refuses to change a param. A reopened run keeps its first values; a new value of one
        is recorded as the tag `changed.<key>`.
        """
        flat = {
            storable_key(k): storable_text(v)[:PARAM_LENGTH] for k, v in flatten(params).items()
        }
        if self._reopened:
            run = self._ask(self._client.get_run, self.run_id)
            held = run.data.params if run else {}
            changed = {f"changed.{k}": v for k, v in flat.items() if k in held and held[k] != v}
            self.set_tags(changed)
            flat = {k: v for k, v in flat.items() if k not in held}
        from mlflow.entities import Param

        entries = [Param(key, value) for key, value in flat.items()]
        for start in range(0, len(entries), ENTRIES_PER_BATCH):
            batch = entries[start : start + ENTRIES_PER_BATCH]
            self._ask(self._client.log_batch, self.run_id, params=batch)

    def log_metrics(self, metrics: Mapping[str, float | None], step: int = 0) -> None:
        """Record final numbers; None is left out."""
        self._log([(k, step, float(v)) for k, v in metrics.items() if v is not None])

    def log_series(self, name: str, values: Mapping[int, float]) -> None:
        """Record one metric over steps (step → value)."""
        self._log([(name, int(step), float(value)) for step, value in values.items()])

    def set_tags(self, tags: Mapping[str, object]) -> None:
        """Record facts about the run; None is left out."""
        from mlflow.entities import RunTag

        given = {k: v for k, v in tags.items() if v is not None}
        entries = [RunTag(storable_key(k), storable_text(v)[:TAG_LENGTH]) for k, v in given.items()]
        for start in range(0, len(entries), ENTRIES_PER_BATCH):
            batch = entries[start : start + ENTRIES_PER_BATCH]
            self._ask(self._client.log_batch, self.run_id, tags=batch)

    def log_artifact(self, path: AnyPlace, folder: str | None = None) -> None:
        """Record a file, or a folder with all its files, under `folder` (or its own name)."""
        path = place(path)
        if path.is_dir():
            here, target = local_folder(path), folder or path.name
            self._ask(self._client.log_artifacts, self.run_id, str(here), target)
        else:
            self._ask(self._client.log_artifact, self.run_id, str(local_file(path)), folder)

    def clear_error(self) -> None:
        """Remove the error of an earlier attempt that this one made good."""
        run = self._ask(self._client.get_run, self.run_id) if self._reopened else None
        if run and ERROR_TAG in run.data.tags:
            self._ask(self._client.delete_tag, self.run_id, ERROR_TAG)

    def _log(self, points: list[tuple[str, int, float]]) -> None:
        """Send (name, step, value) points, without those a reopened run already holds."""
        from mlflow.entities import Metric

        points = [
            (storable_key(name), step, storable_number(value)) for name, step, value in points
        ]
        if self._reopened:
            held = set()
            for name in {name for name, _, _ in points}:
                history = self._ask(self._client.get_metric_history, self.run_id, name) or []
                held |= {(name, metric.step, repr(metric.value)) for metric in history}
            points = [p for p in points if (p[0], p[1], repr(p[2])) not in held]
        now = int(time.time() * 1000)
        entries = [Metric(name, value, now, step) for name, step, value in points]
        for start in range(0, len(entries), METRICS_PER_BATCH):
            batch = entries[start : start + METRICS_PER_BATCH]
            self._ask(self._client.log_batch, self.run_id, metrics=batch)

    def _ask(
        self, call: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> Result | None:
        return tolerant(lambda: call(*args, **kwargs), f"run {self.run_id}")


@contextmanager
def opened(
    client: MlflowClient,
    experiment_id: str,
    kind: Kind,
    name: str,
    fingerprint: str,
    tags: Mapping[str, object] | None,
    below: Mapping[str, str] | None = None,
) -> Iterator[NullRun]:
    """Find or create the run, keep it RUNNING, and close it with its true status.

    below: the tags that name the run above it, and its study's.
    """
    identity = {FINGERPRINT_TAG: fingerprint, KIND_TAG: kind, **(below or {})}

    def find_or_create() -> Run:
        earlier = client.search_runs([experiment_id], _with_tags(identity), max_results=1)
        if earlier:
            run_id = earlier[0].info.run_id
            client.update_run(run_id, status="RUNNING", name=name)
        else:
            run_id = client.create_run(experiment_id, run_name=name, tags=identity).info.run_id
        study_id = identity.get(STUDY_TAG, run_id)
        return Run(client, run_id, experiment_id, study_id, reopened=bool(earlier))

    run = tolerant(find_or_create, f"{kind} {name}")
    if run is None:
        yield NullRun()
        return
    run.set_tags(tags or {})
    status = "FINISHED"
    killed = partial(client.set_terminated, run.run_id, "KILLED")
    try:
        with told_of_stop(lambda stop: killed()):
            yield run
        if run.why_failed is None:
            run.clear_error()
        else:
            status = "FAILED"
            run.set_tags({ERROR_TAG: run.why_failed})
    except Exception as error:
        status = "FAILED"
        run.set_tags({ERROR_TAG: f"{type(error).__name__}: {error}"})
        raise
    except BaseException:  # interrupted: Ctrl-C, exit, a generator closed
        status = "KILLED"
        raise
    finally:
        tolerant(lambda: client.set_terminated(run.run_id, status), f"{kind} {name}")


def search(
    client: MlflowClient, experiment_id: str, tags: Mapping[str, str], status: str
) -> list[MlflowRun]:
    """Return all runs with these tags and this status."""
    wanted = f"{_with_tags(tags)} AND attributes.status = '{status}'"
    runs: list[MlflowRun] = []
    token: str | None = ""
    while token is not None:
        page = client.search_runs(
            [experiment_id], wanted, max_results=1000, page_token=token or None
        )
        runs += page
        token = page.token or None
    return runs


def _with_tags(tags: Mapping[str, str]) -> str:
    return " AND ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())


def tolerant(
    call: Callable[[], Result], what: str, more: type[Exception] = OSError
) -> Result | None:
    """Return the call's result, or None with a warning: a study outlives its tracking server.

    more: what else than MLflow's own errors is borne.
    """
    from mlflow.exceptions import MlflowException

    try:
        return call()
    except (MlflowException, more) as error:
        _log.warning("tracking: %s was not recorded: %s", what, str(error).partition("\n")[0])
        return None
