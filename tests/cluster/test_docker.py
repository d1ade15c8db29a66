"""The Dockerfile, as far as it can be checked without a Docker engine."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "cluster" / "docker"


def copied() -> list[str]:
    lines = re.findall(r"^COPY (.+)$", (DOCKER / "Dockerfile").read_text(), re.MULTILINE)
    words = [word for line in lines for word in line.split()[:-1]]
    return [word for word in words if not word.startswith("--")]


def test_what_the_image_copies_exists_and_is_sent_to_the_build() -> None:
    ignore = (DOCKER / "Dockerfile.dockerignore").read_text().splitlines()
    sent = {line.removeprefix("!") for line in ignore if line.startswith("!")}
    assert set(copied()) == sent
    assert all((ROOT / name).exists() for name in sent)


def test_the_image_holds_what_the_package_build_reads() -> None:
    pyproject = (ROOT / "pyproject.toml").read_text()
    for needed in ("README.md", "LICENSE", "tis_ray/version.py"):
        assert needed in pyproject
        assert needed.split("/")[0] in copied()
