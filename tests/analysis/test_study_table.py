"""Means, intervals, verdicts and the table they make."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tis_ray import analysis
from tis_ray.analysis import Cell, holm, mean_interval, paired_comparison
from tis_ray.errors import InputError

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
    comparison = paired_comparison([0.3], [0.5], lower_is_better=True)
    assert (comparison.verdict, comparison.p_value) == ("cannot tell", None)
    assert comparison.difference == pytest.approx(-0.2)


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


def test_no_true_difference_gives_a_verdict_in_5_of_100_studies():
    rng = np.random.default_rng(1)
    noise = rng.normal(0, 0.05, (4000, 2, 3)) + rng.normal(0, 1, (4000, 1, 3))  # seeds shared
    verdicts = [paired_comparison(a, b, lower_is_better=True).verdict for a, b in noise.tolist()]
    assert 0.035 < np.mean([v != "cannot tell" for v in verdicts]) < 0.065
    assert np.mean([v == "better" for v in verdicts]) < 0.05  # false alarms: about half of them


@given(lists, st.data())
def test_swapping_sides_mirrors_the_comparison(values, data):
    others = data.draw(st.lists(floats, min_size=len(values), max_size=len(values)))
    there = paired_comparison(values, others, lower_is_better=True)
    back = paired_comparison(others, values, lower_is_better=True)
    mirror = {"better": "worse", "worse": "better", "cannot tell": "cannot tell"}
    assert back.difference == pytest.approx(-there.difference)
    assert back.verdict == mirror[there.verdict]
    assert (back.p_value is None) == (there.p_value is None)
    if there.low is not None and there.high is not None:
        assert (back.low, back.high) == pytest.approx((-there.high, -there.low))


@given(lists, st.data())
def test_flipping_the_direction_of_the_metric_flips_the_verdict(values, data):
    others = data.draw(st.lists(floats, min_size=len(values), max_size=len(values)))
    low = paired_comparison(values, others, lower_is_better=True).verdict
    high = paired_comparison(values, others, lower_is_better=False).verdict
    assert {low, high} in ({"better", "worse"}, {"cannot tell"})


@given(lists, st.data())
def test_verdict_agrees_with_the_interval(values, data):
    others = data.draw(st.lists(floats, min_size=len(values), max_size=len(values)))
    comparison = paired_comparison(values, others, lower_is_better=True)
    if comparison.low is not None and comparison.high is not None:
        excludes_zero = comparison.low > 0 or comparison.high < 0
        assert (comparison.verdict != "cannot tell") == excludes_zero


@given(lists)
def test_identical_runs_cannot_be_told_apart(values):
    comparison = paired_comparison(values, values, lower_is_better=True)
    assert (comparison.difference, comparison.p_value) == (0.0, 1.0)
    assert comparison.verdict == "cannot tell"
    assert comparison.low is None


def test_equal_nonzero_differences_are_judged_by_the_sign_test():
    three = paired_comparison([0.40, 0.55, 0.35], [0.45, 0.60, 0.40], lower_is_better=True)
    assert (three.verdict, three.low, three.p_value) == ("cannot tell", None, 0.25)
    assert "same difference" in three.note
    six = paired_comparison([0.4] * 6, [0.5] * 6, lower_is_better=True)
    assert (six.verdict, six.p_value) == ("better", 2**-5)


def test_rounding_noise_is_not_spread():
    values = [0.1 + 0.2, 0.3, 0.3]
    assert mean_interval(values).low is None
    assert paired_comparison(values, 0.3, lower_is_better=True).verdict == "cannot tell"


def test_sides_of_different_length_do_not_pair():
    with pytest.raises(ValueError, match="pair"):
        paired_comparison([1.0, 2.0], [1.0], lower_is_better=True)


def test_holm_matches_a_worked_example_and_keeps_the_order():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


def test_rows_pair_with_random_by_seed_not_by_position():
    method = cells_of("less", "round_robin", 100, [0.30, 0.51, 0.39])
    random = cells_of("random", "random", 100, [0.40, 0.60, 0.50])[::-1]
    (_, row) = summarise([*method, *random])
    versus = row.metrics["test_loss"].vs_random
    assert versus.n == 3
    assert versus.difference == pytest.approx(-0.1)
    assert (versus.low, versus.high) == pytest.approx(
        (-0.1 - T_2 * 0.01 / math.sqrt(3), -0.1 + T_2 * 0.01 / 3**0.5)
    )
    assert versus.verdict == "better"


def test_only_shared_seeds_are_paired_and_the_loss_is_said():
    method = cells_of("less", "round_robin", 100, [0.30, 0.51, 0.39])
    random = cells_of("random", "random", 100, [0.40, 0.60])
    row = summarise([*method, *random])[-1]
    versus = row.metrics["test_loss"].vs_random
    assert versus.n == 2
    assert "2 of 3 seeds" in versus.note
    assert row.metrics["test_loss"].baseline.mean == pytest.approx(0.5)


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


def test_verdicts_that_many_comparisons_explain_are_flagged():
    rng = np.random.default_rng(2)
    cells = cells_of("random", "random", 100, rng.normal(0.5, 0.01, 4).tolist())
    for i in range(30):
        cells += cells_of("less", f"s{i}", 100, rng.normal(0.5, 0.01, 4).tolist())
    rows = summarise(cells)[1:]
    called = [r for r in rows if r.metrics["test_loss"].vs_random.verdict != "cannot tell"]
    assert called, "with this seed some noise reaches p < 0.05"
    assert all("many_comparisons" in [f.code for f in r.flags] for r in called)


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
