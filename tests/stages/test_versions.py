"""Each stage has a version: raised when its results change, it gives what is made another name."""

from __future__ import annotations

import ast
import importlib
from dataclasses import replace
from pathlib import Path

import pytest

import tis_ray.stages
from tests.small import small_study
from tis_ray.config import parse_config
from tis_ray.methods import Method
from tis_ray.metrics import METRICS
from tis_ray.representations import REPRESENTATIONS
from tis_ray.selectors import SELECTORS
from tis_ray.stages import tokens
from tis_ray.store import read_manifest
from tis_ray.study.run import run

STAGES = sorted(Path(tis_ray.stages.__file__).parent.glob("*.py"))
BY_STAGE = {
    "rows": ("tokens", "ROWS_VERSION"),
    "tokens": ("tokens", "TOKENS_VERSION"),
    "screen": ("screen", "VERSION"),
    "features-less": ("featurize", "VERSION"),
    "scores-less": ("scores", "VERSION"),
    "ordering-less-round_robin": ("rank_pool", "VERSION"),
}
"""The stages before the cells, each with the module and the constant that hold its version."""


def artifacts(source: str) -> list[ast.Call]:
    """Return the calls that name an artifact."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return [c for c in calls if isinstance(c.func, ast.Name) and c.func.id == "Artifact"]


@pytest.mark.parametrize(
    "module",
    [path for path in STAGES if artifacts(path.read_text())],
    ids=lambda path: path.stem,
)
def test_an_artifact_carries_its_stage_s_version(module: Path) -> None:
    for call in artifacts(module.read_text()):
        version = ast.unparse(call.args[3])
        assert version.endswith("VERSION")
        found = getattr(importlib.import_module(f"tis_ray.stages.{module.stem}"), version)
        assert isinstance(found, int)


def test_rows_of_another_version_are_another_artifact(tmp_path, monkeypatch) -> None:
    config = parse_config(small_study(tmp_path))
    before = tokens.read_side(config, "query")
    monkeypatch.setattr(tokens, "ROWS_VERSION", 3)
    after = tokens.read_side(config, "query")
    assert after.path != before.path
    assert (before.manifest().version, after.manifest().version) == (2, 3)


@pytest.mark.ray
@pytest.mark.parametrize("stage", ["screen", "scores-less", "ordering-less-round_robin"])
def test_a_raised_version_makes_the_stage_anew(copied, monkeypatch, stage) -> None:
    """And what is made of it; what it is made of is used as it is."""
    module, name = BY_STAGE[stage]
    home = importlib.import_module(f"tis_ray.stages.{module}")
    there = {path.name for path in (copied / "artifacts").glob("*/")}
    monkeypatch.setattr(home, name, getattr(home, name) + 1)
    run(small_study(copied), until="select")
    fresh = {path for path in (copied / "artifacts").glob("*/") if path.name not in there}
    made = {read_manifest(path).stage: read_manifest(path).version for path in fresh}
    assert made[stage] == getattr(home, name)
    order = list(BY_STAGE)
    assert set(made) <= {*order[order.index(stage) :], "warmup", "subsets"}


@pytest.mark.parametrize(
    "method",
    [spec for kind in (REPRESENTATIONS, SELECTORS, METRICS) for spec in kind.own.values()],
    ids=lambda spec: spec.name,
)
def test_a_method_s_version_is_part_of_what_names_its_results(method: Method) -> None:
    settings = method.Settings()
    raised = replace(method, version=method.version + 1)
    assert raised.identity(settings) != method.identity(settings)
