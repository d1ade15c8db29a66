from __future__ import annotations

import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import tis_ray
from tis_ray.errors import InputError
from tis_ray.selectors import SELECTORS, select
from tis_ray.selectors.ordering import Extent
from tis_ray.selectors.protocol import Layout, drive

SCORES = np.arange(12, dtype=np.float32).reshape(3, 4)


def needed(selector: str, shape: tuple[int, int]) -> dict[str, Any]:
    """Values for the parameters that have no default."""
    queries, candidates = shape
    values = {
        "features": np.eye(candidates, dtype=np.float32),
        "groups": range(queries),
        "lengths": range(candidates),
        "target": range(candidates),
    }
    return {name: values[name] for name in SELECTORS.own[selector].needed}


def refusal(*arguments, **params) -> str:
    with pytest.raises(InputError) as error:
        select(*arguments, **params)
    message = str(error.value)
    assert "\n" not in message
    return message


def test_unknown_selector_lists_the_known_and_suggests():
    message = refusal(SCORES, "round_robbin", 1)
    assert "'round_robbin' is unknown (did you mean 'round_robin'?)" in message
    assert "doubly_greedy, knn_kde" in message
    assert "did you mean" not in refusal(SCORES, "xyz", 1)


def test_unknown_parameter_is_refused():
    message = refusal(SCORES, "random", 1, sed=1)
    assert message == "random: parameter 'sed' is unknown (did you mean 'seed'?); known: seed"
    message = refusal(SCORES, "doubly_greedy", 1, seed=1)
    assert message == "doubly_greedy: parameter 'seed' is unknown; this selector takes none"


@pytest.mark.parametrize("selector", sorted(SELECTORS.own))
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_not_finite_is_refused_by_its_place(selector, value):
    scores_MN = np.zeros((3, 50))
    scores_MN[1, 7] = scores_MN[1, 9] = scores_MN[2, 0] = value
    name = "NaN" if np.isnan(value) else str(value)
    assert f"{name} for query 1, candidate 7:" in refusal(
        scores_MN, selector, 1, **needed(selector, (3, 50))
    )


@pytest.mark.parametrize(
    ("selector", "params"), [*((name, {}) for name in SELECTORS.own), ("uot", {"reg_m1": 1.0})]
)
def test_shards_hold_no_state_and_calls_travel(selector, params, same):
    """Any call may be answered by a new process: what a shard remembers only saves time."""
    scores_MN = np.random.default_rng(0).uniform(-0.2, 0.6, (6, 300))
    params = {**needed(selector, scores_MN.shape), **params}
    rule, bounds = SELECTORS.own[selector], [0, 60, 61, 300]

    def answer(calls):
        return [
            pickle.loads(pickle.dumps(one(*pickle.loads(pickle.dumps(call))))) for call in calls
        ]

    def one(shard, method, arguments):
        start, stop = bounds[shard : shard + 2]
        return getattr(rule.shard(scores_MN[:, start:stop], start), method)(*arguments)

    layout = Layout(6, tuple(np.diff(bounds).tolist()), Extent.of(scores_MN))
    same(
        drive(rule.rounds(layout, 200, params), answer),
        select(scores_MN, selector, 200, **params),
    )


@pytest.mark.parametrize("selector", sorted(SELECTORS.own))
def test_how_the_matrix_is_laid_out_in_memory_changes_nothing(selector, tmp_path, same):
    scores_MN = np.random.default_rng(0).uniform(-0.2, 0.6, (4, 90)).astype(np.float32)
    params = needed(selector, scores_MN.shape)
    expected = select(scores_MN, selector, 60, **params)
    np.save(tmp_path / "s.npy", scores_MN)
    for other in (
        np.load(tmp_path / "s.npy", mmap_mode="r"),
        np.asfortranarray(scores_MN),
        scores_MN.astype(">f4"),
        np.repeat(scores_MN, 2, axis=1)[:, ::2],
    ):
        same(select(other, selector, 60, **params), expected)


def test_a_parameter_without_default_is_asked_for():
    assert refusal(SCORES, "subtask", 1) == (
        "subtask: parameter 'groups' is missing; this selector requires it"
    )


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        (
            5,
            "budget 5 exceeds the pool of 4 usable candidates; lower the budget or enlarge the pool",
        ),
        (0, "budget 0 is too small; give at least 1 example"),
        (-3, "budget -3 is too small; give at least 1 example"),
        (1.5, "budget 1.5 is not a whole number of examples"),
        ("9", "budget '9' is not a whole number of examples"),
    ],
)
def test_bad_budget_is_refused(budget, message):
    assert refusal(SCORES, "round_robin", budget) == message


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (np.zeros(4), "has 1 dimension(s); expected 2"),
        (np.zeros((1, 2, 3)), "has 3 dimension(s); expected 2"),
        (np.zeros((0, 4)), "shape (0, 4) is empty"),
        (np.zeros((4, 0)), "shape (4, 0) is empty"),
        (np.zeros((2, 2), dtype=bool), "type bool is not float32 or float64"),
        (np.zeros((2, 2), dtype=complex), "type complex128 is not float32 or float64"),
        (np.array([["a"]]), "is not float32 or float64"),
        (np.array([[None]]), "type object is not float32 or float64"),
    ],
)
def test_what_is_no_score_matrix_is_refused(scores, message):
    assert message in refusal(scores, "round_robin", 1)


def test_input_is_not_changed():
    scores_MN = SCORES.copy()
    scores_MN.setflags(write=False)
    for selector in SELECTORS.own:
        select(scores_MN, selector, 4, **needed(selector, (3, 4)))
    np.testing.assert_array_equal(scores_MN, SCORES)


def test_selecting_imports_no_ray():
    code = "import sys, tis_ray; tis_ray.select; sys.exit('ray' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_select_is_public():
    assert tis_ray.select is select
