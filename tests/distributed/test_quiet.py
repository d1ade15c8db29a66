"""A host program keeps its environment and its loggers; of imports, `tests/test_contracts.py` says it."""

from __future__ import annotations

import logging
import os

import pytest

from tis_ray.distributed.quiet import ENVIRONMENT, LOGGERS, quiet_ray


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
