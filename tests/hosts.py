"""Several machines on this one: network namespaces with addresses of their own, and folders of their own.

A host's processes see the folders that are named `own` as empty disks of theirs (tmpfs in a mount namespace);
all else, such as the installed packages, is this machine's. It takes root and `ip`, `unshare` and `nsenter`.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.buckets import s3_server
from tis_ray.distributed.starting import STARTS

BIN = Path(sys.executable).parent
GCS = "6379"
TOOLS = ("ip", "unshare", "nsenter", "mount")


@dataclass
class Host:
    """One machine: its address, and the process that holds its namespaces."""

    name: str
    address: str
    pid: int
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def command(self, *words: str) -> list[str]:
        """Return the command line that runs a command there."""
        return ["nsenter", "--target", str(self.pid), "--mount", "--net", "--uts", "--", *words]

    def run(
        self, *words: str, cwd: Path, env: Mapping[str, str], timeout: float = 600
    ) -> subprocess.CompletedProcess[str]:
        """Run a command there to its end."""
        inside = ["sh", "-c", 'cd "$0" && exec "$@"', str(cwd), *words]
        return subprocess.run(
            self.command(*inside),
            env=dict(env),
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
        )

    def start(self, *words: str, cwd: Path, env: Mapping[str, str]) -> subprocess.Popen[str]:
        """Start a command there; it ends with the host."""
        inside = ["sh", "-c", 'cd "$0" && exec "$@"', str(cwd), *words]
        process = subprocess.Popen(
            self.command(*inside),
            env=dict(env),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.started.append(process)
        return process

    def processes(self) -> list[psutil.Process]:
        """Return what runs there."""
        net = Path(f"/proc/{self.pid}/ns/net").readlink()
        found = []
        for process in psutil.process_iter():
            with suppress(OSError, psutil.Error):
                if (
                    Path(f"/proc/{process.pid}/ns/net").readlink() == net
                    and process.pid != self.pid
                ):
                    found.append(process)
        return found

    def kill(self) -> None:
        """Let the machine lose its power: everything there is killed at once."""
        for process in self.processes():
            with suppress(psutil.Error):
                process.send_signal(signal.SIGKILL)
        for started in self.started:
            with suppress(subprocess.TimeoutExpired):
                started.wait(5)


@dataclass
class Machines:
    """The machines by name, the folder that each has for itself, and the environment of all."""

    hosts: dict[str, Host]
    own: Path
    env: dict[str, str]

    def tis_ray(self, host: str, *words: str, timeout: float = 900) -> Any:
        """Run a verb on a machine."""
        command = (str(BIN / "python"), "-m", "tis_ray.cli", *words)
        return self.hosts[host].run(*command, cwd=self.own, env=self.env, timeout=timeout)


@contextmanager
def hosts(names: Sequence[str], own: Sequence[Path]) -> Iterator[dict[str, Host]]:
    """Start machines on one network, each with empty folders of its own; they end with the block."""
    if os.geteuid() != 0 or any(shutil.which(tool) is None for tool in TOOLS):
        pytest.skip("needs root, and ip, unshare, nsenter")
    mark = secrets.token_hex(2)
    bridge, net = f"tb{mark}", f"10.{77 + int(mark[0], 16)}.{int(mark[1:3], 16)}"
    for folder in own:
        folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        _ip("link", "add", bridge, "type", "bridge")
        stack.callback(_ip, "link", "del", bridge)
        _ip("addr", "add", f"{net}.1/24", "dev", bridge)
        _ip("link", "set", bridge, "up")
        made = {}
        for number, name in enumerate(names, 2):
            made[name] = stack.enter_context(_host(name, f"{net}.{number}", bridge, mark, own))
        yield made


@contextmanager
def _host(name: str, address: str, bridge: str, mark: str, own: Sequence[Path]) -> Iterator[Host]:
    mounts = " && ".join(f"mount -t tmpfs tmpfs {folder}" for folder in own) or "true"
    holder = subprocess.Popen(
        ["unshare", "--mount", "--net", "--uts", "--propagation", "private", "--", "sh", "-c",
         f"{mounts} && hostname {name} && ip link set lo up && echo ready && exec sleep 100000"],
        stdout=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    host = Host(name, address, holder.pid)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "ready\n"
        outer, inner = f"v{mark}{address.rpartition('.')[2]}o", f"v{mark}i"
        _ip("link", "add", outer, "type", "veth", "peer", "name", inner, "netns", str(holder.pid))
        _ip("link", "set", outer, "master", bridge, "up")
        for words in (
            ("addr", "add", f"{address}/24", "dev", inner),
            ("link", "set", inner, "up"),
            ("route", "add", "default", "via", f"{address.rpartition('.')[0]}.1"),
        ):
            subprocess.run(
                ["nsenter", "--target", str(holder.pid), "--net", "ip", *words], check=True
            )
        yield host
    finally:
        host.kill()
        holder.kill()
        holder.wait()


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


@contextmanager
def cluster_with_bucket(
    names: Sequence[str], joined: Sequence[str], env: Mapping[str, str]
) -> Iterator[Machines]:
    """Start machines that share nothing but a bucket, and a Ray cluster of those `joined`, of which `head` is first."""
    own = Path(f"/tmp/own-{os.getpid()}")  # a short path: sockets are in it
    with hosts(names, [own]) as made:
        network = made["head"].address.rpartition(".")[0]
        with s3_server(f"{network}.1") as bucket:
            every = {
                **env,
                **bucket,
                "RAY_AUTH_MODE": "disabled",
                "TIS_RAY_CACHE": str(own / "copies"),
                "HOME": str(own),
                "PYTHONPATH": str(Path(__file__).parents[1]),
            }
            for name in joined:
                join(made, name, own, every)
            yield Machines(made, own, every)
    own.rmdir()


def join(made: Mapping[str, Host], name: str, own: Path, env: Mapping[str, str]) -> None:
    """Start Ray on a machine, and wait until the cluster has it."""
    head = made["head"]
    every = ["start", "--block", "--disable-usage-stats", "--object-store-memory", str(80 * 2**20)]
    every += ["--temp-dir", str(own / "ray"), "--min-worker-port", "0", "--max-worker-port", "0"]
    every += ["--node-ip-address", made[name].address]
    if name == "head":
        every += ["--head", "--port", GCS, "--num-cpus", "0", "--dashboard-host", "0.0.0.0"]
    else:
        every += ["--address", f"{head.address}:{GCS}", "--num-cpus", "1"]
    before = nodes(head, own, env)
    for tries_left in range(STARTS - 1, -1, -1):
        process = made[name].start(str(BIN / "ray"), *every, cwd=own, env=env)

        def ended_or_joined(process: subprocess.Popen[str] = process) -> bool:
            return process.poll() is not None or nodes(head, own, env) > before

        try:
            wait_for(ended_or_joined, 240)
        except TimeoutError:
            made[name].kill()
            raise TimeoutError(process.stdout and process.stdout.read()) from None
        if process.poll() is None:
            return
        said = process.stdout.read() if process.stdout else ""
        if tries_left == 0 or "Timed out waiting for node info" not in said:
            raise RuntimeError(said)  # else the machine is busy, and Ray has given up its start


def nodes(head: Host, own: Path, env: Mapping[str, str]) -> int:
    """Return how many nodes the cluster has; 0 where there is none."""
    status = str(BIN / "ray"), "status", "--address", f"{head.address}:{GCS}"
    said = head.run(*status, cwd=own, env=env)
    return said.stdout.partition("Pending")[0].count("1 node_") if said.returncode == 0 else 0


def wait_for(condition: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait until a callable returns something true. Raises TimeoutError."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return
        time.sleep(1.0)
    raise TimeoutError(f"{condition} was not true within {seconds} s")
