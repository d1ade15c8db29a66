"""Means, intervals, verdicts and the table they make."""

import math

import numpy as np
import pytest
from hypothesis import strategies as st

from tis_ray import analysis
from tis_ray.analysis import Cell, Legend, holm, mean_interval
from tis_ray.analysis.winners import winners
from tis_ray.errors import InputError
from tis_ray.metrics.description import describe

LOSS = describe("test_loss")
T_2 = 0.95 / math.sqrt(2 * 0.975 * 0.025)  # t(0.975) with 2 degrees of freedom, closed form
floats = st.floats(-100, 100).map(lambda v: round(v, 6))
lists = st.lists(floats, min_size=2, max_size=8)


def summarise(cells, **more):
    return analysis.summarise([Cell.from_json(cell) for cell in cells], **more)


def cells_of(representation, selector, budget, values, metric="test_loss", **facts):
    return [
        {"representation": representation, "selector": selector, "budget": budget, "seed": seed}
        | {metric: value}
        | facts
        for seed, value in enumerate(values)
    ]


def zero_shot(**metrics):
    return {"representation": "zero_shot", "selector": None, "budget": 0, "seed": None} | metrics


def test_interval_matches_the_textbook_example():
    interval = mean_interval([1.0, 2.0, 3.0])
    half = T_2 / math.sqrt(3)
    assert interval.mean == 2.0
    assert interval.n == 3
    assert (interval.low, interval.high) == pytest.approx((2 - half, 2 + half), rel=1e-12)


def test_one_seed_has_no_interval_and_no_verdict():
    assert mean_interval([0.3]).low is None
    assert "one seed" in mean_interval([0.3]).note
    cells = cells_of("less", "uot", 100, [0.3]) + cells_of("random", "random", 100, [0.5])
    versus = summarise(cells)[-1].metrics["test_loss"].vs_random
    assert (versus.verdict, versus.p_value, versus.low) == ("cannot tell", None, None)
    assert versus.difference == pytest.approx(-0.2)
    assert versus.note == "one seed: no interval"


@pytest.mark.parametrize("values", [[], [1.0, math.nan], [math.inf]])
def test_values_that_are_not_finite_are_refused(values):
    with pytest.raises(ValueError, match="finite"):
        mean_interval(values)


def test_interval_covers_the_true_mean_in_95_of_100_studies():
    rng = np.random.default_rng(0)
    for n in (2, 3, 5):
        samples = rng.normal(0.4, 0.1, (4000, n))
        intervals = [mean_interval(row) for row in samples.tolist()]
        share = np.mean([i.low <= 0.4 <= i.high for i in intervals])
        assert 0.935 < share < 0.965  # 4 standard errors either side


def test_holm_matches_a_worked_example_and_keeps_the_order():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


def test_a_subset_is_judged_by_the_spread_of_random_not_by_its_own():
    method, others = [0.300, 0.301, 0.302], [0.40, 0.60, 0.50]
    cells = cells_of("less", "round_robin", 100, method)
    random = cells_of("random", "random", 100, others)[::-1]
    versus = summarise([*cells, *random])[-1].metrics["test_loss"].vs_random
    half = T_2 * 0.1 * math.sqrt(1 + 1 / 3)  # random's prediction interval
    assert (versus.n, versus.better, versus.worse, versus.question) == (3, 3, 0, "subset")
    assert versus.difference == pytest.approx(0.301 - 0.5)
    assert (versus.low, versus.high) == pytest.approx((-0.199 - half, -0.199 + half))
    assert versus.verdict == "cannot tell"
    further = cells_of("less", "round_robin", 100, [value - 0.35 for value in method])
    assert summarise([*further, *random])[-1].metrics["test_loss"].vs_random.verdict == "better"


def test_draws_are_the_methods_own_and_stay_out_of_the_means_over_seeds():
    cells = cells_of("less", "uot", 100, [0.30, 0.31, 0.32])
    cells += cells_of("random", "random", 100, [0.50, 0.51, 0.53])
    drawn = cells_of("less", "uot", 100, [0.40, 0.44, 0.36])
    cells += [cell | {"draw": cell["seed"], "seed": 0} for cell in drawn]
    summary = summarise(cells)[-1].metrics["test_loss"]
    assert (summary.value.n, summary.value.mean) == (3, pytest.approx(0.31))
    assert summary.drawn.mean == pytest.approx(0.40)
    versus = summary.method_vs_random
    random = np.var([0.50, 0.51, 0.53], ddof=1)
    half = T_2 * math.sqrt(0.04**2 * (1 + 1 / 3) + random / 3)
    difference = 0.40 - np.mean([0.50, 0.51, 0.53])
    assert (versus.question, versus.n) == ("method", 3)
    assert (versus.low, versus.high) == pytest.approx((difference - half, difference + half))
    apart = summarise(cells, apart=True)[-1].metrics["test_loss"].method_vs_random
    half = T_2 * math.sqrt(0.04**2 / 3 + random / 3)
    assert apart.high == pytest.approx(difference + half)
    with pytest.raises(InputError, match="draw 0 twice"):
        summarise([*cells, cells[-3]])


def test_a_method_with_fewer_seeds_than_random_is_judged_all_the_same():
    method = cells_of("less", "round_robin", 100, [0.30])
    random = cells_of("random", "random", 100, [0.40, 0.61, 0.47])
    versus = summarise([*method, *random])[-1].metrics["test_loss"].vs_random
    assert (versus.n, versus.better) == (3, 1)
    assert versus.low is not None


def test_random_at_another_budget_is_no_baseline():
    cells = cells_of("less", "uot", 100, [0.3, 0.4]) + cells_of("random", "random", 50, [0.5, 0.6])
    assert summarise(cells)[-1].metrics["test_loss"].vs_random is None


def test_exact_match_is_better_when_higher():
    cells = cells_of("less", "uot", 100, [0.6, 0.62, 0.61], "exact_match")
    cells += cells_of("random", "random", 100, [0.4, 0.41, 0.42], "exact_match")
    cells.append(zero_shot(exact_match=0.7))
    metric = summarise(cells)[-1].metrics["exact_match"]
    assert (metric.vs_random.verdict, metric.vs_zero_shot.verdict) == ("better", "worse")


def test_degenerate_cells_are_flagged():
    cells = cells_of(
        "less", "uot", 100, [0.6, 0.62, 0.61], train_rows=96, optimizer_steps=8, seconds=2.0
    )
    cells.append(zero_shot(test_loss=0.5))
    row = summarise(cells)[-1]
    messages = {flag.code: flag.message for flag in row.flags}
    assert messages["below_zero_shot"] == "test loss 0.61 is worse than zero-shot 0.5"
    assert messages["few_steps"] == "only 8 optimizer steps"
    assert messages["short_subset"] == "trained on 96 of 100 rows"


def test_what_is_alike_is_not_flagged_as_worse():
    cells = cells_of("less", "uot", 100, [0.500, 0.501, 0.502], train_rows=100, optimizer_steps=17)
    cells.append(zero_shot(test_loss=0.5))
    row = summarise(cells, legend=Legend(margins={"test_loss": 0.02}))[-1]
    assert row.metrics["test_loss"].vs_zero_shot.verdict == "alike"
    assert not row.flags


def test_a_run_without_a_step_is_flagged():
    (row,) = summarise(cells_of("less", "uot", 100, [0.3, 0.4], optimizer_steps=0))
    assert row.flags[0].message == "only 0 optimizer steps"


def test_a_sound_cell_has_no_flag():
    cells = cells_of("less", "uot", 100, [0.3, 0.31, 0.32], train_rows=100, optimizer_steps=17)
    assert summarise([*cells, zero_shot(test_loss=0.5)])[-1].flags == ()


def test_missing_and_nan_metrics_are_counted_never_averaged():
    row = summarise(cells_of("less", "uot", 100, [0.3, math.nan, None]))[0]
    assert row.metrics["test_loss"].value.n == 1
    assert row.metrics["test_loss"].value.mean == 0.3
    assert [f.message for f in row.flags] == ["test loss missing in 2 of 3"]


def test_one_broken_seed_is_flagged():
    cells = []
    for i, selector in enumerate("abcd"):
        cells += cells_of("less", selector, 100, [0.30 + i / 50, 0.31 + i / 50, 0.32 + i / 50])
    cells += cells_of("embed", "a", 100, [0.3, 0.9, 0.31])
    assert [f.code for f in summarise(cells)[-1].flags] == ["wide_spread"]


def test_verdicts_that_many_comparisons_explain_are_flagged_and_make_no_winner():
    random = [0.49, 0.50, 0.51] * 4
    far = 2.5 * np.std(random, ddof=1) * math.sqrt(1 + 1 / 12)  # t(0.975, 11) is 2.2
    cells = cells_of("random", "random", 100, random)
    for i in range(10):
        cells += cells_of("less", f"s{i}", 100, [0.5 - far * (i == 3)] * 12)
    rows = summarise(cells)[1:]
    called = [r for r in rows if r.metrics["test_loss"].vs_random.decided]
    assert [row.method.selector for row in called] == ["s3"]
    assert all("many_comparisons" in [f.code for f in r.flags] for r in called)
    assert winners(rows, describe("test_loss")) == []
    assert [row.method.selector for row in winners(summarise(cells[:12] + cells[48:60]), LOSS)] == [
        "s3"
    ]


def test_a_cell_given_twice_is_refused():
    cells = cells_of("less", "uot", 100, [0.3])
    with pytest.raises(InputError, match="seed 0 twice"):
        summarise(cells + cells)


def test_baselines_come_first_then_methods_by_appearance_and_budget():
    cells = cells_of("less", "uot", 500, [1.0]) + cells_of("embed", "uot", 100, [1.0])
    cells += cells_of("less", "uot", 100, [1.0]) + cells_of("random", "random", 100, [1.0])
    cells.append(zero_shot(test_loss=1.0))
    order = [(r.method.representation, r.budget) for r in summarise(cells)]
    assert order == [
        ("zero_shot", 0),
        ("random", 100),
        ("less", 100),
        ("less", 500),
        ("embed", 100),
    ]


def test_nothing_gives_an_empty_table():
    assert summarise([]) == []


def test_the_better_of_two_zero_shots_counts_metric_by_metric():
    cells = cells_of("less", "uot", 100, [0.6, 0.62, 0.61], exact_match=0.5)
    plain = {"representation": "zero_shot (no template)"}
    cells += [zero_shot(test_loss=0.7, exact_match=0.4)]
    cells += [zero_shot(test_loss=0.5, exact_match=0.1) | plain]
    rows = summarise(cells)
    names = ["zero_shot", "zero_shot (no template)", "less"]
    assert [row.method.representation for row in rows] == names
    assert all(m.vs_zero_shot is None for row in rows[:2] for m in row.metrics.values())
    loss, match = rows[-1].metrics["test_loss"], rows[-1].metrics["exact_match"]
    assert (loss.zero_shot, match.zero_shot) == (rows[1].method, rows[0].method)
    assert loss.vs_zero_shot.difference == pytest.approx(0.11)
    assert match.vs_zero_shot.difference == pytest.approx(0.1)
    messages = {f.code: f.message for f in rows[-1].flags}
    assert (
        messages["below_zero_shot"] == "test loss 0.61 is worse than zero-shot without template 0.5"
    )


def test_a_single_zero_shot_is_not_said_to_be_the_better_one():
    cells = [*cells_of("less", "uot", 100, [0.6, 0.62]), zero_shot(test_loss=0.7)]
    assert summarise(cells)[-1].metrics["test_loss"].zero_shot is None


def test_unreadable_answers_stand_beside_their_metric_and_are_flagged():
    cells = cells_of("less", "uot", 100, [0.1, 0.2], "gsm8k/numeric_match")
    cells[0]["gsm8k/numeric_match_parse_failures"] = 0.5
    cells[1]["gsm8k/numeric_match_parse_failures"] = 0.7
    (row,) = summarise(cells)
    assert list(row.metrics) == ["gsm8k/numeric_match"]
    assert row.metrics["gsm8k/numeric_match"].parse_failures == pytest.approx(0.6)
    (flag,) = [f for f in row.flags if f.code == "unreadable"]
    assert flag.message == "gsm8k: numeric match: 60% of the answers could not be read"
    for cell in cells:
        cell["gsm8k/numeric_match_parse_failures"] = 0.4
    assert "unreadable" not in {f.code for f in summarise(cells)[0].flags}
