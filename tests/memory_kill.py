"""Runs a script under a Ray whose memory monitor allows no more memory than is already used."""

import os
import subprocess
import sys
from pathlib import Path


def error_without_memory(script: str, folder: Path) -> str:
    """Return what the script, which is given the folder, wrote to `error.txt` there."""
    (folder / "script.py").write_text(script)
    environment = {
        **os.environ,
        "RAY_memory_usage_threshold": "0.01",
        "RAY_memory_monitor_refresh_ms": "200",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    done = subprocess.run(
        [sys.executable, str(folder / "script.py"), str(folder)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    return (folder / "error.txt").read_text()
