"""The Dockerfile, as far as it can be checked without a Docker engine: it is read instruction by instruction."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "cluster" / "docker"
KNOWN = {"ARG", "FROM", "ENV", "WORKDIR", "COPY", "RUN"}


def instructions() -> list[tuple[str, str]]:
    """Return the Dockerfile's instructions in order: the word, and what follows."""
    text = re.sub(r"^#.*\n", "", (DOCKER / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = [line for line in text.replace("\\\n", " ").splitlines() if line.strip()]
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in lines)]


def copied() -> list[str]:
    words = [word for name, rest in instructions() if name == "COPY" for word in rest.split()[:-1]]
    return [word for word in words if not word.startswith("--")]


def argument(name: str) -> str:
    (given,) = [
        rest for word, rest in instructions() if word == "ARG" and rest.startswith(f"{name}=")
    ]
    return given.partition("=")[2]


def test_every_line_is_an_instruction_of_docker() -> None:
    found = instructions()
    assert {word for word, _ in found} == KNOWN
    assert found[0] == ("ARG", "DEVICE=cpu")  # before the first FROM, or no FROM can use it
    stages = [rest for word, rest in found if word == "FROM"]
    named = {rest.split(" AS ")[1]: rest.split(" AS ")[0] for rest in stages[:-1]}
    assert stages[-1] == "${DEVICE}"
    assert {*named} == {"cpu", "cuda"}


def test_ray_is_the_pinned_version_for_cpu_and_cuda() -> None:
    pinned = re.search(r"^ray==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned
    text = (DOCKER / "Dockerfile").read_text()
    assert {*re.findall(r"ray[:-](\d+\.\d+\.\d+)", text)} == {pinned[1]}
    images = [rest.split()[0] for word, rest in instructions() if word == "FROM"][:2]
    supported = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["classifiers"]
    for image in images:
        found = re.fullmatch(
            rf"rayproject/ray:{re.escape(pinned[1])}-py(\d)(\d+)-(cpu|cu\d+)", image
        )
        assert found, image
        assert f"Programming Language :: Python :: {found[1]}.{found[2]}" in supported


def test_its_extras_are_those_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = argument("EXTRAS").split(",")
    assert {*extras} <= {*project["optional-dependencies"]}
    assert {"embed", "s3", "gcs", "azure"} <= {*extras}
    (install,) = [rest for word, rest in instructions() if word == "RUN"]
    assert "--constraint constraints.txt" in install
    assert '".[${EXTRAS}]"' in install
    for extra in extras:
        for wanted in project["optional-dependencies"][extra]:
            Requirement(wanted)


def test_what_the_image_copies_exists_and_is_sent_to_the_build() -> None:
    ignore = (DOCKER / "Dockerfile.dockerignore").read_text().splitlines()
    sent = {line.removeprefix("!") for line in ignore if line.startswith("!")}
    assert set(copied()) == sent
    assert all((ROOT / name).exists() for name in sent)


@pytest.mark.parametrize("needed", ["README.md", "LICENSE", "tis_ray/version.py"])
def test_the_image_holds_what_the_package_build_reads(needed: str) -> None:
    assert needed in (ROOT / "pyproject.toml").read_text()
    assert needed.split("/")[0] in copied()
