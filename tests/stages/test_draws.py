"""Draws: what a method selects from when it selects anew."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest

import tis_ray as tis
from tests.small import small_study
from tis_ray.config import parse_config
from tis_ray.errors import InputError
from tis_ray.selectors import select
from tis_ray.settings import DrawsConfig
from tis_ray.stages.draws import Draw, draws_of
from tis_ray.store.score_matrix import ScoreMatrix

ROWS = np.arange(20_000)


def draws(count: int, **changes: str) -> list[Draw]:
    return draws_of(DrawsConfig(count=count, **changes))


def test_halves_are_halves_and_any_two_share_half() -> None:
    kept = [draw.kept(ROWS) for draw in draws(4)]
    assert all(abs(each.mean() - 0.5) < 0.015 for each in kept)
    shared = [(a & b).mean() for i, a in enumerate(kept) for b in kept[:i]]
    assert all(abs(share - 0.25) < 0.015 for share in shared)
    neighbours = [(each[1:] & each[:-1]).mean() for each in kept]
    assert all(abs(share - 0.25) < 0.015 for share in neighbours)


def test_folds_share_no_row_and_leave_none() -> None:
    kept = np.stack([draw.kept(ROWS) for draw in draws(5, pool="folds")])
    assert (kept.sum(axis=0) == 1).all()
    assert all(abs(each.mean() - 0.2) < 0.015 for each in kept)


def test_a_row_is_in_or_out_whatever_else_could_be_scored() -> None:
    some = np.array([3, 17, 4000, 19_999])
    for draw in draws(3):
        assert (draw.kept(some) == draw.kept(ROWS)[some]).all()


def test_queries_are_drawn_with_replacement_within_their_source() -> None:
    sources = ["a"] * 12 + ["b"] * 3
    for draw in draws(6):
        chosen = draw.chosen(sources)
        assert [sources[place] for place in chosen] == sources
        assert (np.diff(chosen) >= 0).all()
    assert any(len(set(draw.chosen(sources).tolist())) < 15 for draw in draws(3))
    assert draws(2, queries="whole")[1].chosen(sources).tolist() == list(range(15))


def test_what_cannot_vary_or_is_no_number_of_draws_is_refused(tmp_path) -> None:
    for bad, words in (
        ({"count": 3, "pool": "whole", "queries": "whole"}, "would select the same"),
        ({"count": 1}, "greater than or equal to 2"),
        (1, "greater than or equal to 2"),
        ("x", "draws"),
        (True, "draws"),
    ):
        with pytest.raises(InputError, match=words):
            parse_config(small_study(tmp_path, draws=bad))
    assert parse_config(small_study(tmp_path, draws=0)).draws is None
    assert parse_config(small_study(tmp_path, draws=3)).draws == DrawsConfig(count=3)


@pytest.mark.ray
def test_each_draw_selects_what_the_rule_selects_from_its_part(ray_cluster, tmp_path) -> None:
    config = small_study(
        tmp_path, representation="embed", selector=["round_robin", "uot"], budget=[4, 8], draws=2
    )
    result = tis.run(config)
    scores = ScoreMatrix(next((tmp_path / "artifacts").glob("scores-embed-*")))
    scores_MN = scores.read(np.arange(len(scores.columns_N)))
    sources = ["reverse_word"] * len(scores.queries_M)
    made = list((tmp_path / "artifacts").glob("ordering-embed-*"))
    tables = [pq.read_table(folder / "ordering.parquet") for folder in made]
    for draw in draws(2):
        kept, chosen = draw.kept(scores.columns_N), draw.chosen(sources)
        for rule in ("round_robin", "uot"):
            expected = select(scores_MN[chosen][:, kept], rule, 8)
            rows = scores.columns_N[kept][expected.indices].tolist()
            assert rows in [table["index"].to_pylist() for table in tables]
    drawn = [cell for cell in result.cells if cell.draw is not None]
    assert len(drawn) == 2 * 2 * 2  # selectors, budgets, draws
    assert {cell.seed for cell in drawn} == {0}
    assert len(result.orderings) == 2  # those of the study itself
    assert {path.name for path in (result.run_dir / "orderings").iterdir()} == {
        "embed-round_robin",
        "embed-uot",
    }
    rows = {len(cell.rows["test_loss"]) for cell in result.cells}
    assert rows == {6}
    for cell in result.cells:
        assert set(cell.rows) == {"test_loss", "query_loss", "exact_match"}
        for name, values in cell.rows.items():
            assert np.mean(values) == pytest.approx(cell.metrics[name], rel=1e-9, abs=1e-12)
    again = tis.run(config)
    assert [cell.with_rows() for cell in again.cells] == [c.with_rows() for c in result.cells]
