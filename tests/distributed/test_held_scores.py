from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tis_ray.distributed import held_scores as stage
from tis_ray.distributed.held_scores import ShardRef, hold_scores, select_distributed
from tis_ray.errors import InputError
from tis_ray.selectors import SELECTORS, select
from tis_ray.selectors.kernel import Kernel
from tis_ray.selectors.protocol import Call
from tis_ray.store.score_matrix import open_scores

pytestmark = pytest.mark.ray


def write_shards(folder: Path, scores_MN: np.ndarray, bounds: list[int]) -> list[ShardRef]:
    folder.mkdir(exist_ok=True)
    shards = []
    for start, stop in pairwise(bounds):
        path = folder / f"{start:05d}.npy"
        np.save(path, scores_MN[:, start:stop])
        shards.append(ShardRef(str(path), start, stop))
    return shards


def near_equal_queries() -> np.ndarray:
    """Queries that want the same candidates, so that lists run out and are asked for again."""
    rng = np.random.default_rng(0)
    scores_MN = rng.standard_normal(600) + 0.1 * rng.standard_normal((9, 600))
    return np.round(scores_MN, 1).astype(np.float32)


ONE_SHARD, UNEVEN, EVEN = [0, 600], [0, 1, 200, 599, 600], [0, 100, 200, 300, 400, 500, 600]


@pytest.mark.parametrize(
    ("selector", "bounds", "actors"),
    [
        ("round_robin", ONE_SHARD, 1),
        ("round_robin", UNEVEN, 2),
        ("round_robin", EVEN, 3),
        ("doubly_greedy", UNEVEN, 2),
        ("doubly_greedy", EVEN, 4),
        ("random", UNEVEN, 2),
    ],
)
def test_actors_and_shards_do_not_change_the_ordering(
    ray_cluster, tmp_path, selector, bounds, actors
):
    scores_MN = near_equal_queries()
    shards = write_shards(tmp_path, scores_MN, bounds)
    ordering = select_distributed(shards[::-1], selector, 450, actors)
    expected = select(scores_MN, selector, 450)
    assert ordering.to_table().equals(expected.to_table(), check_metadata=True)
    assert ordering.scores.dtype == expected.scores.dtype


def needed(selector: str, shape: tuple[int, int]) -> dict[str, Any]:
    """Values for the parameters that have no default."""
    queries, candidates = shape
    rng = np.random.default_rng(1)
    values = {
        "features": np.eye(candidates, dtype=np.float32)[rng.integers(0, 200, candidates)],
        "groups": ["ab"[i % 2] for i in range(queries)],
        "lengths": rng.integers(1, 50, candidates),
        "target": rng.integers(1, 50, candidates),
    }
    return {name: values[name] for name in SELECTORS.own[selector].needed}


def test_scores_held_once_serve_every_selector(ray_cluster, tmp_path):
    scores_MN = near_equal_queries()
    shards = write_shards(tmp_path, scores_MN, UNEVEN)
    with hold_scores(shards, 2) as scores:
        for name in [*SELECTORS.own, "uot", "round_robin"]:
            params = needed(name, scores_MN.shape)
            expected = select(scores_MN, name, 450, **params)
            found = scores.select(name, 450, **params)
            assert found.to_table().equals(expected.to_table(), check_metadata=True), name
        with pytest.raises(InputError, match="budget 601 exceeds the pool of 600"):
            scores.select("uot", 601)
        with pytest.raises(InputError, match="parameter 'regg' is unknown"):
            scores.select("uot", 5, regg=1.0)
        assert scores.select("doubly_greedy", 600).prefix(3).indices.tolist() == (
            select(scores_MN, "doubly_greedy", 3).indices.tolist()
        )


def test_files_are_opened_once_and_what_a_selector_remembered_goes_with_it(tmp_path, monkeypatch):
    scores_MN = near_equal_queries()
    (ref,) = write_shards(tmp_path, scores_MN, ONE_SHARD)
    opened = []

    def open_and_count(path):
        opened.append(path)
        return open_scores(path)

    monkeypatch.setattr(stage, "open_scores", open_and_count)
    holder = stage._ShardHolder({0: ref})
    assert holder.facts()[0].shape == (9, 600)
    first, second = stage._Run(1, "uot", None), stage._Run(2, "doubly_greedy", None)
    kernel = Kernel(np.zeros(9), 1.0, 0.0, 9, False)
    about = Call(0, "pulled_by", (kernel, np.zeros(9), np.array([3])))
    holder.answer(first, [about])
    remembered = holder.shards[0]
    holder.answer(first, [about])
    assert holder.shards[0] is remembered
    holder.answer(second, [Call(0, "pulled_by", (np.arange(5),))])
    assert type(holder.shards[0]) is SELECTORS.own["doubly_greedy"].shard
    assert opened == [ref.path]


def test_pages_of_large_files_are_given_back(tmp_path, monkeypatch):
    """Mapped pages count as memory of the actor."""
    scores_MN = np.zeros((4, 4_000_000), dtype=np.float32)
    scores_MN[2, 77] = 1
    refs = dict(enumerate(write_shards(tmp_path, scores_MN, [0, 2_000_000, 4_000_000])))
    best = Call(0, "top", (np.array([2]), np.array([1]), np.empty(0, dtype=np.int64)))
    held = {}
    for most in (0, 2**30):
        monkeypatch.setattr(stage, "RESIDENT_BYTES", most)
        holder, before = stage._ShardHolder(refs), mapped_bytes()
        assert holder.facts()[1].extent.highest_M.tolist() == [0, 0, 0, 0]
        (reply,) = holder.answer(stage._Run(1, "round_robin", None), [best])
        assert reply.indices.tolist() == [77]
        held[most] = mapped_bytes() - before
    assert held[0] < 0.6 * scores_MN.nbytes < 0.9 * scores_MN.nbytes < held[2**30]


def mapped_bytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssFile"))


@pytest.mark.parametrize("selector", list(SELECTORS.own))
def test_actors_killed_in_the_middle_do_not_change_the_ordering(
    ray_cluster, tmp_path, monkeypatch, selector
):
    """Before they are asked, and with the answers of the round still under way."""
    scores_MN = near_equal_queries()
    shards = write_shards(tmp_path, scores_MN, [0, 50, 300, 600])
    params = needed(selector, scores_MN.shape)
    ask, receive = stage._ask, stage._receive
    rounds, pool = [], []

    def ask_and_kill(actors, run, calls):
        rounds.append(calls)
        pool[:] = actors
        if len(rounds) == 2:
            ray_cluster.kill(actors[1], no_restart=False)
        return ask(actors, run, calls)

    def kill_and_receive(futures):
        if len(rounds) in (1, 3, 4):
            for actor in pool:
                ray_cluster.kill(actor, no_restart=False)
        return receive(futures)

    with hold_scores(shards, 2) as scores:
        monkeypatch.setattr(stage, "_ask", ask_and_kill)
        monkeypatch.setattr(stage, "_receive", kill_and_receive)
        ordering = scores.select(selector, 600, **params)
    # Those that draw at random ask nothing.
    fewest = {"random": 0, "length_matched": 0, "round_robin": 3, "uot": 4}
    assert len(rounds) >= fewest.get(selector, 2)
    expected = select(scores_MN, selector, 600, **params)
    assert ordering.to_table().equals(expected.to_table(), check_metadata=True)


def test_first_score_that_is_not_finite_is_named_as_on_one_machine(ray_cluster, tmp_path):
    scores_MN = near_equal_queries()
    scores_MN[4, 10] = scores_MN[2, 570] = scores_MN[2, 580] = np.nan
    shards = write_shards(tmp_path, scores_MN, [0, 300, 600])
    with pytest.raises(InputError) as whole:
        select(scores_MN, "round_robin", 10)
    with pytest.raises(InputError) as sharded:
        select_distributed(shards, "round_robin", 10, 2)
    assert str(sharded.value) == str(whole.value)
    assert "query 2, candidate 570" in str(whole.value)


def test_budget_beyond_the_pool_is_refused(ray_cluster, tmp_path):
    shards = write_shards(tmp_path, near_equal_queries(), [0, 300, 600])
    with pytest.raises(InputError, match="budget 601 exceeds the pool of 600"):
        select_distributed(shards, "round_robin", 601, 2)


def test_shards_that_do_not_fit_together_are_refused(ray_cluster, tmp_path):
    scores_MN = near_equal_queries()
    first, second = write_shards(tmp_path, scores_MN, [0, 300, 600])
    with pytest.raises(InputError, match="next column needed is 300"):
        select_distributed([first, ShardRef(second.path, 301, 601)], "round_robin", 1, 1)
    with pytest.raises(InputError, match="the pool is empty"):
        select_distributed([], "round_robin", 1, 1)
    with pytest.raises(InputError, match=r"expected float32 \(9, 299\)"):
        select_distributed([first, ShardRef(second.path, 300, 599)], "round_robin", 1, 1)
    (other,) = write_shards(tmp_path / "other", scores_MN.astype(np.float64), [0, 600])
    with pytest.raises(InputError, match="holds float64"):
        select_distributed([first, ShardRef(other.path, 300, 900)], "round_robin", 1, 1)
    missing = ShardRef(str(tmp_path / "gone.npy"), 300, 600)
    with pytest.raises(InputError, match=r"gone\.npy does not exist") as error:
        select_distributed([first, missing], "round_robin", 1, 2)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("bounds", [ONE_SHARD, UNEVEN])
def test_a_part_of_the_candidates_is_selected_from_as_if_it_were_all(ray_cluster, tmp_path, bounds):
    """Every selector that needs nothing else, queries repeated; an empty shard takes part too."""
    scores_MN = near_equal_queries() + np.random.default_rng(1).normal(0, 0.01, (9, 600)).astype(
        "f4"
    )
    kept_N = np.random.default_rng(2).random(600) < 0.5
    kept_N[1:200] = False  # a whole shard of the uneven ones
    queries = [0, 0, 3, 5, 5, 5, 8]
    part_MN = scores_MN[queries][:, kept_N]
    names = [
        s.name
        for s in SELECTORS.own.values()
        if not set(s.parameters) & {"features", "groups", "target", "lengths", "seed"}
    ]
    assert {"round_robin", "doubly_greedy", "uot", "knn_uniform"} <= set(names)
    with hold_scores(write_shards(tmp_path, scores_MN, bounds), 2) as held:
        part = held.part(kept_N)
        for name in names:
            found = part.select(name, 60, queries=queries)
            expected = select(part_MN, name, 60)
            assert found.to_table().equals(expected.to_table()), name
        again = held.select("round_robin", 60)
        assert again.to_table().equals(select(scores_MN, "round_robin", 60).to_table())
