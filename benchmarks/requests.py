"""Requests to a bucket, by what is asked for and by what it is about: a small study with everything in S3.

A real S3 server on this machine logs what it answers. A GET without a key is a listing, which the clouds charge
as a write; a HEAD is charged as a read.
"""

from __future__ import annotations

import argparse
import os
import re
import tempfile
import time
from collections import Counter
from pathlib import Path

import ray

from benchmarks.lab import quiet
from tests.buckets import BUCKET, requests_in, s3_server
from tests.small import small_study
from tis_ray import run

STUDY = {
    "name": "counted",
    "runs": f"s3://{BUCKET}/runs",
    "artifacts": f"s3://{BUCKET}/artifacts",
    "representation": ["less", "bm25"],
    "budget": [6, 12],
    "seed": [0, 1],
    "compute": {"actors": 1},
}
"""14 cells: two methods and random at two budgets and two seeds, and zero-shot with and without template."""
KINDS = ("PUT", "LIST", "GET", "HEAD", "DELETE")


def subject(key: str) -> str:
    """Return what an object is about: the stage of an artifact, or the file of a run."""
    parts = key.split("/")
    if parts[0] == "artifacts":
        folder = parts[1] if len(parts) > 1 else ""
        return re.sub(r"-[0-9a-f]{12,}$", "", folder) or "artifacts"
    if parts[0] == "runs":
        return "run: " + (parts[2].partition(".pointer")[0] if len(parts) > 2 else "folder")
    return parts[0] or "bucket"


def table(requests: list[tuple[str, str]]) -> list[str]:
    """Return lines: requests by kind, for each subject, the most first."""
    counted: dict[str, Counter[str]] = {}
    for kind, key in requests:
        counted.setdefault(subject(key), Counter())[kind] += 1
    lines = [f"  {'':<28}" + "".join(f"{kind:>8}" for kind in KINDS)]
    for name, own in sorted(counted.items(), key=lambda item: -item[1].total()):
        lines.append(f"  {name:<28}" + "".join(f"{own[kind]:>8}" for kind in KINDS))
    total: Counter[str] = sum(counted.values(), Counter())
    lines.append(f"  {'all ' + str(total.total()):<28}" + "".join(f"{total[k]:>8}" for k in KINDS))
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks requests", description=__doc__)
    parser.add_argument("--out", help="folder for the lists of requests")
    out = parser.parse_args().out
    quiet()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TIS_RAY_CACHE"] = f"{folder}/cache"
        kept = Path(out or folder)
        kept.mkdir(parents=True, exist_ok=True)
        log = kept / "server.log"
        with s3_server(log=log):
            try:
                for label in ("first run", "the same command again"):
                    log.write_bytes(b"")
                    start = time.monotonic()
                    run({**small_study(Path(folder)), **STUDY})
                    print(f"  {label}: {time.monotonic() - start:.0f} s")
                    requests = requests_in(log)
                    print("\n".join(table(requests)), flush=True)
                    lines = [f"{kind} {key}\n" for kind, key in requests]
                    (kept / f"{label.partition(' ')[0]}.txt").write_text("".join(lines))
            finally:
                ray.shutdown()


if __name__ == "__main__":
    main()
