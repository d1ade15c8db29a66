"""The context of a study whose stages run in this process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console

from tis_ray.config import parse_config
from tis_ray.distributed.connect import Cluster
from tis_ray.log import RunLog
from tis_ray.stages.context import Context

HERE = Cluster(cpus=2, gpus=0, threads=1, gpus_per_actor=0, actors=1)


def context_here(study: dict[str, Any], folder: Path) -> Context:
    """Return the context of a study; its log is in `folder`."""
    return Context(parse_config(study), HERE, RunLog(folder, Console(quiet=True)))
