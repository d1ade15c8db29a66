"""A sandbox for generated programs: each runs in a process of its own, with as few rights as possible.

A program is confined in these ways (`protections` tries out the last three on this machine):

- time: CPU seconds, and wall time, after which its process group is killed;
- memory: address space, and the size of any file it writes;
- files: nothing can be written outside its own temporary folder (Landlock, Linux 5.13 or later);
- processes: it cannot start a process or a thread, nor execute or signal another program;
- network: it cannot open a socket (a filter of system calls, as for processes: x86-64 and arm64).

It gets an empty environment, no arguments, no input, and a Python without site-packages. It can still
*read* whatever the user who runs the study can read. Nothing but its outcome leaves the process, so
what it reads goes nowhere; but a malicious program that exploits a bug in the kernel belongs in a
virtual machine.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Kind = Literal["passed", "syntax", "assertion", "timeout", "other"]

_CHILD = Path(__file__).with_name("sandbox_child.py")
FILE_MB = 16
"""Most that a program may write to one file."""
START = 2.0
"""Seconds of wall time, beyond the program's own, that Python may take to start."""


@dataclass(frozen=True)
class Outcome:
    """How a program ended; it `passed` only if it ran to its last line without an error."""

    kind: Kind
    detail: str = ""


def run_program(source: str, timeout: float = 10.0, memory_mb: int = 1024) -> Outcome:
    """Run Python source and return how it ended, and nothing else.

    The last line must be reached: leaving early (`exit`, `os._exit`) is a failure, whatever the
    exit code. A program could still forge a pass by searching its own process for the secret word
    that reports one; that takes intent, not luck.
    """
    word = secrets.token_hex(16)
    with tempfile.TemporaryDirectory(prefix="tis-ray-") as folder:
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        limits = {"cpu": timeout, "memory": memory_mb << 20, "file": FILE_MB << 20}
        order = json.dumps({"word": word, "limits": limits, "folder": folder, "source": source})
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_CHILD), str(writer)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            env={},
            pass_fds=(writer,),
            start_new_session=True,
        )
        os.close(writer)
        try:
            process.communicate(order.encode(), timeout=timeout + START)
            report = _read(reader)
        except subprocess.TimeoutExpired:
            return Outcome("timeout", f"more than {timeout:g} s")
        finally:
            os.close(reader)
            _end(process)
    return _outcome(report, word, process.returncode, timeout)


@functools.lru_cache(maxsize=1)
def protections() -> dict[str, bool]:
    """Return, for each protection, whether it holds on this machine, found by trying to break it."""
    return {name: run_program(attempt).kind == "passed" for name, attempt in _ATTEMPTS.items()}


def unprotected() -> str:
    """Return in words what programs can do on this machine; empty if all protections hold."""
    words = {
        "files": "writing files anywhere",
        "processes": "starting processes",
        "network": "using the network",
    }
    return ", ".join(words[name] for name, holds in protections().items() if not holds)


# Each passes if the protection holds.
_ATTEMPTS = {
    "files": "import tempfile, os\n"
    "path = os.path.join(os.path.dirname(os.getcwd()), 'tis-ray-probe-%d' % os.getpid())\n"
    "try:\n    open(path, 'w').close()\n"
    "except OSError:\n    pass\n"
    "else:\n    os.unlink(path)\n    raise SystemError\n",
    "processes": "import os\n"
    "try:\n    child = os.fork()\n"
    "except OSError:\n    pass\n"
    "else:\n    os._exit(1)\n",
    "network": "import socket\n"
    "try:\n    socket.socket()\n"
    "except OSError:\n    pass\n"
    "else:\n    raise SystemError\n",
}


def _read(reader: int) -> bytes:
    try:
        return os.read(reader, 1 << 16)
    except BlockingIOError:
        return b""


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill the whole group: without the filter of system calls there may be children."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.wait()


def _outcome(report: bytes, word: str, code: int | None, timeout: float) -> Outcome:
    try:
        fields = json.loads(report)
        if fields["word"] == word:
            return Outcome(fields["kind"], str(fields["detail"])[:300])
    except (ValueError, KeyError, TypeError):
        pass
    if code in (-signal.SIGXCPU, -signal.SIGKILL):
        return Outcome("timeout", f"more than {timeout:g} s of CPU time")
    if code is not None and code < 0:
        return Outcome("other", f"killed by signal {-code}")
    return Outcome("other", "left before its end")
