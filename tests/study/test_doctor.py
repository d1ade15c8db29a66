"""The check-up names what is missing and what it is missing for."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from typing import Any

import pytest

from tis_ray.study import doctor
from tis_ray.study.doctor import Check, checks


@pytest.fixture(autouse=True)
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Starting Ray takes seconds and has a test of its own."""
    monkeypatch.setattr(doctor, "_ray", lambda: Check("ray task", "ran"))


def found() -> dict[str, Check]:
    return {check.name: check for check in checks()}


def test_a_whole_machine_has_no_problem() -> None:
    checked = found()
    assert not checked["torch"].problem
    assert not checked["ray task"].problem
    assert {"python", "cpu", "memory", "gpu", "disk"} <= checked.keys()


def test_a_required_package_that_is_missing_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.metadata.version

    def version(name: str) -> str:
        if name == "peft":
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr("importlib.metadata.version", version)
    assert found()["peft"] == Check("peft", "missing; pip install tis_ray", True)


def test_an_optional_package_that_is_missing_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec

    def find_spec(name: str, *rest: Any) -> Any:
        return None if name == "datasets" else real(name, *rest)

    monkeypatch.setattr("importlib.util.find_spec", find_spec)
    check = found()["datasets"]
    assert not check.problem
    assert "only for sources on the hub; pip install 'tis_ray[hub]'" in check.found


def test_a_full_disk_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    real = doctor.shutil.disk_usage

    def usage(path: str) -> Any:
        return real(path)._replace(free=2**20)

    monkeypatch.setattr(doctor.shutil, "disk_usage", usage)
    assert found()["disk"].problem


@pytest.mark.ray
def test_a_cluster_that_is_there_is_not_stopped(
    ray_cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    assert doctor._ray() == Check("ray task", "already connected")
    assert ray_cluster.is_initialized()
