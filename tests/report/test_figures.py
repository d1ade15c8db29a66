"""Figures are complete, repeatable, and the same on the page and in files."""

import json
import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.report.conftest import changed, with_two_zero_shots
from tis_ray.analysis import Cell, Method
from tis_ray.analysis.study_values import POOL, Part
from tis_ray.metrics.description import MetricDescription, describe
from tis_ray.report import StudyRecord, charts
from tis_ray.report.charts import KINDS, printable
from tis_ray.report.figures import budget_drawing, difference_drawing, drawings
from tis_ray.report.pool_figures import MOST_DOTS, composition, pool_map, score_by_rank
from tis_ray.report.study_page import write_study_files

TEST_LOSS = describe("test_loss")
NAMES = {f"{kind}_{m}" for kind in ("budget", "difference", "gain") for m in
         ("test_loss", "query_loss", "exact_match")} | {"map", "composition", "lengths", "scores", "distances", "cost"}  # fmt: skip


@pytest.fixture(scope="module")
def drawn(record):
    return drawings(record, record.table())


def values(drawing):
    return drawing.spec["data"]["values"]


def texts(drawing):
    return ["".join(node.itertext()) for node in ElementTree.fromstring(drawing.svg).iter()]


def test_every_part_of_a_full_record_is_drawn(drawn):
    assert set(drawn) == NAMES


def test_figures_are_well_formed_and_reach_for_nothing_outside(drawn):
    for drawing in drawn.values():
        svg = drawing.svg
        assert ElementTree.fromstring(svg).tag == "{http://www.w3.org/2000/svg}svg"
        assert "<image" not in svg
        assert "href" not in svg.replace("xmlns:xlink", "")


def test_same_record_gives_same_bytes(record, drawn, make):
    again = drawings(make(), record.table())
    assert {n: d.whole for n, d in again.items()} == {n: d.whole for n, d in drawn.items()}
    for name in ("budget_test_loss", "distances"):
        assert again[name].svg == drawn[name].svg


def test_no_method_is_left_out_whatever_its_result(make):
    methods = [(r, s) for r in ("less", "rds", "embed") for s in ("round_robin", "uot", "knn")]
    record = make(methods=methods, gain=-0.4)
    rows = record.table()
    labels = {row.label for row in rows if not row.method.is_baseline}
    assert len(labels) == 9
    curves = values(budget_drawing(rows, TEST_LOSS, record))
    assert {value.get("method") for value in curves} >= labels | {"Random"}
    assert "Zero-shot" in {value.get("level") for value in curves}
    dots = {value["method"] for value in values(difference_drawing(rows, TEST_LOSS, "x"))}
    assert dots == {f"{label} @ {budget}" for label in labels for budget in (100, 500)}


def test_a_figure_has_one_zero_shot_the_better_one(make):
    record = with_two_zero_shots(make())
    rows = record.table()
    for name, label in (("test_loss", "Zero-shot, no template"), ("exact_match", "Zero-shot")):
        drawing = budget_drawing(rows, describe(name), record)
        levels = [value["level"] for value in values(drawing) if "level" in value]
        assert levels == [label]
        assert texts(drawing).count(label) >= 1


def test_the_numbers_of_a_figure_are_those_of_the_table(record, drawn):
    (row,) = (r for r in record.table() if r.label == "LESS + round robin" and r.budget == 500)
    value = row.metrics["test_loss"].value
    (point,) = (
        v for v in values(drawn["budget_test_loss"])
        if (v.get("method"), v.get("x")) == (row.label, 500)
    )  # fmt: skip
    assert (point["mean"], point["low"], point["high"]) == (value.mean, value.low, value.high)
    ends = f"[{value.low:.3f}, {value.high:.3f}]"
    assert point["text"] == f"{value.mean:.3f} {ends}"


def test_the_page_puts_its_own_colours_in_place_of_each_of_the_specs():
    script = (Path(charts.__file__).parent / "templates" / "page.js").read_text()
    palette = set(re.findall(r'"(#[0-9a-f]{6})": "', script))
    named = {charts.INK, charts.OPEN, charts.BETTER, charts.WORSE, charts.RULE, charts.QUERY}
    assert palette == named | set(charts.METHOD_COLOURS)


def test_figures_of_tasks_have_names_of_files(make):
    record = make()

    def measure(cell):
        cell["gsm8k/exact_match.strict-match"] = cell["exact_match"]

    record.cells = changed(record, measure)
    assert "budget_gsm8k-exact_match-strict-match" in drawings(record, record.table())


def test_one_budget_gives_dots_with_both_baselines_best_first(make):
    record = make(budgets=(100,))
    drawing = budget_drawing(record.table(), describe("exact_match"), record)
    shown = texts(drawing)
    for words in ("Zero-shot", "Random", "LESS + round robin"):
        assert words in shown
    assert any("at budget 100" in text for text in shown)
    means = [value["mean"] for value in values(drawing) if "mean" in value]
    assert means == sorted(means, reverse=True)


def test_distance_and_loss_are_one_dot_a_cell(drawn, make):
    dots = values(drawn["distances"])
    assert len(dots) == 2 * 3 * 2  # LESS and random, three seeds, two budgets
    assert {dot["w1"] for dot in dots if dot["method"] == "LESS + round robin"} == {0.405}
    lossless = make()
    lossless.cells = changed(lossless, lambda cell: cell.pop("test_loss"))
    assert "distances" not in drawings(lossless, lossless.table())


def test_hostile_names_are_text(drawn):
    for name in ("map", "composition"):
        assert "<script" not in drawn[name].svg
        assert any("<script>" in text for text in texts(drawn[name]))


def test_a_map_of_part_of_the_pool_says_so(record, make):
    assert "are shown" not in pool_map(record).caption
    part = make()
    part.composition[POOL]["code"] += 1000
    assert "200 of 1,200 pool rows" in pool_map(part).caption
    large = pool_map(make(pool=2 * MOST_DOTS))
    assert len(large.spec["datasets"]["pool"]) <= MOST_DOTS / 2  # two panels
    assert f"of {2 * MOST_DOTS:,} pool rows are shown" in large.caption


@pytest.mark.parametrize("selected", [{}, {Method("less", "uot"): list(range(500))}])
def test_no_selected_rows_or_a_crowd_of_them_are_drawn_too(selected, make):
    record = make(pool=600)
    record.map["selected"] = selected
    spec = pool_map(record).spec
    (rings,) = (layer["data"]["values"] for layer in spec["layer"] if "values" in layer["data"])
    assert len(rings) == (500 if selected else 0)
    assert spec["title"] == ("LESS + UOT (500)" if selected else "")


def test_a_source_that_fills_a_subset_has_its_own_colour(make):
    record = make()
    record.composition[Part(method=Method("less", "uot"), budget=100)] = {"rare": 100}
    record.composition[POOL]["rare"] = 1
    assert "rare" in {value["source"] for value in values(composition(record))}


def test_small_sources_share_a_colour_but_keep_their_share(record):
    bars = values(composition(record))
    pool = {value["source"]: value["share"] for value in bars if value["bar"] == "Pool"}
    assert "9 other sources" in pool
    assert sum(pool.values()) == pytest.approx(100)


def test_the_score_of_thousands_of_ranks_keeps_its_ends(make):
    record = make(budgets=(5000,), pool=6000)
    line = [v for v in values(score_by_rank(record)) if v["panel"] == "LESS + round robin"]
    assert len(line) <= 300
    assert (line[0]["rank"], line[-1]["rank"]) == (1, 5000)
    assert line[-1]["score"] == pytest.approx(1 / 5000)


def test_nothing_to_draw_gives_no_figure(tmp_path):
    assert drawings(StudyRecord(name="empty"), []) == {}
    assert write_study_files(StudyRecord(name="empty"), tmp_path) == 0
    assert list(tmp_path.iterdir()) == []


def test_files_are_of_every_kind_and_whole(record, tmp_path):
    write_study_files(record, tmp_path)
    files = {path.name: path for path in (tmp_path / "figures").iterdir()}
    assert set(files) == {f"{name}.{kind}" for name in NAMES for kind in KINDS}
    for name in NAMES:
        ElementTree.fromstring(files[f"{name}.svg"].read_text())
        assert files[f"{name}.pdf"].read_bytes().startswith(b"%PDF-")
        assert files[f"{name}.png"].read_bytes().startswith(b"\x89PNG")
        assert json.loads(files[f"{name}.vl.json"].read_text())["$schema"].endswith("v6.json")


@pytest.mark.parametrize(("text", "shown"), [("a\x00b\nc", "a b c"), ("$x_1$ <b>", "$x_1$ <b>")])
def test_labels_are_printable(text, shown):
    assert printable(text) == shown


def test_the_quantile_figure_has_the_better_zero_shot_too(make):
    record = with_two_zero_shots(make())
    record.cells = changed(
        record, lambda cell: cell.update(query_loss=0.1) if "(" in cell["representation"] else None
    )
    record.quantiles = [
        Cell(Method("less", "round_robin"), 50, 0, {"query_loss": 0.3 + q / 100}, (q,))
        for q in (1, 2, 3)
    ]
    found = drawings(record, record.table())
    for name in ("quantiles", "budget_query_loss"):
        levels = [value["level"] for value in values(found[name]) if "level" in value]
        assert levels == ["Zero-shot, no template"]


def test_a_metric_that_no_list_knows_is_drawn_and_shown_as_its_spec_says(make):
    record = make(budgets=(100,))
    record.cells = changed(record, lambda cell: cell.update(mine=cell["exact_match"]))
    mine = MetricDescription("mine", "my own", lower_is_better=True, share=True)
    record.legend = replace(record.legend, metrics={"mine": mine})
    found = drawings(record, record.table())
    assert found["budget_mine"].title == "My own by budget"
    assert any("my own, % (lower is better)" in text for text in texts(found["budget_mine"]))
