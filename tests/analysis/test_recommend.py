"""Recommendations: what pilots with known answers must be told."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from tis_ray.analysis import Cell, Method, summarise
from tis_ray.analysis.recommend import Recommendation
from tis_ray.analysis.recommend import recommend as pure_recommend
from tis_ray.analysis.study_pairs import method_pairs
from tis_ray.analysis.winners import winners
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
    best = found.best
    assert best.method == RR
    random = [c for c in cells if c["selector"] == "random"]
    x, y = (np.log([c[key] for c in random]) for key in ("budget", "test_loss"))
    at_400 = float(np.exp(np.polyval(np.polyfit(x, y, 1), np.log(400))))
    assert best.expected == pytest.approx(at_400 * (1 - np.exp(-0.2)))
    assert found.extrapolated
    assert (found.seeds, found.tasks, found.budgets) == (4, 1, (50, 100, 200))


def test_the_error_is_the_luck_of_each_budget_by_its_weight_in_the_line() -> None:
    """On the metric's own scale, where no logarithm can be taken."""
    cells = [
        cell | {"test_loss": np.log(cell["test_loss"])}
        for cell in pilot({RR: {50: 0.9, 100: 0.8, 200: 0.7}}, noise=0.05)
    ]
    assert min(cell["test_loss"] for cell in cells) < 0
    found = recommend({"t": cells}, 150, pool_rows=10_000)
    by = {
        (selector, budget): np.array(
            [c["test_loss"] for c in cells if (c["selector"], c["budget"]) == (selector, budget)]
        )
        for selector in ("random", "round_robin")
        for budget in (50, 100, 200)
    }
    x = np.log2([50, 100, 200]) - np.log2(150)
    differences = [by["random", b].mean() - by["round_robin", b].mean() for b in (50, 100, 200)]
    line = stats.linregress(x, differences)
    assert found.best.expected == pytest.approx(line.intercept)
    weights = [stats.linregress(x, unit).intercept for unit in np.eye(3)]
    errors = [by["random", b].std(ddof=1) * np.sqrt(1 + 1 / 4) for b in (50, 100, 200)]
    half = stats.t.ppf(0.975, 3) * (np.abs(weights) @ errors)
    assert (found.best.low, found.best.high) == pytest.approx(
        (line.intercept - half, line.intercept + half)
    )


def null_pilot(
    draw: np.random.Generator, tasks: int, seeds: int
) -> dict[str, list[dict[str, Any]]]:
    """Two methods that are random ones, the subsets of each nested: its luck is nearly the same everywhere."""
    pilots = {}
    for task in range(tasks):
        luck = {method: draw.normal(0, 0.1) for method in (RR, EMBED)}
        cells = []
        for budget in (50, 100, 200):
            for seed in range(seeds):
                own = {m: lucky + 0.03 * draw.normal() for m, lucky in luck.items()}
                own[Method("random", "random")] = draw.normal(0, 0.1) + 0.03 * draw.normal()
                facts = {"budget": budget, "seed": seed}
                cells += [{**m.to_json(), **facts, "test_loss": np.exp(y)} for m, y in own.items()]
        pilots[f"task{task}"] = cells
    return pilots


@pytest.mark.parametrize("budget", [100, 150, 400])
@pytest.mark.parametrize(("tasks", "seeds"), [(1, 3), (1, 5), (3, 3)])
def test_a_method_that_is_random_is_recommended_in_at_most_5_of_100(tasks, seeds, budget) -> None:
    draw, tries, used = np.random.default_rng(tasks + seeds), 300, 0
    for _ in range(tries):
        found = recommend(null_pilot(draw, tasks, seeds), budget, pool_rows=10_000)
        used += found.choice is not None
    assert used / tries <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / tries)


def test_at_a_budget_of_the_pilot_it_says_what_the_table_says() -> None:
    for seed in range(20):
        cells = pilot({RR: {100: 0.15}, EMBED: {100: 0.05}}, noise=0.01, seed=seed)
        found = recommend({"t": cells}, 100, pool_rows=10_000)
        rows = summarise([Cell.from_json(cell) for cell in cells])
        won = winners(rows, describe("test_loss"))
        assert (found.choice is not None) == bool(won)
        if won:
            assert found.best.method == won[0].method


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


def test_nothing_gained_is_not_told_from_random_as_good() -> None:
    cells = pilot({RR: {100: 0.0, 200: 0.0}}, noise=0.05, seed=1)
    found = recommend({"t": cells}, 150, pool_rows=10_000)
    assert (found.says, found.choice) == ("cannot tell", None)
    assert found.best.method == RR
    assert found.would_tell is not None
    for cell in cells:
        cell["test_loss"] = 1 + (cell["test_loss"] - 2) / 100
    close = recommend({"t": cells}, 150, pool_rows=10_000)
    assert (close.says, close.choice, close.would_tell) == ("random is as good", None, None)


def test_random_runs_that_are_all_alike_say_nothing_of_luck() -> None:
    cells = pilot({RR: {100: 0.5}})
    for cell in cells:
        if cell["selector"] == "random":
            cell["test_loss"] = 2.0
    for budget in (100, 300):
        found = recommend({"t": cells}, budget, pool_rows=10_000)
        assert (found.says, found.best.low, found.choice) == ("cannot tell", None, None)


def test_what_would_tell_would() -> None:
    """The asked number of seeds is the first that makes the interval of the same gain leave out zero."""
    cells = pilot({RR: {100: 0.12}}, noise=0.0, seeds=4, seed=3)
    found = recommend({"t": cells}, 120, pool_rows=10_000)
    assert found.says == "cannot tell"
    random = np.log([c["test_loss"] for c in cells if c["selector"] == "random"])
    s = random.std(ddof=1)
    gain = 0.12

    def tells(n: int) -> bool:
        return stats.t.ppf(0.975, n - 1) * s * np.sqrt(1 + 1 / n) < gain

    assert found.would_tell is not None
    expected = next((n for n in range(5, 31) if tells(n)), None)
    assert found.would_tell.seeds == expected


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


def test_the_order_of_pilots_changes_nothing() -> None:
    """Their seeds may differ in number: the fewest say how sure one may be."""
    few, many = (
        pilot({RR: {100: 0.3, 200: 0.3}}, 0.05, 2, seed=1),
        pilot({RR: {100: 0.3, 200: 0.3}}, 0.05, 9, seed=2),
    )
    one = recommend({"a": few, "b": many}, 150, pool_rows=10_000).best
    other = recommend({"b": many, "a": few}, 150, pool_rows=10_000).best
    assert (one.low, one.high) == pytest.approx((other.low, other.high))


def test_at_a_budget_of_the_pilot_methods_are_told_apart_as_in_the_study() -> None:
    """Also where the values of test rows say so, of which lines know nothing."""
    draw, seen = np.random.default_rng(0), set()
    for _ in range(60):
        cells = []
        level_R = draw.normal(1.0, 0.5, 12)
        for method in (Method("random", "random"), RR, EMBED):
            luck = draw.normal(0, 0.02)
            for s in range(4):
                luck = draw.normal(0, 0.02) if method.is_random else luck
                gain = {RR: 0.3, EMBED: 0.2}.get(method, 0.0)
                rows = (level_R + luck - gain + draw.normal(0, 0.1, 12)).tolist()
                cells.append(
                    Cell(
                        method,
                        100,
                        s,
                        {"test_loss": float(np.mean(rows))},
                        rows={"test_loss": rows},
                    )
                )
        found = pure_recommend(
            {"t": cells}, 100, pool_rows=10_000, metric=describe("test_loss"), preferred=PREFERRED
        )
        (pair,) = method_pairs(cells)
        assert pair.comparison.decided == (not found.alike)
        seen.add(pair.comparison.decided)
    assert seen == {True, False}
