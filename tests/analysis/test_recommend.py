"""Recommendations: what pilots with known answers must be told."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from tis_ray.analysis import Cell, Method
from tis_ray.analysis.recommend import Recommendation
from tis_ray.analysis.recommend import recommend as pure_recommend
from tis_ray.errors import InputError
from tis_ray.metrics.description import describe
from tis_ray.report.recommendation import preferred

PREFERRED = preferred()


def recommend(
    pilots: dict[str, list[dict[str, Any]]], budget: int, pool_rows: int, metric: str = "test_loss"
) -> Recommendation:
    cells = {task: [Cell.from_json(cell) for cell in found] for task, found in pilots.items()}
    return pure_recommend(
        cells, budget, pool_rows=pool_rows, metric=describe(metric), preferred=PREFERRED
    )


def pilot(
    gains: dict[Method, dict[int, float]],
    noise: float = 0.0,
    seeds: int = 4,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Cells whose log losses lie below random's by these gains, give or take noise."""
    draw = np.random.default_rng(seed)
    budgets = sorted({budget for found in gains.values() for budget in found})
    cells = []
    for budget in budgets:
        for s in range(seeds):
            base = 2.0 + 0.1 * draw.normal()
            facts = {"budget": budget, "seed": s}
            cells.append(
                {"representation": "random", "selector": "random", **facts, "test_loss": base}
            )
            for method, found in gains.items():
                loss = base * np.exp(noise * draw.normal() - found[budget])
                facts_of = {**method.to_json(), **facts}
                cells.append({**facts_of, "test_loss": loss})
    return cells


RR, UOT = Method("less", "round_robin"), Method("less", "uot")
EMBED = Method("embed", "round_robin")


def test_the_line_in_log_budget_is_found_exactly_without_noise() -> None:
    gains = {RR: {50: 0.5, 100: 0.4, 200: 0.3}, EMBED: {50: 0.1, 100: 0.1, 200: 0.1}}
    cells = pilot(gains)
    found = recommend({"t": cells}, 400, pool_rows=100_000)
    assert found.choice is not None
    assert found.choice.method == RR
    random = [c for c in cells if c["selector"] == "random"]
    x, y = (np.log([c[key] for c in random]) for key in ("budget", "test_loss"))
    at_400 = float(np.exp(np.polyval(np.polyfit(x, y, 1), np.log(400))))
    assert found.choice.expected == pytest.approx(at_400 * (1 - np.exp(-0.2)))
    assert found.extrapolated
    assert found.alike == ()
    assert (found.seeds, found.tasks, found.budgets) == (4, 1, (50, 100, 200))


def test_the_interval_is_that_of_ordinary_least_squares() -> None:
    """On the metric's own scale, where no logarithm can be taken, it is the textbook's."""
    cells = [
        cell | {"test_loss": np.log(cell["test_loss"])}
        for cell in pilot({RR: {50: 0.9, 100: 0.8, 200: 0.7}}, noise=0.05)
    ]
    assert min(cell["test_loss"] for cell in cells) < 0
    found = recommend({"t": cells}, 100, pool_rows=10_000)
    random = {(c["budget"], c["seed"]): c["test_loss"] for c in cells if c["selector"] == "random"}
    runs = [c for c in cells if c["selector"] == "round_robin"]
    x = np.log2([c["budget"] for c in runs])
    y = np.array([random[c["budget"], c["seed"]] - c["test_loss"] for c in runs])
    line = stats.linregress(x - np.log2(100), y)
    half = stats.t.ppf(0.975, len(x) - 2) * line.intercept_stderr
    assert found.best.expected == pytest.approx(line.intercept)
    assert (found.best.low, found.best.high) == pytest.approx(
        (line.intercept - half, line.intercept + half)
    )


@pytest.mark.parametrize("metric", ["test_loss", "exact_match"])
def test_the_interval_covers_the_truth_as_often_as_it_says(metric: str) -> None:
    """Lines on the scale without ends, noise that random and the method share in part."""
    draw, tries, hits = np.random.default_rng(0), 2000, 0
    ends = {"test_loss": np.exp, "exact_match": lambda y: 1 / (1 + np.exp(y))}
    back = ends[metric]
    truth = abs(back(0.2) - back(-0.4))  # both at budget 100
    for _ in range(tries):
        cells = []
        for budget in (50, 100, 200):
            for seed in range(4):
                base = 0.2 - 0.1 * np.log2(budget / 100) + 0.05 * draw.normal()
                other = base - 0.6 + 0.05 * draw.normal()
                for method, y in {Method("random", "random"): base, RR: other}.items():
                    facts = {**method.to_json(), "budget": budget, "seed": seed}
                    cells.append(facts | {metric: back(y)})
        found = recommend({"t": cells}, 100, pool_rows=10_000, metric=metric).best
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= truth <= found.high
    assert 0.935 <= hits / tries <= 0.965


def test_no_gain_is_larger_than_what_there_is_to_gain() -> None:
    cells = pilot({RR: {25: 0.5, 50: 2.0}}, noise=0.01)
    found = recommend({"t": cells}, 1600, pool_rows=100_000)
    random = np.mean([c["test_loss"] for c in cells if c["selector"] == "random"])
    assert 0.5 * random < found.best.expected < 2 * random


def test_among_equals_the_papers_finding_decides_by_the_size_of_the_budget() -> None:
    gains = {RR: {100: 0.30, 200: 0.30}, UOT: {100: 0.30, 200: 0.30}, EMBED: {100: 0.0, 200: 0.0}}
    for seed in range(5):
        cells = pilot(gains, noise=0.05, seed=seed)
        small = recommend({"t": cells}, 200, pool_rows=100_000)
        large = recommend({"t": cells}, 200, pool_rows=2_000)
        if {RR, UOT} <= {small.best.method, *small.alike}:
            assert small.choice is not None
            assert small.choice.method == RR
            assert large.choice is not None
            assert large.choice.method == UOT
            assert [small.by_prior, large.by_prior].count(True) == 1
            break
    else:
        pytest.fail("the pilots told equals apart five times")


def test_random_is_as_good_where_nothing_is_gained() -> None:
    cells = pilot({RR: {100: 0.0, 200: 0.0}}, noise=0.05, seed=1)
    found = recommend({"t": cells}, 150, pool_rows=10_000)
    assert found.choice is None
    assert found.best.method == RR


def test_tasks_count_as_runs_and_metrics_know_their_direction() -> None:
    tasks = {t: pilot({RR: {100: 0.3}}, 0.01, seed=i) for i, t in enumerate("abc")}
    found = recommend(tasks, 100, pool_rows=10_000)
    assert (found.tasks, found.best.runs) == (3, 12)
    for cells in tasks.values():
        for cell in cells:
            odds = cell["test_loss"]
            cell["exact_match"] = 1 / (1 + odds)
    better = recommend(tasks, 100, pool_rows=10_000, metric="exact_match")
    assert better.best.expected > 0
    assert (found.choice is None) == (better.choice is None)


def test_a_pilot_without_random_is_refused() -> None:
    cells = [c for c in pilot({RR: {100: 0.3}}) if c["selector"] != "random"]
    with pytest.raises(InputError, match="no cell has test_loss beside random"):
        recommend({"t": cells}, 100, pool_rows=1000)
