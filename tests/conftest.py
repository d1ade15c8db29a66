"""Shared fixtures. The environment is set before anything imports Ray, which reads it then."""

from __future__ import annotations

import fcntl
import gc
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.properties import load_profiles
from tests.small import small_study

for _name, _value in {
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_AUTH_MODE": "disabled",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_memory_usage_threshold": "0.98",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "HF_HUB_OFFLINE": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "TOKENIZERS_PARALLELISM": "false",
    "OMP_NUM_THREADS": "1",
}.items():
    os.environ.setdefault(_name, _value)

load_profiles()

GOLDEN = Path(__file__).parent / "golden"


def pytest_collection_finish() -> None:
    """Keep what is loaded out of every later collection of garbage: some of them take seconds."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def golden_dir() -> Path:
    """The folder of outputs of the reference implementation."""
    return GOLDEN


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[Any]:
    """One small Ray cluster for the whole session; four logical CPUs avoid waiting on two."""
    import ray

    from tis_ray.distributed.starting import start_here

    start_here(
        num_cpus=4,
        object_store_memory=200 * 2**20,
        log_to_driver=False,
        logging_level="warning",
    )
    yield ray
    ray.shutdown()


@pytest.fixture(scope="session")
def undisturbed(ray_cluster, tmp_path_factory) -> Path:
    """The folder of one finished study, which every disturbed run must equal; never written to.

    The processes that share the tests share the study: one trains it, the others find it finished.
    """
    from tis_ray.study.run import run

    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "undisturbed"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        run(small_study(folder, compute__actors=2))  # others run with one, and must equal it
    return folder


@pytest.fixture
def copied(undisturbed, tmp_path) -> Path:
    """A copy of the finished study that a test may change."""
    shutil.copytree(undisturbed, tmp_path / "study", symlinks=True)
    return tmp_path / "study"
