"""The MLflow tracker: one experiment, a parent run per study, a child run per cell, reopened by fingerprint.

Only the driver (or rank 0) writes; workers return plain metrics. Everything goes through
`MlflowClient`, never the fluent API, so no hidden "active run" exists and nothing is logged
automatically. mlflow is imported when a `Tracker` is made: a study without tracking never pays for
it. `no_tracker.NullTracker` has the same methods and does nothing.

    tracker = open_tracker(enabled=True, uri=None, experiment="tis-ray", artifact_root=None)
    with tracker.study("gsm8k", fingerprint, config=config.model_dump()) as study:
        with study.cell("less round_robin 100 s0", cell_fingerprint, {"budget": 100}) as run:
            run.log_metrics({"test_loss": 0.28})
            run.log_series("train_loss", {1: 2.0, 2: 1.5})
            run.log_artifact(run_dir / "ordering.parquet")

A run that fails to reach the server does not fail the study: the loss is logged as a warning, and
a re-run of the study fills the gap.
"""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, ParamSpec, TypeVar

from tis_ray.errors import InputError
from tis_ray.stopping import told_of_stop
from tis_ray.study.mlflow_limits import (
    flatten,
    locations,
    storable_key,
    storable_number,
    storable_text,
)
from tis_ray.study.no_tracker import NullRun, NullTracker
from tis_ray.version import __version__

if TYPE_CHECKING:
    from mlflow.entities import Run as MlflowRun
    from mlflow.tracking import MlflowClient

FINGERPRINT_TAG, KIND_TAG, ERROR_TAG = "tis.fingerprint", "tis.kind", "tis.error"
PROCESS_TAG = "tis.process"
PARENT_TAG = "mlflow.parentRunId"
PARAM_LENGTH, TAG_LENGTH = 6000, 8000
METRICS_PER_BATCH, ENTRIES_PER_BATCH = 1000, 100
"""MLflow's limits on one `log_batch` call: metrics, and params or tags."""

_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",  # 14 s; mlflow's 7 would hold each call for 4 minutes
}
"""Set before mlflow is imported, unless the user has set them."""

_log = logging.getLogger(__name__)
Kind = Literal["study", "cell"]
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class Run(NullRun):
    """One open MLflow run."""

    def __init__(self, client: MlflowClient, run_id: str, experiment_id: str, reopened: bool):
        self.run_id: str = run_id
        self._client, self._experiment_id, self._reopened = client, experiment_id, reopened

    @contextmanager
    def cell(
        self,
        name: str,
        fingerprint: str,
        params: Mapping[str, object] | None = None,
        tags: Mapping[str, object] | None = None,
    ) -> Iterator[NullRun]:
        """Open the child run of a cell: RUNNING inside the block, then FINISHED, FAILED or KILLED.

        A cell of the same study and fingerprint continues its earlier run.
        """
        with _opened(
            self._client, self._experiment_id, "cell", name, fingerprint, self.run_id, tags
        ) as run:
            run.log_params(params or {})
            yield run

    def finished_cells(self) -> set[str]:
        """Return the fingerprints of the cells that hold all they will ever hold."""
        terms = {PARENT_TAG: self.run_id, KIND_TAG: "cell"}
        runs = self._ask(_search, self._client, self._experiment_id, terms, "FINISHED") or []
        return {run.data.tags.get(FINGERPRINT_TAG, "") for run in runs}

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

    def log_artifact(self, path: str | Path, folder: str | None = None) -> None:
        """Record a file, or a folder with all its files, under `folder` (or its own name)."""
        path = Path(path)
        if path.is_dir():
            target = folder or path.name
            self._ask(self._client.log_artifacts, self.run_id, str(path), target)
        else:
            self._ask(self._client.log_artifact, self.run_id, str(path), folder)

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
        return _tolerant(lambda: call(*args, **kwargs), f"run {self.run_id}")


class Tracker(NullTracker):
    """A tracking store with its one experiment.

    Make it once, in the driver, before any fan-out: the first use of a SQLite store creates its
    tables, which two processes must not do at once.

    uri: `http(s)://` server, `sqlite:///` database (a relative path is made absolute, because Ray
        changes the working directory), or None for `mlflow.db` beside `artifact_root`.
    artifact_root: folder for artifacts; None means `mlruns` beside the database, or for a server
        whatever that server says.

    Raises InputError when the store cannot be used.
    """

    uri: str

    def __init__(
        self,
        uri: str | None = None,
        experiment: str = "tis-ray",
        artifact_root: str | Path | None = None,
    ) -> None:
        self.uri, root = locations(uri, artifact_root)
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        from mlflow.tracking import MlflowClient

        # Creating the tables is not news.
        for name in ("alembic", "mlflow.store.db.utils"):
            logging.getLogger(name).setLevel(logging.WARNING)
        try:
            self._client = MlflowClient(tracking_uri=self.uri)
            self.experiment_id = self._experiment(experiment, root)
        except InputError:
            raise
        except Exception as error:  # MLflow lets through what its database driver raises
            reason = str(error).partition("\n")[0]
            raise InputError(
                f"tracking.uri {self.uri}: MLflow cannot use it ({reason}); give an http(s)://"
                " server or a sqlite:/// path, or set tracking.enabled to false"
            ) from error

    @contextmanager
    def study(
        self,
        name: str,
        fingerprint: str,
        config: Mapping[str, object] | None = None,
        tags: Mapping[str, object] | None = None,
    ) -> Iterator[NullRun]:
        """Open the parent run of a study: RUNNING inside the block, then FINISHED, FAILED or KILLED.

        The study of the same fingerprint continues its earlier run. Version and git commit of
        tis_ray are set as tags; give `device` and the like in `tags`. Studies whose process was
        killed on this machine before it could close them become KILLED first.
        """
        self._close_lost()
        facts = {
            PROCESS_TAG: f"{socket.gethostname()} {os.getpid()}",
            "tis.version": __version__,
            "mlflow.source.git.commit": git_commit(),
            **(tags or {}),
        }
        with _opened(
            self._client, self.experiment_id, "study", name, fingerprint, None, facts
        ) as run:
            run.log_params(config or {})
            yield run

    def _close_lost(self) -> None:
        """Mark runs as KILLED that say RUNNING while their process on this machine is gone."""
        for run in _tolerant(self._running, "the studies that run") or []:
            host, _, process = run.data.tags.get(PROCESS_TAG, "").rpartition(" ")
            if host == socket.gethostname() and not _alive(int(process)):
                end = partial(self._client.set_terminated, run.info.run_id, "KILLED")
                _tolerant(end, f"study {run.info.run_name}")

    def _running(self) -> list[MlflowRun]:
        return _search(self._client, self.experiment_id, {KIND_TAG: "study"}, "RUNNING")

    def _experiment(self, name: str, artifact_root: str | None) -> str:
        known = self._client.get_experiment_by_name(name)
        if known is None:
            return str(self._client.create_experiment(name, artifact_location=artifact_root))
        if known.lifecycle_stage != "active":
            raise InputError(
                f"tracking.experiment: `{name}` was deleted in MLflow; restore it there, or choose another"
                " name"
            )
        return str(known.experiment_id)


def open_tracker(
    *,
    enabled: bool,
    uri: str | None = None,
    experiment: str = "tis-ray",
    artifact_root: str | Path | None = None,
) -> NullTracker:
    """Return a tracker, or one that does nothing when tracking is off."""
    return Tracker(uri, experiment, artifact_root) if enabled else NullTracker()


def git_commit() -> str | None:
    """Return the commit of the checkout that this package runs from, if it is one."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


@contextmanager
def _opened(
    client: MlflowClient,
    experiment_id: str,
    kind: Kind,
    name: str,
    fingerprint: str,
    parent_id: str | None,
    tags: Mapping[str, object] | None,
) -> Iterator[NullRun]:
    """Find or create the run, keep it RUNNING, and close it with its true status."""
    identity = {FINGERPRINT_TAG: fingerprint, KIND_TAG: kind}
    if parent_id is not None:
        identity[PARENT_TAG] = parent_id

    def find_or_create() -> Run:
        earlier = client.search_runs([experiment_id], _with_tags(identity), max_results=1)
        if not earlier:
            created = client.create_run(experiment_id, run_name=name, tags=identity)
            return Run(client, created.info.run_id, experiment_id, reopened=False)
        client.update_run(earlier[0].info.run_id, status="RUNNING", name=name)
        return Run(client, earlier[0].info.run_id, experiment_id, reopened=True)

    run = _tolerant(find_or_create, f"{kind} {name}")
    if run is None:
        yield NullRun()
        return
    run.set_tags(tags or {})
    status = "FINISHED"
    killed = partial(client.set_terminated, run.run_id, "KILLED")
    try:
        with told_of_stop(lambda stop: killed()):
            yield run
        run.clear_error()
    except Exception as error:
        status = "FAILED"
        run.set_tags({ERROR_TAG: f"{type(error).__name__}: {error}"})
        raise
    except BaseException:  # interrupted: Ctrl-C, exit, a generator closed
        status = "KILLED"
        raise
    finally:
        _tolerant(lambda: client.set_terminated(run.run_id, status), f"{kind} {name}")


def _search(
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


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _tolerant(call: Callable[[], Result], what: str) -> Result | None:
    """Return the call's result, or None with a warning: a study outlives its tracking server."""
    from mlflow.exceptions import MlflowException

    try:
        return call()
    except (MlflowException, OSError) as error:
        _log.warning("tracking: %s was not recorded: %s", what, str(error).partition("\n")[0])
        return None
