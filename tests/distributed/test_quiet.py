"""A host program keeps its environment and its loggers."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys

import pytest

from tis_ray.distributed.quiet import ENVIRONMENT, LOGGERS, quiet_ray

IMPORTS = """
import json, logging, os
import mlflow, peft, ray.data, ray.train.torch, ray.tune, torch, transformers  # as a host may have

def state():
    loggers = logging.root.manager.loggerDict
    levels = {name: logger.level for name, logger in loggers.items() if hasattr(logger, "level")}
    return {"environment": dict(os.environ), "levels": levels, "root": logging.root.level}

before = state()
import tis_ray
import tis_ray.distributed.connect, tis_ray.distributed.submit, tis_ray.distributed.task
import tis_ray.study.doctor, tis_ray.study.price, tis_ray.study.run
after = state()
after["levels"] = {name: after["levels"][name] for name in before["levels"]}
print(json.dumps([before, after]))
"""


def test_importing_the_package_changes_no_variable_and_no_logger() -> None:
    unset = {name: value for name, value in os.environ.items() if name not in ENVIRONMENT}
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS], env=unset, capture_output=True, text=True, check=True
    )
    before, after = json.loads(done.stdout.splitlines()[-1])
    assert after == before


def levels() -> dict[str, int]:
    return {name: logging.getLogger(name).level for name in ("ray", *LOGGERS)}


def test_what_is_held_back_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also after an error; what the user has set is not touched."""
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "1")
    before = dict(os.environ), levels()
    wanted = {**ENVIRONMENT, "RAY_USAGE_STATS_ENABLED": "1"}
    with quiet_ray():
        assert {name: os.environ[name] for name in ENVIRONMENT} == wanted
        assert {name: logging.getLogger(name).level for name in LOGGERS} == LOGGERS
        logging.getLogger("ray").setLevel(logging.ERROR)  # as `ray.init` does
    assert (dict(os.environ), levels()) == before
    with pytest.raises(KeyError), quiet_ray():
        raise KeyError
    assert (dict(os.environ), levels()) == before
