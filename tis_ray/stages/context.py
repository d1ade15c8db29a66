"""The context that every stage of one study is given: config, cluster and log."""

from __future__ import annotations

from dataclasses import dataclass

from tis_ray.config import Config
from tis_ray.distributed.connect import Cluster
from tis_ray.log import RunLog
from tis_ray.storage import Place


@dataclass
class Context:
    """A study's config, the cluster it runs on, and its log."""

    config: Config
    cluster: Cluster
    log: RunLog

    @property
    def root(self) -> Place:
        """Folder of the artifacts."""
        return self.config.artifact_root
