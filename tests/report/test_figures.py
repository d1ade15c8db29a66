"""Figures are well-formed, repeatable, complete, and safe to put on one page."""

import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from tests.report.conftest import changed, with_two_zero_shots
from tis_ray.analysis import Cell, Method
from tis_ray.analysis.study_values import POOL, Part
from tis_ray.metrics.description import MetricDescription, describe
from tis_ray.report import StudyRecord, svg, write_figures
from tis_ray.report.figures import budget_curve, comparison, drawings
from tis_ray.report.pool_figures import composition, map_caption, pool_map

TEST_LOSS = describe("test_loss")
NAMES = {f"{kind}_{m}" for kind in ("budget", "difference", "gain") for m in
         ("test_loss", "query_loss", "exact_match")} | {"map", "composition", "lengths", "scores", "distances", "cost"}  # fmt: skip


@pytest.fixture(scope="module")
def drawn(record):
    return drawings(record, record.table())


def texts(drawing):
    return ["".join(node.itertext()) for node in ElementTree.fromstring(drawing).iter()]


def test_every_part_of_a_full_record_is_drawn(drawn):
    assert set(drawn) == NAMES


def test_figures_are_well_formed_and_described(drawn):
    for drawing in drawn.values():
        root = ElementTree.fromstring(drawing.svg)
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert "viewBox" in root.attrib
        assert "width" not in root.attrib  # the page decides
        title, description = root[0], root[1]
        assert root.get("aria-labelledby") == f"{title.get('id')} {description.get('id')}"
        assert title.text
        assert description.text


def test_same_record_gives_same_bytes(record, drawn, make):
    again = drawings(make(), record.table())
    assert {n: d.svg for n, d in again.items()} == {n: d.svg for n, d in drawn.items()}


def test_ids_do_not_clash_on_one_page(drawn):
    ids = [i for d in drawn.values() for i in re.findall(r'\bid="([^"]*)"', d.svg)]
    assert len(ids) == len(set(ids))
    for drawing in drawn.values():
        used = re.findall(r'(?:href="#|url\(#)([^")]*)', drawing.svg)
        assert set(used) <= set(re.findall(r'\bid="([^"]*)"', drawing.svg))


def test_figures_reach_for_nothing_outside(drawn):
    for drawing in drawn.values():
        addresses = set(re.findall(r'https?://[^"]*', drawing.svg))
        assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
        assert "<style" not in drawing.svg


def test_no_method_is_left_out_whatever_its_result(make):
    methods = [(r, s) for r in ("less", "rds", "embed") for s in ("round_robin", "uot", "knn")]
    rows = make(methods=methods, gain=-0.4).table()
    for figure in (budget_curve(rows, TEST_LOSS), comparison("difference", rows, TEST_LOSS)):
        for name in ("LESS", "RDS+", "EMBED"):
            for selector in ("round robin", "UOT", "KNN"):
                assert f"{name} + {selector}" in figure
    assert "Zero-shot" in budget_curve(rows, TEST_LOSS)


def test_the_line_is_the_better_zero_shot(make):
    record = with_two_zero_shots(make())
    rows = record.table()
    assert "Zero-shot, no template" in budget_curve(rows, TEST_LOSS)
    assert "Zero-shot, no template" not in budget_curve(rows, describe("exact_match"))


def test_figures_of_tasks_have_names_of_files(make):
    record = make()

    def measure(cell):
        cell["gsm8k/exact_match.strict-match"] = cell["exact_match"]

    record.cells = changed(record, measure)
    assert "budget_gsm8k-exact_match-strict-match" in drawings(record, record.table())


def test_one_budget_gives_dots_with_both_baselines(make):
    rows = make(budgets=(100,)).table()
    figure = budget_curve(rows, describe("exact_match"))
    assert "Zero-shot" in figure
    assert "Random" in figure
    assert "at budget 100" in figure


def test_distance_and_loss_are_one_dot_a_cell(drawn, make):
    points = ElementTree.fromstring(drawn["distances"].svg)
    marks = [node for node in points.iter() if node.get("id", "").startswith("distances-line2d")]
    assert "LESS + round robin at 100: 0.405, 0.3" in points[1].text
    assert points[1].text.count(" at 100: ") == points[1].text.count(" at 500: ") == 2 * 3
    assert len(marks) >= 12
    lossless = make()
    lossless.cells = changed(lossless, lambda cell: cell.pop("test_loss"))
    assert "distances" not in drawings(lossless, lossless.table())


def test_hostile_names_are_text(drawn):
    for name in ("map", "composition"):
        assert "<script" not in drawn[name].svg
        assert any("<script>" in text for text in texts(drawn[name].svg))


def test_a_large_pool_becomes_a_picture_and_says_so(make):
    small, large = make(pool=200), make(pool=6000)
    assert "data:image/png" not in pool_map(small)
    assert "picture" not in map_caption(small)
    assert "data:image/png" in pool_map(large)
    assert "as a picture" in map_caption(large)
    assert len(pool_map(large)) < 1_500_000


def test_a_map_of_part_of_the_pool_says_so(record, make):
    part = make()
    part.composition[POOL]["code"] += 1000
    assert "200 of 1,200 pool rows" in map_caption(part)


@pytest.mark.parametrize("selected", [{}, {Method("less", "uot"): list(range(500))}])
def test_no_selected_rows_or_a_crowd_of_them_are_drawn_too(selected, make):
    record = make(pool=600)
    record.map["selected"] = selected
    figure = pool_map(record)
    assert ("LESS + UOT (500)" if selected else "Selected (0)") in figure
    assert (svg.CROWD in figure) == bool(selected)


def test_a_source_that_fills_a_subset_has_its_own_colour(make):
    record = make()
    record.composition[Part(method=Method("less", "uot"), budget=100)] = {"rare": 100}
    record.composition[POOL]["rare"] = 1
    assert "rare" in composition(record)


def test_small_sources_share_a_colour_but_keep_their_share(record):
    assert "9 other sources" in composition(record)


def test_nothing_to_draw_gives_no_figure(tmp_path):
    assert write_figures(StudyRecord(name="empty"), tmp_path) == {}
    assert list(tmp_path.iterdir()) == []


def test_files_are_written_whole(record, tmp_path):
    paths = write_figures(record, tmp_path / "figures")
    assert set(paths) == NAMES
    assert sorted(p.name for p in (tmp_path / "figures").iterdir()) == sorted(
        f"{name}.svg" for name in NAMES
    )
    for path in paths.values():
        ElementTree.fromstring(path.read_text())


def test_theming_replaces_colours_only_in_styles():
    themed = svg.themed('<g style="fill: #1b1f24; stroke: #123456"/>')
    assert themed == '<g style="fill: var(--ink, #1b1f24); stroke: #123456"/>'


@pytest.mark.parametrize(("text", "shown"), [("a\x00b\nc", "a b c"), ("x" * 40, "x" * 16 + "…" + "x" * 9)])  # fmt: skip
def test_labels_are_short_and_printable(text, shown):
    assert svg.short(text) == shown
    assert len(svg.short(text)) <= 26


def test_the_quantile_figure_has_the_better_zero_shot_too(make):
    record = with_two_zero_shots(make())
    record.cells = changed(
        record, lambda cell: cell.update(query_loss=0.1) if "(" in cell["representation"] else None
    )
    record.quantiles = [
        Cell(Method("less", "round_robin"), 50, 0, {"query_loss": 0.3 + q / 100}, (q,))
        for q in (1, 2, 3)
    ]
    drawn = drawings(record, record.table())
    for name in ("quantiles", "budget_query_loss"):
        assert "Zero-shot, no template" in drawn[name].svg


def test_a_metric_that_no_list_knows_is_drawn_and_shown_as_its_spec_says(make):
    record = make(budgets=(100,))
    record.cells = changed(record, lambda cell: cell.update(mine=cell["exact_match"]))
    mine = MetricDescription("mine", "my own", lower_is_better=True, share=True)
    record.legend = replace(record.legend, metrics={"mine": mine})
    drawn = drawings(record, record.table())
    assert drawn["budget_mine"].title == "My own by budget"
    assert "my own (lower is better)" in drawn["budget_mine"].svg
