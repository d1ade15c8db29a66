"""What methods from outside get wrong is refused in one line, before it could spoil a result."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest

from tests.small import small_study
from tis_ray.config import parse_config
from tis_ray.errors import InputError
from tis_ray.methods import code_of
from tis_ray.metrics import METRICS
from tis_ray.metrics.spec import as_metric
from tis_ray.representations import Features
from tis_ray.section import Section
from tis_ray.selectors import SELECTORS, select
from tis_ray.selectors.ordering import Ordering
from tis_ray.stages.feature_recipe import _Checked
from tis_ray.study.labels import known_metrics
from tis_ray.study.run import run

WIDE = """
from dataclasses import dataclass
import numpy as np
from tis_ray.representations import Representation


class Nine:
    unusable = {}

    def scores(self, start, stop):
        return np.zeros((9, stop - start), np.float32)


@dataclass(frozen=True, kw_only=True)
class Wide(Representation):
    def scorer(self, settings, pool, queries):
        return Nine()


WIDE = Wide(name="wide", gives="scores", reads="text", cosines=False)
"""


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder whose modules can be imported, and are forgotten afterwards."""
    known = set(sys.modules)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in set(sys.modules) - known:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def problem(folder: Path, **changes: Any) -> str:
    raw = small_study(folder, **({"representation": "bm25"} | changes))
    with pytest.raises(InputError) as caught:
        parse_config(raw)
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("def rule(:", "SyntaxError"),
        ("raise KeyError('inside')", "KeyError: 'inside'"),
        ("import sys; sys.exit(3)", "SystemExit: 3"),
    ],
)
def test_a_module_that_cannot_be_imported_is_one_line(
    modules: Path, source: str, told: str
) -> None:
    (modules / "broken_rules.py").write_text(source)
    line = problem(modules, selector="broken_rules:rule")
    assert "selector 'broken_rules:rule': cannot be imported" in line
    assert told in line


@pytest.mark.parametrize("reference", [".rules:f", "./rules.py:f", ":f", "rules:", "a:b:c"])
def test_what_is_no_reference_is_told(tmp_path: Path, reference: str) -> None:
    assert "such as `my_pkg.rules:by_votes`" in problem(tmp_path, selector=reference)


def test_no_representation_takes_the_name_of_a_baseline(modules: Path) -> None:
    (modules / "named_rows.py").write_text(
        "class Random:\n    def features(self, rows, side): ...\n"
    )
    assert "the name 'random' is taken" in problem(modules, representation="named_rows:Random")


def test_settings_are_checked_where_they_stand(modules: Path) -> None:
    (modules / "set_rules.py").write_text("def rule(s, b, *, top: int): return range(b)\n")
    of = {"selector": "set_rules:rule"}
    assert "settings.rule: `top` is missing" in problem(modules, **of)
    line = problem(modules, **of, settings={"rule": {"top": 1, "topp": 2}})
    assert "settings.rule: `topp` is not a known key; did you mean `top`?" in line


def test_code_that_is_passed_on_counts_where_it_is_written(modules: Path) -> None:
    package = modules / "passing"
    package.mkdir()
    (package / "__init__.py").write_text("from passing.rules import rule\n")
    (package / "rules.py").write_text("def rule(s, b): return range(b)\n")
    before = SELECTORS.find("passing:rule").code
    (package / "rules.py").write_text("def rule(s, b): return range(b)[::-1]\n")
    assert before is not None
    assert code_of("passing", "rule", sys.modules["passing"].rule).source != before.source


SCORES_MN = np.random.default_rng(0).normal(size=(3, 20))


def ending_in(ordering: Any) -> type:
    class Rule:
        def __init__(self, scores_Mn: Any, offset: int) -> None:
            pass

        @staticmethod
        def coordinate(layout: Any, budget: int) -> Any:
            yield []
            return ordering

    return Rule


@pytest.mark.parametrize("found", [None, [0, 1], (0, 1)])
def test_a_class_must_end_in_an_ordering(found: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rule = SELECTORS.adapt(ending_in(found), "Rule")
    assert rule is not None
    with pytest.raises(InputError, match="Rule: returned"):
        select(SCORES_MN, rule, 2)


@pytest.mark.parametrize("indices", [[0], [0, 1, 2], [0, 20]])
def test_an_ordering_has_the_budget_and_known_candidates(indices: list[int]) -> None:
    nothing = np.zeros(len(indices))
    ordering = Ordering(np.array(indices), nothing, nothing.astype(np.int32), "Rule")
    rule = SELECTORS.adapt(ending_in(ordering), "Rule")
    assert rule is not None
    with pytest.raises(InputError, match="Rule: returned"):
        select(SCORES_MN, rule, 2)


def test_indices_with_scores_are_no_list_of_indices() -> None:
    with pytest.raises(InputError, match="return only a list"):
        select(SCORES_MN, lambda scores, budget: ([1, 2], scores[0]), 2)


UNIT_ECK = np.eye(4, dtype=np.float32)[:, None]


@pytest.mark.parametrize(
    ("values", "unusable", "told"),
    [
        (5 * UNIT_ECK, {}, "row 0 has length 5"),
        (np.where(UNIT_ECK == 1, np.nan, UNIT_ECK), {}, "row 0 has length nan"),
        (UNIT_ECK * [[[1]], [[1]], [[0]], [[1]]], {}, "row 2 has length 0"),
        (UNIT_ECK[:, 0], {}, "shape (4, 4)"),
        (UNIT_ECK[:3], {}, "for 4 rows"),
    ],
)
def test_features_are_checked(values: Any, unusable: dict[int, str], told: str) -> None:
    found = Features(values, unusable, {})
    made = _Checked(SimpleNamespace(features=lambda rows, side: found), "mine")
    with pytest.raises(InputError, match="mine: ") as caught:
        made.features([{}] * 4, "pool")
    assert told in str(caught.value)


def test_unusable_rows_may_be_zero_and_types_may_differ() -> None:
    values = UNIT_ECK * [[[1]], [[1]], [[0]], [[1]]]
    found = Features(values.astype(np.float16), {2: "no_word"}, {})
    assert found.checked(4, "mine") is found
    assert Features(np.zeros((0, 1, 4)), {}, {}).checked(0, "mine")


def test_features_must_be_features() -> None:
    made = _Checked(SimpleNamespace(features=lambda rows, side: UNIT_ECK), "mine")
    with pytest.raises(InputError, match="returned a ndarray"):
        made.features([{}] * 4, "pool")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_metric_gives_finite_values(value: float) -> None:
    metric = as_metric(lambda answer, references: value, "odd")
    assert metric is not None
    with pytest.raises(InputError, match="metric odd: "):
        metric.graded("an answer", ["one"], Section())


def test_a_share_lies_between_0_and_1() -> None:
    def percent(answer: str, references: Any) -> float:
        return 80.0

    counted = as_metric(percent, "percent")
    assert counted is not None
    assert counted.graded("an answer", ["one"], Section()).value == 80
    percent.share = True  # type: ignore[attr-defined]
    shared = as_metric(percent, "percent")
    assert shared is not None
    with pytest.raises(InputError, match="from 0 to 1"):
        shared.graded("an answer", ["one"], Section())
    assert METRICS.own["exact_match"].graded("one", ["one"], Section()).value == 1


@pytest.mark.parametrize("name", ["test_loss", "train_rows", "label", "f1_parse_failures"])
def test_no_metric_takes_the_place_of_a_result(modules: Path, name: str) -> None:
    (modules / "named_metrics.py").write_text(f"def {name}(answer, references): return 1.0\n")
    line = problem(modules, evaluation={"metrics": [f"named_metrics:{name}"]})
    assert f"metric name '{name}' is reserved for other results" in line


def test_settings_fit_every_method_of_their_name(modules: Path) -> None:
    (modules / "twice_named.py").write_text(
        "class Twin:\n    name = 'twin'\n    def features(self, rows, side): ...\n"
        "def twin(s, b, *, k: int = 2): return range(b)\n"
    )
    of = {"representation": "twice_named:Twin", "selector": "twice_named:twin"}
    assert "settings.twin: `k`" in problem(modules, **of, settings={"twin": {"k": 3}})


@pytest.mark.ray
def test_scores_have_a_row_for_every_query(ray_cluster: Any, modules: Path) -> None:
    (modules / "wide_scores.py").write_text(WIDE)
    raw = small_study(modules, representation="wide_scores:WIDE", tracking={"enabled": False})
    with pytest.raises(InputError, match=r"wide: scores have shape \(9, \d+\) for 4 queries"):
        run(parse_config(raw), until="select")


RULE = "def rule(scores_MN, budget):\n    return range({0}, {0} + budget)\n"


def test_a_file_that_changed_since_it_was_imported_is_refused(modules: Path) -> None:
    (modules / "edited_rule.py").write_text(RULE.format(0))
    SELECTORS.find("edited_rule:rule")
    (modules / "edited_rule.py").write_text(RULE.format(1))
    with pytest.raises(
        InputError, match="edited_rule was changed while it was in use; start again"
    ):
        SELECTORS.find("edited_rule:rule")


def test_code_in_a_zip_has_no_file_to_be_named_by(
    modules: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ZipFile(modules / "rules.zip", "w") as file:
        file.writestr("zipped_rule.py", RULE.format(0))
    monkeypatch.syspath_prepend(str(modules / "rules.zip"))
    with pytest.raises(
        InputError, match="'zipped_rule:rule': the code of zipped_rule is in no file"
    ):
        SELECTORS.find("zipped_rule:rule")


def test_code_that_was_typed_in_has_no_file_to_be_named_by() -> None:
    typed = f"""{RULE.format(0)}
import numpy as np
from tis_ray.selectors import select
print(select(np.zeros((2, 4)), rule, 2).indices.tolist())
select(np.zeros((2, 4)), "__main__:rule", 2)
"""
    done = subprocess.run(
        [sys.executable, "-"], input=typed, capture_output=True, text=True, check=False
    )
    assert done.stdout == "[0, 1]\n"  # a function that is handed over needs no name
    assert "'__main__:rule': the code of __main__ is in no file" in done.stderr


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("*, w: Sequence = ()", "type of its setting `w` is not there at run time"),
        ("*, w: np.ndarray = None", "its settings cannot stand in a config: "),
        ("*, model_config: int = 1", "its settings cannot stand in a config: "),
    ],
)
def test_settings_that_no_config_can_hold_are_one_line(
    modules: Path, text: str, reason: str
) -> None:
    (modules / "odd_settings.py").write_text(
        "from __future__ import annotations\n"
        "from typing import TYPE_CHECKING\nimport numpy as np\n"
        "if TYPE_CHECKING:\n    from collections.abc import Sequence\n"
        f"def rule(scores_MN: Sequence, budget, {text}):\n    return range(budget)\n"
    )
    with pytest.raises(InputError) as caught:
        SELECTORS.find("odd_settings:rule")
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["row", "id"])
def test_no_column_replaces_what_names_a_row(name: str) -> None:
    features = Features(np.ones((2, 1, 1), np.float32), {}, {name: np.zeros(2)})
    with pytest.raises(InputError, match=f"a column of features is called '{name}'"):
        features.checked(2, "mine")


def test_a_broken_package_is_passed_over_by_those_who_do_not_use_it(modules: Path) -> None:
    installed = modules / "broken-1.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1\n")
    (installed / "entry_points.txt").write_text(
        f"[{METRICS.group}]\nbroken = no_such_module:METRIC\n"
    )
    assert "broken" in METRICS.names
    assert {metric.name for metric in METRICS.usable()} == set(METRICS.own)
    assert set(known_metrics(["exact_match"])) == set(METRICS.own)
    with pytest.raises(InputError, match="cannot be imported"):
        METRICS.find("broken")


def test_two_methods_that_look_alike_are_refused(modules: Path) -> None:
    np.save(modules / "S.npy", np.zeros((2, 2)))
    given = {"one": {"scores": str(modules / "S.npy"), "label": "Random"}}
    with pytest.raises(InputError, match="'one' and 'random' are both labelled 'Random'"):
        parse_config(small_study(modules, representation=["less", "one"], given=given))
