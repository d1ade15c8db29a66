"""The MLflow tracker: one experiment, a run per study, below it a run per method and budget, below that its cells.

Runs are reopened by fingerprint. Only the driver (or rank 0) writes; workers return plain metrics. Everything
goes through `MlflowClient`, never the fluent API, so no hidden "active run" exists and nothing is logged
automatically. mlflow is imported when a `Tracker` is made: a study without tracking never pays for
it. `no_tracker.NullTracker` has the same methods and does nothing.

    tracker = open_tracker(enabled=True, uri=None, experiment="tis-ray", artifact_root=None)
    with (
        tracker.study("gsm8k", fingerprint, config=config.model_dump()) as study,
        study.method("less round_robin @ 100", "less round_robin 100", {"budget": 100}) as method,
    ):
        with method.cell("less round_robin 100 s0", cell_fingerprint, {"seed": 0}) as run:
            run.log_metrics({"test_loss": 0.28})
            run.log_series("train_loss", {1: 2.0, 2: 1.5})
            run.log_artifact(run_dir / "ordering.parquet")
        method.log_metrics({"test_loss": 0.28})
"""

from __future__ import annotations

import logging
import os
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tis_ray.errors import InputError
from tis_ray.storage import AnyPlace
from tis_ray.storage.secret import shown_uri
from tis_ray.study.mlflow_limits import HINT, is_database, locations
from tis_ray.study.mlflow_run import KIND_TAG, STUDY_TAG, opened, search, tolerant
from tis_ray.study.no_tracker import NullRun, NullTracker
from tis_ray.version import __version__

if TYPE_CHECKING:
    from mlflow.entities import Run as MlflowRun

PROCESS_TAG = "tis.process"

_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",  # 14 s; mlflow's 7 would hold each call for 4 minutes
}
"""Set before mlflow is imported, unless the user has set them."""


class Tracker(NullTracker):
    """A tracking store with its one experiment.

    Make it once, in the driver, before any fan-out: the first use of a SQLite store creates its
    tables, which two processes must not do at once.

    uri: whatever MLflow takes: `http(s)://` server, database (the path of a `sqlite:///` one is made
        absolute, because Ray changes the working directory), or None for `mlflow.db` beside `artifact_root`.
    artifact_root: folder for the artifacts of a database; None means `mlruns` beside it, or in the
        working directory. A server says itself where artifacts go.

    Raises InputError when the store cannot be used.
    """

    uri: str

    def __init__(
        self,
        uri: str | None = None,
        experiment: str = "tis-ray",
        artifact_root: AnyPlace | None = None,
    ) -> None:
        self.uri, root = locations(uri, artifact_root)
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        from mlflow.tracking import MlflowClient

        # Neither the creation of tables nor what a model is written with is news.
        for name in ("alembic", "mlflow.store.db.utils", "mlflow.transformers"):
            logging.getLogger(name).setLevel(logging.WARNING)
        try:
            if is_database(self.uri):
                _try_database(self.uri)
            self._client = MlflowClient(tracking_uri=self.uri)
            self.experiment_id = self._experiment(experiment, root)
        except InputError:
            raise
        except Exception as error:  # MLflow lets through what its database driver raises
            reason = str(error).strip().partition("\n")[0].replace(self.uri, shown_uri(self.uri))
            raise InputError(
                f"tracking.uri {shown_uri(self.uri)}: MLflow cannot use it ({reason}); {HINT}"
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
        with opened(self._client, self.experiment_id, "study", name, fingerprint, facts) as run:
            run.log_params(config or {})
            yield run

    def _close_lost(self) -> None:
        """Mark runs as KILLED that say RUNNING while their process on this machine is gone."""
        for run in tolerant(self._running, "the studies that run") or []:
            host, _, process = run.data.tags.get(PROCESS_TAG, "").rpartition(" ")
            if host == socket.gethostname() and not _alive(int(process)):
                tolerant(partial(self._kill, run.info.run_id), f"study {run.info.run_name}")

    def _kill(self, study_id: str) -> None:
        below = search(self._client, self.experiment_id, {STUDY_TAG: study_id}, "RUNNING")
        for run_id in (*(run.info.run_id for run in below), study_id):
            self._client.set_terminated(run_id, "KILLED")

    def _running(self) -> list[MlflowRun]:
        return search(self._client, self.experiment_id, {KIND_TAG: "study"}, "RUNNING")

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
    artifact_root: AnyPlace | None = None,
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


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _try_database(uri: str) -> None:
    """Ask a database once; MLflow would ask ten times, for two minutes, before it says what is wrong."""
    from sqlalchemy import create_engine, inspect

    engine = create_engine(uri)
    try:
        inspect(engine).get_table_names()
    finally:
        engine.dispose()
