"""Sections on the machine: workers and devices, and the tracker."""

from __future__ import annotations

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from tis_ray.section import Section
from tis_ray.storage.secret import has_secret


class ComputeConfig(Section):
    """How the work is laid over the machine or cluster. Changes speed, not results."""

    address: str | None = None
    """Ray cluster to join; null uses RAY_ADDRESS when it is set, else starts Ray on this machine."""
    actors: int | None = Field(None, ge=1)
    """Actors with which a stage begins; null takes as many as the cluster has room for. A cluster that scales is
    asked for room for so many when a study begins."""
    max_actors: int | None = Field(None, ge=1)
    """Actors to which a stage grows while nodes come; null is `actors` or, if that is null too, as many as a
    cluster that was joined has room for."""
    gpus_per_actor: float | None = Field(None, ge=0)
    """GPUs of each actor; null takes one when the cluster has any."""
    max_failures: int = Field(3, ge=0)
    """How often a training run is restarted after a worker is lost."""


class TrackingConfig(Section):
    """MLflow."""

    enabled: bool = True
    """Record the study in MLflow."""
    uri: str | None = None
    """Where: whatever MLflow takes, a server or a database. null is `MLFLOW_TRACKING_URI`, or without it a SQLite
    file beside the runs."""
    experiment: str = "tis-ray"
    """Experiment name."""
    models: bool = False
    """Record each trained model so that `mlflow.transformers` loads it. The base model is loaded once for each
    adapter."""

    @field_validator("uri")
    @classmethod
    def _no_secret(cls, uri: str | None) -> str | None:
        if uri is not None and has_secret(uri):
            raise PydanticCustomError(
                "secret",
                "holds a password, which the run's folder, its page and MLflow would keep; leave it out and set"
                " MLFLOW_TRACKING_URI",
            )
        return uri
