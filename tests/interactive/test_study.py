"""`tis.Study` on a real study, in a process where Ray is up already."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

import tis_ray as tis
from tests.small import small_study
from tis_ray.errors import InputError
from tis_ray.finished.make_subset import choose

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def study(undisturbed: Path, tmp_path_factory: pytest.TempPathFactory) -> tis.Study:
    folder = tmp_path_factory.mktemp("interactive") / "study"
    shutil.copytree(undisturbed, folder, symlinks=True)
    return tis.Study(small_study(folder))


def test_it_reads_what_a_run_has_made_and_leaves_ray_up(study: tis.Study, ray_cluster) -> None:
    table = study.ordering("less+round_robin")
    file = study.run_dir / "orderings" / "less-round_robin" / "ordering.parquet"
    assert table["id"] == pq.read_table(file)["id"].to_pylist()
    assert table["rank"] == list(range(1, len(table) + 1))
    assert ray_cluster.is_initialized()


def test_scores_are_those_that_were_ranked(study: tis.Study) -> None:
    scores, ordering = study.scores(), study.ordering()
    assert scores.shape == (4, 160)
    frame = scores.to_pandas()
    for example, query, score in zip(
        ordering["id"], ordering["query_id"], ordering["score"], strict=True
    ):
        assert frame.loc[query, example] == np.float32(score)
    best = scores.best(1)
    assert best["score"] == np.asarray(scores).max(axis=1).tolist()
    assert ordering["id"][0] in best["candidate"]


def test_cells_results_and_comparisons(study: tis.Study) -> None:
    cells = study.cells
    assert cells["method"] == ["zero_shot", "zero_shot (no template)", "random", "less+round_robin"]
    compared = study.compare("less+round_robin", "random")
    losses = dict(zip(cells["method"], cells["test_loss"], strict=True))
    difference = dict(zip(compared["metric"], compared["difference"], strict=True))["test_loss"]
    assert difference == pytest.approx(losses["less+round_robin"] - losses["random"])
    assert set(study.results["method"]) == set(cells["method"])


def test_what_was_made_once_is_read_and_not_run_again(study: tis.Study) -> None:
    study.run()
    starts = (study.run_dir / "events.jsonl").read_text().count('"start"')
    assert starts > 0
    for ask in (study.scores, study.ordering, lambda: study.cells, lambda: study.figures):
        ask()
    assert (study.run_dir / "events.jsonl").read_text().count('"start"') == starts
    first = study._result("report").made
    assert any(folder.name.startswith("store-less-") for folder in first)
    study.run()  # where nothing has changed, it is read from what the run has left
    assert study._result("report").made == first


def test_figures_are_those_of_the_page(study: tis.Study, tmp_path: Path) -> None:
    figure = study.figures["composition"]
    assert figure.save(tmp_path / "c.svg").read_text() == figure.svg
    assert "<svg" in figure._repr_html_()
    assert study.page.is_file()


def test_everything_shows_itself(study: tis.Study) -> None:
    for shown in (study, study.preview(1), study.cells, study.scores(), study.figures):
        assert repr(shown)
        assert "<" in shown._repr_html_()
    explained = study.explain(study.ordering()["id"][0])
    assert "rank 1" in repr(explained)
    assert "<pre" in explained._repr_html_()


def test_a_run_folder_is_a_study_too(study: tis.Study) -> None:
    again = tis.Study(study.run_dir)
    assert again.config.run_dir == study.config.run_dir
    assert again.methods == ["less+round_robin"]


def test_what_is_not_there_is_refused_with_what_is(study: tis.Study) -> None:
    with pytest.raises(tis.InputError, match=r"method: found 'rds', expected one of less\+round"):
        study.ordering("rds")
    with pytest.raises(tis.InputError, match="representation: found"):
        study.scores("rds")


def test_a_file_of_several_studies_is_asked_by_name(tmp_path: Path) -> None:
    several = tis.Study(small_study(tmp_path), grid={"finetune.learning_rate": [1e-3, 2e-3]})
    assert len(several.studies) == 2
    with pytest.raises(tis.InputError, match=r"2 studies; ask one of them, `study.studies\["):
        several.ordering()


def test_changes_are_fields_by_dotted_names(tmp_path: Path) -> None:
    config = tis.Study(small_study(tmp_path), budget=[5, 10], **{"less.seed": 3}).config
    assert config.budget == [5, 10]
    assert config.less.seed == 3
    assert tis.Study(config, **{"data.max_length": 64}).config.data.max_length == 64
    with pytest.raises(tis.InputError, match=r"less\.sed"):
        tis.Study(config, **{"less.sed": 3})


def test_a_selector_that_draws_is_asked_for_by_its_seed(study: tis.Study) -> None:
    drawn = tis.Study(study.config, name="drawn", selector="length_matched", seed=[0, 1])
    with pytest.raises(tis.InputError, match=r"there are less\+length_matched-seed-0, .*say which"):
        drawn.ordering()
    for asked in ("less+length_matched-seed-1", "less-length_matched-seed-1"):
        assert drawn.ordering(asked)["rank"][0] == 1
        assert len(drawn.subset(5, asked)) == 5
    with pytest.raises(tis.InputError, match=r"found 'less\+length_matched-seed-7'"):
        drawn.ordering("less+length_matched-seed-7")


def words(folder: Path, name: str, **changes: Any) -> tis.Study:
    """Return a study that trains nothing, of a pool and queries in files."""
    config = small_study(folder, representation="bm25", **changes)
    config["data"] |= {
        "pool": {"path": str(folder / "pool.jsonl")},
        "query": {"path": str(folder / f"{name}.jsonl")},
    }
    return tis.Study(config)


def written(path: Path, prefix: str, count: int, word: str) -> None:
    rows = [
        {
            "id": f"{prefix}{n}",
            "prompt": f"{word} number {n} {'and so on ' * (n % 7)}",
            "response": "yes",
        }
        for n in range(count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_two_studies_of_one_name_give_each_its_own(ray_cluster, tmp_path: Path) -> None:
    written(tmp_path / "pool.jsonl", "p", 40, "alpha")
    written(tmp_path / "one.jsonl", "a", 4, "alpha")
    written(tmp_path / "two.jsonl", "b", 3, "number 7")
    one, two = words(tmp_path, "one"), words(tmp_path, "two", budget=[5, 20])
    for study, prefix, queries in ((one, "a", 4), (two, "b", 3), (one, "a", 4)):
        ordering, scores = study.ordering(), study.scores()
        assert {name[0] for name in ordering["query_id"]} == {prefix}
        assert scores.shape[0] == queries
        assert [name[0] for name in scores.queries] == [prefix] * queries
        rows = study.subset(5)
        assert rows["id"] == ordering["id"][:5]
        assert f"pulled by query {prefix}" in repr(study.explain(ordering["id"][0]))
    with pytest.raises(InputError, match="at most 12"):
        one.subset(15)


def test_scores_keep_their_ids_when_the_pool_changes_and_a_run_looks_again(
    ray_cluster, tmp_path: Path
) -> None:
    written(tmp_path / "pool.jsonl", "p", 40, "alpha")
    written(tmp_path / "one.jsonl", "a", 4, "alpha")
    study = words(tmp_path, "one")
    before = study.scores().best(1)
    written(tmp_path / "pool.jsonl", "z", 30, "beta")
    assert study.scores().best(1)["candidate"] == before["candidate"]
    with pytest.raises(InputError, match="has changed"):
        study.subset(3)
    study.run("select")
    assert {name[0] for name in study.ordering()["id"]} == {"z"}
    assert len(study.subset(3)) == 3
    shutil.rmtree(tmp_path / "artifacts")
    assert {name[0] for name in study.ordering()["id"]} == {"z"}


def test_a_run_folder_has_one_selection_and_the_config_that_made_it(
    ray_cluster, tmp_path: Path
) -> None:
    written(tmp_path / "pool.jsonl", "p", 40, "alpha")
    written(tmp_path / "one.jsonl", "a", 4, "alpha")
    words(tmp_path, "one", selector=["round_robin", "doubly_greedy"]).run("select")
    study = words(tmp_path, "one").run("select")
    links = sorted(path.name for path in (study.run_dir / "orderings").iterdir())
    assert links == ["bm25-round_robin"]
    kept = (study.run_dir / "config.yaml").read_text()
    with pytest.raises(InputError, match="budget"):
        words(tmp_path, "one", budget=5000).run("select")
    assert (study.run_dir / "config.yaml").read_text() == kept
    assert len(tis.Study(study.run_dir).subset(3)) == 3


def test_a_study_stays_where_it_was_opened(
    ray_cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "pool.jsonl", "p", 40, "alpha")
    written(tmp_path / "one.jsonl", "a", 4, "alpha")
    study = words(Path(), "one", runs="runs", artifacts="artifacts")
    chosen = study.subset(3)["id"]
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert study.run_dir == tmp_path / "runs" / "small"
    again = tis.Study("../runs/small")
    assert again.run_dir == study.run_dir
    assert again.subset(3)["id"] == study.subset(3)["id"] == chosen
    assert again.subset(3).write("here.jsonl").files == [tmp_path / "elsewhere" / "here.jsonl"]
    assert not (tmp_path / "elsewhere" / "runs").exists()


def test_what_cannot_be_asked_for_is_said(study: tis.Study, tmp_path: Path) -> None:
    for wrong, message in (
        (lambda: study.run("nope"), "nope"),
        (lambda: study.figures["nope"], "nope"),
        (lambda: study.ordering()["nope"], "nope"),
        (lambda: study.figures["composition"].save(tmp_path / "c.gif"), ".svg, .pdf, .png"),
        (lambda: tis.Study(5), "found int"),
        (lambda: study.price("nope"), "price: found 'nope'"),
        (lambda: study.preview(-1), "preview: found -1"),
        (lambda: study.preview("2"), "preview: found '2'"),  # type: ignore[arg-type]
        (lambda: study.subset("less+round_robin", 20), "budget: found 'less"),  # type: ignore[arg-type]
        (lambda: study.ordering(20), "method: found 20"),  # type: ignore[arg-type]
        (lambda: study.scores().best(-1), "best: found -1"),
        (lambda: study.compare("random", "random"), "both are random"),
        (lambda: study.compare("less", "less-round_robin"), r"both are less\+round_robin"),
    ):
        with pytest.raises(InputError, match=message):
            wrong()
    assert "Study" in dir(tis)


def test_what_can_be_judged_at_once_starts_nothing(
    study: tis.Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = tis.Study(study.config, name="fresh")
    monkeypatch.setattr("tis_ray.study.run.run", None)
    for wrong in (
        lambda: fresh.subset(0),
        lambda: fresh.subset(10**6),
        lambda: fresh.compare("random", "random"),
        lambda: fresh.ordering("nope"),
    ):
        with pytest.raises(InputError):
            wrong()


def test_a_selector_of_the_users_own_has_the_names_of_config_and_files(
    ray_cluster, tmp_path: Path
) -> None:
    written(tmp_path / "pool.jsonl", "p", 30, "word")
    written(tmp_path / "query.jsonl", "q", 3, "question")
    own = "examples.extend.votes:by_votes"
    mine = words(tmp_path, "query", selector=["round_robin", own], budget=[5])
    assert mine.methods == ["bm25+round_robin", "bm25+by_votes"]
    first = mine.ordering(f"bm25+{own}")["id"]
    for asked in ("bm25+by_votes", "bm25-by_votes"):
        assert mine.ordering(asked)["id"] == first
    assert mine.subset(3, f"bm25+{own}")["id"] == first[:3]
    for asked in (f"bm25+{own}", "bm25+by_votes", "bm25-by_votes"):
        chosen = choose(mine.config.run_dir, mine.config, asked, 3)
        assert chosen.table["id"].to_pylist() == first[:3]
    with pytest.raises(InputError, match="found 'bm25', expected one of"):
        mine.ordering("bm25")
