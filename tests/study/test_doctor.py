"""The check-up finds a healthy machine healthy, and names what is missing and what it is missing for."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tis_ray.distributed.task import try_ray
from tis_ray.study import doctor
from tis_ray.study.doctor import Check, checks


def found(name: str) -> Check:
    """Return one check; those after it, Ray the last, are not made."""
    return next(check for check in checks() if check.name == name)


@pytest.mark.ray
def test_a_healthy_machine_passes() -> None:
    """The program itself, as a user runs it."""
    program = [sys.executable, "-m", "tis_ray.cli", "doctor"]
    done = subprocess.run(program, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    output = done.stdout + done.stderr
    for name in ("python", "torch", "cpu", "memory", "gpu", "disk", "ray task"):
        assert name in output
    assert "ran in process" in output


def test_a_required_package_that_is_missing_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.metadata.version

    def version(name: str) -> str:
        if name == "peft":
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr("importlib.metadata.version", version)
    assert found("peft") == Check("peft", "missing; pip install tis_ray", True)


def test_an_optional_package_that_is_missing_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec

    def find_spec(name: str, *rest: Any) -> Any:
        return None if name == "datasets" else real(name, *rest)

    monkeypatch.setattr("importlib.util.find_spec", find_spec)
    check = found("datasets")
    assert not check.problem
    assert "only for sources on the hub; pip install 'tis_ray[hub]'" in check.found


def test_a_full_disk_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    real = doctor.shutil.disk_usage

    def usage(path: str) -> Any:
        return real(path)._replace(free=2**20)

    monkeypatch.setattr(doctor.shutil, "disk_usage", usage)
    assert found("disk").problem


@pytest.mark.ray
def test_a_cluster_that_is_there_is_used_and_not_stopped(ray_cluster: Any) -> None:
    assert "of the connected cluster" in try_ray()
    assert ray_cluster.is_initialized()


def test_what_is_installed_and_does_not_load_is_a_problem(tmp_path: Path) -> None:
    for name in ("ray", "torch"):
        (tmp_path / f"{name}.py").write_text(f"raise ImportError('{name} is broken')")
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])
    found = subprocess.run(
        [sys.executable, "-m", "tis_ray.cli", "doctor"],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    text = found.stdout + found.stderr
    assert found.returncode == 1
    assert "ray is broken" in text
    assert "torch is broken" in text
    assert "Traceback" not in text
