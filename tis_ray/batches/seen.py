"""What has passed through batches in this process, for whoever shows progress or counts work."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Seen:
    """rows: that a model has read. tokens: without padding. halved: batches that did not fit into memory."""

    rows: int = 0
    tokens: int = 0
    halved: int = 0


seen = Seen()
