"""What a config says of methods is used and fits, or it is refused before anything is computed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.small import small_study
from tis_ray.config import parse_config
from tis_ray.errors import InputError
from tis_ray.study.labels import legend_of
from tis_ray.study.sample import methods_of

OWN = '''
def rule(scores, budget, *, top: int = 1):
    """Any."""
    return range(budget)


def given(scores, budget):
    """Any."""
    return range(budget)


class Cheap:
    """Rows by something."""

    name = "cheap"

    class Settings(__import__("tis_ray.section", fromlist=["Section"]).Section):
        floor: float = 0.5

    def __init__(self, build): ...

    def features(self, rows, side): ...
'''


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The module above, which can be imported as `own_methods`."""
    (tmp_path / "own_methods.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("own_methods", None)


def problem(folder: Path, **changes: Any) -> str:
    with pytest.raises(InputError) as caught:
        parse_config(small_study(folder, **changes))
    line = str(caught.value)
    assert "\n" not in line
    return line


READY = {"ordering": "mine.parquet", "name": "ready"}


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {"given": {"S": {"scores": "S.npy"}}},
            "given.S: not used; `representation` has less; add it there, or leave it out",
        ),
        (
            {"selector_for": {"embed": "uot"}},
            "selector_for.embed: not used; `representation` has less; add it there",
        ),
        (
            {"representation": READY, "selector_for": {"ready": "uot"}},
            "selector_for.ready: a ready ordering needs no selector; leave it out",
        ),
        (
            {"representation": READY, "selector": ["round_robin", "uot"]},
            "selector: round_robin, uot: not used, since every representation has its own in",
        ),
        (
            {"selector": "uot", "selector_for": {"less": "knn_kde"}},
            "selector: uot: not used, since every representation has its own in",
        ),
        (
            {"settings": {"rule": {}}},
            "settings.rule: not used; methods of this study from outside the package: none; ours",
        ),
        (
            {"selector": "own_methods:rule", "settings": {"rule": {}, "rul": {}}},
            "settings.rul: not used; methods of this study from outside the package: rule; ours",
        ),
        ({"selector_for": {"less": []}}, "`selector_for.less`: give at least one value"),
        ({"selector_for": {"less": ["uot", "uot"]}}, "`selector_for.less`: a value is given twice"),
        ({"evaluation": {"metrics": ["f1", "f1"]}}, "`evaluation.metrics`: a value is given twice"),
        ({"selector": "own_methods:given"}, "the name 'given' is taken; rename it"),
        (
            {
                "representation": "own_methods:Cheap",
                "selector_for": {"own_methods:Cheap": "uot", "cheap": "uot"},
            },
            "`selector_for`: found 'cheap', expected one of",
        ),
    ],
)
def test_what_no_method_of_the_study_takes_is_refused(
    own: None, tmp_path: Path, changes: dict[str, Any], line: str
) -> None:
    assert line in problem(tmp_path, **changes)


def test_a_selector_that_some_representation_needs_is_used(tmp_path: Path) -> None:
    changes = {"representation": ["less", "rds"], "selector_for": {"less": "uot"}}
    config = parse_config(small_study(tmp_path, selector="knn_kde", **changes))
    assert [config.selectors(name) for name in config.representation] == [["uot"], ["knn_kde"]]


# ---- files -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "line"),
    [
        ({"scoress": "S.npy"}, "representation: `scoress` is not a known key; did you mean `sco"),
        (
            {"scores": "S.npy", "zzz": 1},
            "`zzz` is not a known key; known keys: scores, features, queries, ordering, label, cos",
        ),
        ({"scores": 5}, "representation: `scores`: Input should be a valid string; found 5"),
        ({"scores": ""}, "representation: `scores`: String should have at least 1 character"),
        ({"scores": "S.npy", "name": 5}, "representation: `name`: found 5; give text"),
    ],
)
def test_files_in_the_list_of_representations_are_checked_there(
    tmp_path: Path, files: dict[str, Any], line: str
) -> None:
    assert line in problem(tmp_path, representation=["less", files])


def test_given_that_is_no_section_is_one_line(tmp_path: Path) -> None:
    line = problem(tmp_path, representation=[READY], given=5)
    assert "`given`: Input should be a valid dictionary; found 5" in line
    line = problem(tmp_path, given={"a": {"scoress": "S.npy"}}, representation="a")
    assert "`given.a.scoress` is not a known key; did you mean `scores`?" in line


def test_a_ready_ordering_is_called_as_it_was_named(tmp_path: Path) -> None:
    from tis_ray.analysis import Method

    named = {"ordering": "a.parquet", "name": "my_own"}
    labelled = {"ordering": "b.parquet", "label": "By hand"}
    config = parse_config(small_study(tmp_path, representation=[named, labelled]))
    legend = legend_of(config)
    assert legend.method(Method("my_own", "given")) == "my_own"
    assert legend.method(Method("b", "given")) == "By hand"


# ---- cascades --------------------------------------------------------------------------------


def with_cascade(by: str) -> dict[str, Any]:
    return {"less": {"cascade": {"by": by}}}


def test_a_method_that_only_a_cascade_uses_has_settings(own: None, tmp_path: Path) -> None:
    raw = with_cascade("own_methods:Cheap") | {"settings": {"cheap": {"floor": 0.25}}}
    config = parse_config(small_study(tmp_path, **raw))
    assert [method.name for method in methods_of(config)] == ["cheap", "less"]
    assert [method.name for method in config.outside()] == ["cheap"]
    assert legend_of(config).representation("cheap") == "cheap"
    (cheap,) = config.outside()
    assert config.settings_of(cheap).floor == 0.25
    wrong = raw | {"settings": {"cheap": {"flor": 0.25}}}
    assert "settings.cheap: `flor` is not a known key; did you mean" in problem(tmp_path, **wrong)


def test_files_may_be_the_cheap_one_of_a_cascade(tmp_path: Path) -> None:
    raw = with_cascade("mine") | {"given": {"mine": {"scores": "S.npy"}}}
    config = parse_config(small_study(tmp_path, **raw))
    assert [method.name for method in methods_of(config)] == ["mine", "less"]


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (with_cascade("embd"), "less.cascade.by: representation 'embd' is unknown (did you mean"),
        (with_cascade("less"), "less.cascade.by: less does not score the whole pool"),
        (
            {**with_cascade("mine"), "given": {"mine": {"ordering": "o.parquet"}}},
            "less.cascade.by: mine does not score the whole pool",
        ),
    ],
)
def test_a_cascade_is_by_something_that_scores_the_pool(
    tmp_path: Path, changes: dict[str, Any], line: str
) -> None:
    assert line in problem(tmp_path, **changes)


# ---- features --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {"representation": ["less", "bm25"], "constraints": {"radius": 0.1}},
            "constraints.radius compares pool rows with each other and needs their features; bm25",
        ),
        (
            {"representation": ["less", READY], "constraints": {"radius": 0.1}},
            "constraints.radius compares features, and ready is a ready ordering without any",
        ),
        (
            {"representation": "bm25", "selector": "knn_kde"},
            "selector: knn_kde compares pool rows with each other",
        ),
        (
            {"less": {"scoring": "stream"}, "selector": "knn_kde"},
            "less keeps none (set less.scoring to `store` if it has that, or drop selector: knn_kde)",
        ),
    ],
)
def test_what_needs_features_is_refused_where_there_are_none(
    tmp_path: Path, changes: dict[str, Any], line: str
) -> None:
    assert line in problem(tmp_path, **changes)
