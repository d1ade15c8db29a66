from __future__ import annotations

import math
import tracemalloc
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import logsumexp

from tests.properties import tries
from tests.selectors.strategies import tied_cosines
from tis_ray.errors import InputError
from tis_ray.selectors import select, sums, transport, uot
from tis_ray.selectors.ordering import Extent
from tis_ray.selectors.protocol import Layout, answer_locally, drive
from tis_ray.selectors.transport import Shard

INF = math.inf
PAPER = {"reg": 0.01, "reg_m1": INF, "reg_m2": 1e-4}


def masses(scores_MN: np.ndarray, **params) -> np.ndarray:
    """Return the column masses by index."""
    return by_index(select(scores_MN, "uot", scores_MN.shape[1], **params))


def by_index(ordering) -> np.ndarray:
    found = np.empty(len(ordering))
    found[ordering.indices] = ordering.scores
    return found


def iterations(scores_MN: np.ndarray, **params) -> int:
    """Return how often v was updated."""
    steps = 0

    def answer(calls):
        nonlocal steps
        steps += calls[0].method in ("sweep", "log_sweep")
        return answer_locally([Shard(scores_MN, 0)])(calls)

    queries, candidates = scores_MN.shape
    layout = Layout(queries, (candidates,), Extent.of(scores_MN))
    drive(uot.coordinate(layout, 1, **params), answer)
    return steps


def plan_of_pot(scores_MN: np.ndarray, limit: int = 1000, **params) -> tuple[np.ndarray, int]:
    """Return the plan and the number of iterations of the reference solver."""
    ot = pytest.importorskip("ot")
    problem = {**PAPER, **params}
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # "Numerical errors at iteration ..."
        plan, log = ot.unbalanced.sinkhorn_unbalanced(
            [],
            [],
            (1 - scores_MN.astype(np.float64)) / 2,
            problem["reg"],
            (problem["reg_m1"], problem["reg_m2"]),
            reg_type="kl",
            numItermax=limit,
            log=True,
        )
    return plan, len(log["err"])


def plain_log_masses(scores_MN: np.ndarray, reg: float, reg_m2: float, steps: int) -> np.ndarray:
    """Return log column masses after some steps, with an exact marginal of the queries."""
    rows, columns = scores_MN.shape
    log_kernel = (scores_MN - 1) / (2 * reg) - math.log(rows * columns)
    damping = reg_m2 / (reg_m2 + reg)
    log_v = np.zeros(columns)
    for _ in range(steps):
        log_u = -math.log(rows) - logsumexp(log_kernel + log_v, axis=1)
        log_sums = logsumexp(log_kernel + log_u[:, None], axis=0)
        log_v = damping * (-math.log(columns) - log_sums)
    return log_v + log_sums


def test_masses_and_order_equal_the_reference_in_float64(golden):
    scores_MN = golden["scores"].astype(np.float64)
    mine = masses(scores_MN)
    np.testing.assert_allclose(mine, golden["uot_column_mass"], rtol=1e-9)
    # The reference's ordering was made in float32: its own masses step up along it a little.
    along = mine[golden["uot"]]
    assert (along[1:] <= along[:-1] * (1 + 1e-5)).all()


def test_order_equals_the_reference_in_float32_up_to_rounding(golden):
    mine = masses(golden["scores"])
    assert iterations(golden["scores"]) <= iterations(golden["scores"].astype(np.float64))
    np.testing.assert_allclose(mine, golden["uot_column_mass"], rtol=1e-5)
    along = mine[golden["uot"]]
    assert (along[1:] <= along[:-1] * (1 + 1e-5)).all()
    np.testing.assert_array_equal(
        masses(golden["scores"], precision="float64"), masses(golden["scores"].astype(np.float64))
    )


@pytest.mark.parametrize("reg", [0.01, 0.02, 0.05])
@pytest.mark.parametrize("marginals", [(INF, 1e-4), (INF, 1e-2), (INF, INF), (1, 1), (1, 1e-4)])
@pytest.mark.parametrize("shape", [(1, 30), (7, 1), (40, 9), (6, 200), (25, 500)])
@pytest.mark.filterwarnings("ignore:uot. did not converge")  # neither has, then, after 1000
def test_masses_queries_and_iterations_equal_the_reference_solver(reg, marginals, shape):
    scores_MN = np.random.default_rng(shape[0]).uniform(-0.3, 0.6, shape)
    params = {"reg": reg, "reg_m1": marginals[0], "reg_m2": marginals[1]}
    plan, steps = plan_of_pot(scores_MN, **params)
    np.testing.assert_allclose(masses(scores_MN, **params), plan.sum(axis=0), rtol=1e-9)
    assert iterations(scores_MN, **params) == steps
    ordering = select(scores_MN, "uot", shape[1], **params)
    sent = plan[ordering.queries, ordering.indices]
    np.testing.assert_allclose(sent, plan.max(axis=0)[ordering.indices], rtol=1e-9)


@tries(60)
@given(
    seed=st.integers(0, 2**32),
    shape=st.tuples(st.integers(1, 40), st.integers(1, 120)),
    spread=st.sampled_from([0.01, 0.1, 0.9]),
    reg=st.floats(0.01, 0.05),
    reg_m2=st.floats(1e-4, 1e-2),
)
def test_any_matrix_gives_the_masses_of_the_reference_solver(seed, shape, spread, reg, reg_m2):
    scores_MN = np.random.default_rng(seed).uniform(-spread, spread, shape)
    plan, steps = plan_of_pot(scores_MN, reg=reg, reg_m2=reg_m2)
    mine = masses(scores_MN, reg=reg, reg_m2=reg_m2)
    np.testing.assert_allclose(mine, plan.sum(axis=0), rtol=1e-9)
    assert iterations(scores_MN, reg=reg, reg_m2=reg_m2) == steps
    assert mine.sum() == pytest.approx(1, rel=1e-2)


@pytest.mark.parametrize(
    "scores_MN",
    [
        np.ones((1, 1)),
        np.ones((3, 8)),
        # Costs below 0: u is tiny, and its changes do not count.
        np.random.default_rng(0).uniform(1.1, 1.6, (6, 70)),
        np.random.default_rng(0).uniform(0.9, 1.1, (6, 70)),
    ],
)
def test_the_stop_rule_counts_changes_below_one_absolutely(scores_MN):
    plan, steps = plan_of_pot(scores_MN)
    assert iterations(scores_MN) == steps
    np.testing.assert_allclose(masses(scores_MN), plan.sum(axis=0), rtol=1e-9)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_extreme_cosines_stay_exact(dtype):
    """A range of e^100 underflows float32; columns that no query likes keep their order."""
    scores_MN = np.random.default_rng(0).choice([-1.0, -0.5, 0.0, 1.0], (5, 80)).astype(dtype)
    scores_MN[:, 7] = -1
    scores_MN[:, 11] = [-1, -1, -1, -1, -0.5]
    plan, _ = plan_of_pot(scores_MN)
    np.testing.assert_allclose(masses(scores_MN), plan.sum(axis=0), rtol=1e-9)


@pytest.mark.parametrize(
    ("reg", "reg_m2"), [(1e-4, 1e-6), (1e-3, 1e-3), (0.002, 1e-5), (1e-5, 1e-7)]
)
def test_a_tiny_reg_goes_through_logarithms_and_does_not_underflow(reg, reg_m2):
    scores_MN = np.random.default_rng(1).uniform(-1, 1, (6, 90))
    steps = iterations(scores_MN, reg=reg, reg_m2=reg_m2)
    expected = plain_log_masses(scores_MN, reg, reg_m2, steps)
    ordering = select(scores_MN, "uot", 90, reg=reg, reg_m2=reg_m2)
    # Far more columns than exp(-745) can tell apart are in their right order.
    assert (np.diff(expected[ordering.indices]) < 1e-9).all()
    np.testing.assert_allclose(ordering.scores, np.exp(np.sort(expected)[::-1]), rtol=1e-9)


def test_both_ways_to_iterate_agree(golden, monkeypatch):
    scores_MN = golden["scores"].astype(np.float64)
    fused, steps = masses(scores_MN), iterations(scores_MN)
    monkeypatch.setattr(uot, "MODERATE", -1.0)
    np.testing.assert_allclose(masses(scores_MN), fused, rtol=1e-12)
    assert iterations(scores_MN) == steps


@tries(150)
@given(
    case=tied_cosines(),
    params=st.sampled_from(
        [{}, {"precision": "float64"}, {"reg": 0.2, "reg_m1": 1.0, "reg_m2": 1.0}, {"reg": 1e-3}]
    ),
)
def test_any_shards_equal_one_to_the_last_byte(case, params, select_sharded, same):
    scores_MN, cuts, budget = case
    whole = select(scores_MN, "uot", budget, **params)
    same(select_sharded(scores_MN, cuts, "uot", budget, **params), whole)
    same(whole, select(scores_MN, "uot", scores_MN.shape[1], **params).prefix(budget))
    assert (np.diff(whole.scores) <= 0).all()
    tied = np.diff(whole.scores) == 0
    assert (np.diff(whole.indices)[tied] > 0).all()


@pytest.mark.parametrize("bits", [28, 46, 48])
def test_sums_that_are_not_sure_are_counted_exactly(
    bits, golden, monkeypatch, select_sharded, same
):
    """With so many bits hardly a floating sum is sure, and with 28 hardly one is not."""
    monkeypatch.setattr(sums, "BITS", bits)
    scores_MN, exact = golden["scores"], []
    row_sums = Shard.row_sums

    def spy(self, kernel, potential_M, grid, rows=None):
        exact.extend([] if rows is None else rows)
        return row_sums(self, kernel, potential_M, grid, rows)

    monkeypatch.setattr(Shard, "row_sums", spy)
    whole = select(scores_MN, "uot", scores_MN.shape[1])
    for cuts in ([5, 6, 100], [50]):
        same(select_sharded(scores_MN, cuts, "uot", scores_MN.shape[1]), whole)
    in_float32 = np.ptp(scores_MN, axis=1).max() / 0.02 <= uot.REACH["float32"]
    assert len(exact) > 0 or bits == 28 or not in_float32
    np.testing.assert_allclose(by_index(whole), golden["uot_column_mass"], rtol=1e-5)


def test_a_step_that_was_taken_for_the_last_goes_on(monkeypatch, same):
    """The next error is guessed from the last two; with a guess of 0, no sums are ever ready."""
    scores_MN = np.random.default_rng(0).uniform(-0.3, 0.5, (8, 300))
    for dtype in (np.float32, np.float64):
        whole = select(scores_MN.astype(dtype), "uot", 300)
        with monkeypatch.context() as patch:
            patch.setattr(uot, "_guess", lambda *errors: 0.0)
            same(select(scores_MN.astype(dtype), "uot", 300), whole)


@tries(100)
@given(
    seed=st.integers(0, 2**32),
    shape=st.tuples(st.integers(1, 200), st.integers(1, 300)),
    spread=st.sampled_from([0.01, 0.1, 0.5]),
    reg_m2=st.sampled_from([0.0, 1e-5, 1e-4, 1e-3, 1e-2]),
)
def test_in_float32_masses_are_settled_where_the_iteration_ends(seed, shape, spread, reg_m2):
    """No mass is further from its limit than the bound that ended the iteration, and rounding."""
    rng = np.random.default_rng(seed)
    scores_MN = (spread * rng.uniform(-1, 1, shape)).astype(np.float32)
    params = {"reg_m2": reg_m2, "tolerance": 1e-5}
    limits = masses(scores_MN.astype(np.float64), reg_m2=reg_m2, tolerance=1e-12)
    found = masses(scores_MN, **params)
    np.testing.assert_allclose(found, limits, rtol=uot.SETTLED * params["tolerance"] + 1e-5)
    assert iterations(scores_MN, **params) <= iterations(scores_MN.astype(float), **params)


@tries(100)
@given(case=tied_cosines(), share=st.sampled_from([1e-3, 0.1, 0.5]))
def test_the_heaviest_of_the_likely_are_the_heaviest_of_all(case, share, select_sharded, same):
    """What shards do where they keep no kernels: masses of few columns, in any number of shards."""
    scores_MN, cuts, budget = case
    scores_MN = (scores_MN * 0.5).astype(np.float32)
    budget = min(budget, max(1, int(share * scores_MN.shape[1])))
    few = []
    likely = Shard._likely

    def spy(self, kernel, near, count):
        columns = likely(self, kernel, near, count)
        few.append(columns is not None)
        return columns

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(uot, "KEPT_BYTES", 0)
        patch.setattr(transport, "FEW", 0.0)
        whole = select(scores_MN, "uot", budget)
        patch.setattr(transport, "FEW", 1.0)
        patch.setattr(Shard, "_likely", spy)
        same(select(scores_MN, "uot", budget), whole)
        assert few == [True], "no column was ruled out before its mass was known"
        same(select_sharded(scores_MN, cuts, "uot", budget), whole)


@pytest.mark.parametrize("shards", [2, 3, 7])
def test_sharded_golden_equals_one_machine(golden, shards, select_sharded, same):
    scores_MN = golden["scores"]
    candidates = scores_MN.shape[1]
    cuts = np.random.default_rng(shards).integers(0, candidates, shards - 1).tolist()
    whole = select(scores_MN, "uot", candidates)
    same(select_sharded(scores_MN, cuts, "uot", candidates), whole)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_neither_the_block_width_nor_what_is_kept_changes_anything(
    golden, monkeypatch, same, dtype
):
    scores_MN = np.tile(golden["scores"], 2).astype(dtype)
    whole = select(scores_MN, "uot", scores_MN.shape[1])
    monkeypatch.setattr(uot, "KEPT_BYTES", 0)
    same(select(scores_MN, "uot", scores_MN.shape[1]), whole)
    monkeypatch.setattr("tis_ray.selectors.kernel.BLOCK_ENTRIES", 1)  # blocks of 256 columns
    same(select(scores_MN, "uot", scores_MN.shape[1]), whole)


@tries(40)
@given(case=tied_cosines(), seed=st.integers(0, 2**32))
def test_permuting_the_pool_permutes_the_masses_exactly(case, seed):
    scores_MN, _, _ = case
    order = np.random.default_rng(seed).permutation(scores_MN.shape[1])
    np.testing.assert_array_equal(masses(scores_MN[:, order]), masses(scores_MN)[order])


def test_a_constant_added_to_a_row_changes_no_mass():
    rng = np.random.default_rng(0)
    scores_MN = rng.uniform(-0.4, 0.4, (9, 300))
    shifted_MN = scores_MN + rng.uniform(-0.5, 0.5, (9, 1))
    np.testing.assert_allclose(masses(shifted_MN), masses(scores_MN), rtol=1e-12)


def test_equal_columns_have_equal_masses_and_go_by_index():
    scores_MN = np.repeat(np.random.default_rng(0).uniform(-0.4, 0.4, (6, 40)), 5, axis=1)
    ordering = select(scores_MN, "uot", 200)
    groups = ordering.indices.reshape(40, 5)
    np.testing.assert_array_equal(groups, 5 * (groups[:, :1] // 5) + np.arange(5))
    np.testing.assert_array_equal(np.ptp(ordering.scores.reshape(40, 5), axis=1), 0)


def test_equal_rows_share_the_mass_and_the_lowest_pulls():
    row = np.random.default_rng(0).uniform(-0.4, 0.4, 50)
    ordering = select(np.tile(row, (4, 1)), "uot", 50)
    assert set(ordering.queries) == {0}
    np.testing.assert_array_equal(ordering.indices, np.argsort(-row, kind="stable"))


def test_memory_is_a_few_blocks(tmp_path, monkeypatch):
    np.save(tmp_path / "s.npy", np.random.default_rng(0).random((40, 100_000), dtype=np.float32))
    scores_MN = np.load(tmp_path / "s.npy", mmap_mode="r")
    for kept, most in ((0, 0.8), (2**30, 1.8)):
        monkeypatch.setattr(uot, "KEPT_BYTES", kept)
        tracemalloc.start()
        ordering = select(scores_MN, "uot", 100)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert len(ordering) == 100
        assert peak < most * scores_MN.nbytes, "but for one copy of the scores where it is small"


def test_the_limit_warns_and_gives_what_the_reference_solver_gives():
    scores_MN = np.random.default_rng(0).uniform(-0.4, 0.4, (6, 50))
    for params in ({}, {"reg_m1": 1.0}):
        plan, _ = plan_of_pot(scores_MN, limit=2, **params)
        with pytest.warns(RuntimeWarning, match="did not converge in 2 iterations"):
            mine = masses(scores_MN, max_iterations=2, **params)
        np.testing.assert_allclose(mine, plan.sum(axis=0), rtol=1e-9)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"reg": 0.0}, "reg 0.0 must be a positive number"),
        ({"reg": math.nan}, "reg nan must be"),
        ({"reg_m1": -1.0}, "reg_m1 -1.0 must be at least 0"),
        ({"reg_m2": math.nan}, "reg_m2 nan must be at least 0"),
        ({"tolerance": -1.0}, "tolerance -1.0 must be"),
        ({"max_iterations": 0}, "max_iterations 0 must be at least 1"),
        ({"precision": "half"}, "precision 'half' is not one of scores, float64"),
    ],
)
def test_parameters_without_meaning_are_refused(params, message):
    with pytest.raises(InputError, match=message):
        select(np.zeros((2, 5)), "uot", 2, **params)
