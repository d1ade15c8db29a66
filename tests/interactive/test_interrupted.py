"""Ctrl-C in a process that goes on, as a notebook's does: it is heard at once, and the same call continues."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest

import tis_ray as tis
from tests.small import small_study
from tis_ray.finished.status import Runs, status_lines

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.mark.parametrize("stage", ["warm-up", "fine-tune"])
def test_the_same_call_continues(ray_cluster, tmp_path: Path, stage: str) -> None:
    study = tis.Study(small_study(tmp_path, seed=[0, 1], finetune__epochs=4))
    live = study.run_dir / "live.json"

    def interrupt() -> None:
        while not (live.exists() and f'"{stage}' in live.read_text()):
            time.sleep(0.1)
        time.sleep(3)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        study.run()
    assert "stopped" in "\n".join(status_lines(Runs.of(study.config)))
    assert signal.getsignal(signal.SIGINT) is handler
    study.run()
    assert study.page.is_file()
    deadline = time.monotonic() + 30
    while ray_cluster.available_resources().get("CPU") != 4 and time.monotonic() < deadline:
        time.sleep(0.5)
    assert ray_cluster.available_resources()["CPU"] == 4
