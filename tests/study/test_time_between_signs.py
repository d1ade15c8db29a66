"""Nobody looks at a silent terminal: a whole run, watched byte by byte on one."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from tests.small import small_study

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]

LONGEST = 10.0
"""Seconds. 2 on a free machine; build servers halt a process for a while."""


def test_a_terminal_is_never_silent(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(small_study(tmp_path)))
    ours, theirs = pty.openpty()
    began = last = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "tis_ray.cli", "run", "--config", "study.yaml"],
        cwd=tmp_path,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        env={**os.environ, "TERM": "xterm-256color"},
    )
    os.close(theirs)
    gaps, drawn = [], b""
    while True:
        try:
            read = os.read(ours, 65536)
        except OSError:  # the terminal is closed: the run has ended
            break
        now = time.monotonic()
        gaps.append((now - last, drawn[-80:]))
        last, drawn = now, drawn + read
    assert process.wait() == 0, drawn[-2000:]
    assert max(gaps)[0] < LONGEST
    assert time.monotonic() - last < LONGEST
    for words in (b"starting Ray", b"loading libraries", b"warm-up", b"features less"):
        assert words in drawn
    for word in (b"logging.cc", b"raylet", b"Traceback"):  # no line of Ray's own
        assert word not in drawn
    assert began < last
