"""A real S3 server on this machine, for tests: moto's, in a process of its own."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

BUCKET = "tis-ray-test"
_LINE = re.compile(r'"(GET|PUT|HEAD|DELETE|POST) (\S+) HTTP')


@contextmanager
def s3_server(host: str = "127.0.0.1", log: Path | None = None) -> Iterator[dict[str, str]]:
    """Start an S3 server with an empty bucket; yield the environment by which clients find it.

    log: file for a line about each request that is answered.
    """
    pytest.importorskip("moto")
    pytest.importorskip("s3fs")
    with socket.socket() as free:
        free.bind((host, 0))
        port = free.getsockname()[1]
    with Path(os.devnull if log is None else log).open("ab") as said:
        server = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", host, "-p", str(port)],
            stdout=subprocess.DEVNULL,
            stderr=said,
        )
    environment = {
        "AWS_ACCESS_KEY_ID": "key-of-the-test",
        "AWS_SECRET_ACCESS_KEY": "secret-of-the-test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
    }
    try:
        _wait_for(host, port)
        before = {name: os.environ.get(name) for name in environment}
        os.environ.update(environment)
        try:
            import s3fs

            s3fs.S3FileSystem.clear_instance_cache()
            s3fs.S3FileSystem().mkdir(BUCKET)
            yield environment
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name)
                else:
                    os.environ[name] = value
            s3fs.S3FileSystem.clear_instance_cache()
    finally:
        server.kill()
        server.wait()


def requests_in(log: Path) -> list[tuple[str, str]]:
    """Return kind and object of each request that a server logged; the object of a listing is its prefix."""
    found = []
    for line in log.read_text(errors="replace").splitlines():
        if match := _LINE.search(line):
            url = urlsplit(match[2])
            key = unquote(url.path).partition(f"/{BUCKET}")[2].strip("/")
            query = parse_qs(url.query)
            if match[1] == "GET" and not key:
                found.append(("LIST", query.get("prefix", [""])[0].strip("/")))
            else:
                found.append(("DELETE" if "delete" in query else match[1], key))
    return found


def _wait_for(host: str, port: int) -> None:
    for _ in range(200):
        with socket.socket() as client:
            if client.connect_ex((host, port)) == 0:
                return
        time.sleep(0.1)
    raise TimeoutError("the S3 server has not started")
