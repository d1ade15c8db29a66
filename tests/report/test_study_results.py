"""Our own studies as the results that tables and figures are made of."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from tests.report.conftest import changed, with_two_zero_shots
from tests.report.page_reader import words_of
from tis_ray.analysis import Cell, Method
from tis_ray.analysis.pooled_table import pooled_rows
from tis_ray.errors import InputError
from tis_ray.paper.tables import all_tables
from tis_ray.report import StudyRecord
from tis_ray.report.analyze import analyze
from tis_ray.report.study_results import is_study, study_results


@pytest.fixture
def saved(tmp_path, make):
    """Save made-up studies as run folders; return a function from names to folders."""

    def save(*names, **changes):
        folders = []
        for name in names:
            record = make(**changes)
            record.name = name
            record.save(tmp_path / name / "report" / "record.json")
            folders.append(tmp_path / name)
        return folders

    return save


def test_cells_are_in_their_places(saved, make):
    (folder,) = saved("one")
    assert is_study(folder)
    results = study_results([folder])
    assert results.tasks == ("one",)
    assert [m.name for m in results.methods] == ["Random", "LESS + round robin", "EMBED + UOT"]
    assert (results.budgets, results.seeds) == ((100, 500), (0, 1, 2))
    assert (results.loss, results.metric) == ("query_loss", "exact_match")
    cell = next(
        c for c in make().cells if (c.method.representation, c.budget, c.seed) == ("less", 500, 2)
    )
    assert results.runs["test_loss"][0, 0, 1, 1, 2] == cell.metrics["test_loss"]
    assert results.zero_shot["exact_match"] == 0.2


def test_one_study_says_what_the_study_table_says(saved, make):
    """The same cells by two ways: differences to random over seeds, and to zero-shot."""
    tables = all_tables(study_results(saved("one")))
    compared = 0
    for row in make().table():
        for name, metric in row.metrics.items():
            method = {"less": "LESS + round robin", "embed": "EMBED + UOT"}.get(
                row.method.representation
            )
            if method is None:
                continue
            for versus, key in ((metric.vs_random, "random"), (metric.vs_zero_shot, "zero_shot")):
                ours = tables[f"difference_to_{key}"]["model"][name][method][str(row.budget)]
                assert ours["difference"] == pytest.approx(versus.difference, abs=1e-12)
                assert (ours["low"], ours["high"]) == pytest.approx((versus.low, versus.high))
                assert ours["verdict"] == versus.verdict
                compared += 1
    assert compared == 2 * 2 * 3 * 2


def test_one_study_says_the_same_where_test_rows_and_seeds_differ(tmp_path, make):
    """Intervals over test rows too, and a method that lacks a seed is compared with all of random's."""
    rng, record = np.random.default_rng(0), make()

    def by_row(cell):
        values = cell["test_loss"] + rng.normal(0, 0.3, 20)
        cell |= {"test_loss": float(values.mean()), "rows": {"test_loss": values.tolist()}}
        if (cell["representation"], cell["seed"]) == ("less", 1):
            cell["test_loss"] = None

    record.cells = changed(record, by_row)
    record.save(tmp_path / "report" / "record.json")
    results = study_results([tmp_path])
    pooled = {(row.method, row.budget): row for row in pooled_rows(results, (0,))}
    compared = 0
    for row in StudyRecord.load(tmp_path / "report" / "record.json").table():
        for name, summary in row.metrics.items():
            other = pooled[row.method, row.budget].metrics[name]
            assert other.vs_random == summary.vs_random
            if summary.vs_zero_shot is not None:  # which a study does not correct for many
                assert replace(other.vs_zero_shot, p_holm=None) == summary.vs_zero_shot
            if not row.method.is_zero_shot:
                assert (other.value, other.baseline) == (summary.value, summary.baseline)
            compared += 1
    assert compared == 7 * 3


def test_several_studies_are_tasks_and_differences_are_over_them(saved):
    results = study_results(saved("a", "b", "c", "d", "e"))
    assert results.runs["test_loss"].shape == (1, 5, 3, 2, 3)
    found = all_tables(results)["difference_to_random"]["model"]["test_loss"]
    assert found["LESS + round robin"]["100"]["pairs"] == "cells"
    assert found["LESS + round robin"]["100"]["n"] == 5


def test_failed_cells_stay_missing(tmp_path, make):
    record = make()
    record.name = "holes"

    def fail(cell):
        if (cell["representation"], cell["seed"]) == ("embed", 1):
            cell["test_loss"] = math.nan
            cell["exact_match"] = None

    record.cells = changed(record, fail)
    record.save(tmp_path / "report" / "record.json")
    results = study_results([tmp_path])
    assert np.isnan(results.runs["test_loss"][0, 0, 2, :, 1]).all()
    assert np.isfinite(results.runs["query_loss"][0, 0, 2]).all()
    budget = all_tables(results)["budget"]["model"]["holes"]["EMBED + UOT"]["100"]
    assert budget["test_loss"]["values"][1] is None
    assert budget["test_loss"]["mean"] == pytest.approx(
        np.nanmean(results.runs["test_loss"][0, 0, 2, 0])
    )


def test_the_better_zero_shot_counts_metric_by_metric(tmp_path, make):
    record = make()
    plain = Method("zero_shot (no template)")
    record.cells.append(Cell(plain, metrics={"test_loss": 0.6, "exact_match": 0.1}))
    record.save(tmp_path / "report" / "record.json")
    results = study_results([tmp_path])
    assert results.zero_shot["test_loss"] == 0.6  # without template
    assert results.zero_shot["exact_match"] == 0.2  # with it
    assert results.methods[0].name == "Random"
    assert len(results.methods) == 3


def test_metrics_of_tasks_are_measures_too(tmp_path, make):
    record = make()

    def measure(cell):
        cell["gsm8k/numeric_match"] = cell["exact_match"] / 2

    record.cells = changed(record, measure)
    record.save(tmp_path / "report" / "record.json")
    metric = study_results([tmp_path]).about("gsm8k/numeric_match")
    assert (metric.words, metric.share, metric.lower_is_better) == (
        "gsm8k: numeric match",
        True,
        False,
    )


def with_quantiles(record, representations=("less", "embed"), bins=6, seeds=(0, 1)):
    record.quantiles = [
        Cell(Method(r, "round_robin"), 50, seed, {"query_loss": loss}, (q + 1,))
        for i, r in enumerate(representations)
        for q in range(bins)
        for seed in seeds
        for loss in [0.3 + 0.01 * q * (1 - 2 * i) + 0.002 * seed]
    ]
    return record


def test_quantile_curves_are_means_over_seeds(tmp_path, make):
    with_quantiles(make()).save(tmp_path / "report" / "record.json")
    results = study_results([tmp_path])
    assert results.representations == ("LESS + round robin", "EMBED + round robin")
    assert list(results.quantiles) == ["query_loss"]
    assert results.quantiles["query_loss"].shape == (1, 1, 2, 6)
    assert results.quantiles["query_loss"][0, 0, 0, 2] == pytest.approx(0.321)
    assert results.quantile_seeds == 2
    tables = all_tables(results)
    (rho,) = tables["quantile_heatmap_spearman"]["model"]["query_loss"][
        "LESS + round robin"
    ].values()
    assert rho == pytest.approx(1.0)
    assert tables["repeat_noise"] is None


def test_a_curve_that_one_study_lacks_is_left_out(tmp_path, make):
    for name, representations in (("a", ("less", "embed")), ("b", ("less",))):
        record = with_quantiles(make(), representations)
        record.name = name
        record.save(tmp_path / name / "report" / "record.json")
    assert study_results([tmp_path / "a", tmp_path / "b"]).quantiles == {}


def test_studies_that_do_not_go_together_are_refused(saved, tmp_path, make):
    first, second = saved("a", "b")
    with pytest.raises(InputError, match="another folder holds a study `a` too"):
        study_results([first, first.parent / "a" / ".." / "a"])
    record = make()
    record.name, record.config = "other", {"model": {"name": "bigger"}}
    record.save(tmp_path / "other" / "report" / "record.json")
    with pytest.raises(
        InputError, match=r"different models .* trained model.*other trained bigger"
    ):
        study_results([first, second, tmp_path / "other"])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda cells: [c for c in cells if c.method.is_zero_shot], "no trained cell"),
        (lambda cells: cells + cells, "seed 0 twice"),
        (
            lambda cells: [replace(c, metrics={}) for c in cells],
            "no metric of a trained cell",
        ),
    ],
)
def test_a_record_that_cannot_be_analysed_says_why(tmp_path, make, change, told):
    record = make()
    record.cells = change(record.cells)
    record.save(tmp_path / "report" / "record.json")
    with pytest.raises(InputError, match=told):
        study_results([tmp_path])


def test_two_points_have_no_p_and_the_page_says_so(saved, tmp_path, make):
    folders = []
    for name in ("a", "b"):
        record = with_quantiles(make(), bins=2)
        record.name = name
        record.save(tmp_path / name / "report" / "record.json")
        folders.append(tmp_path / name)
    page = analyze(folders, tmp_path / "out").read_text()
    tables = json.loads((tmp_path / "out" / "tables.json").read_text())
    curve = tables["quantile"]["model"]["a"]["LESS + round robin"]["query_loss"]
    assert curve["spearman"] == pytest.approx(1.0)
    assert (curve["spearman_p_t"], curve["spearman_p_exact"], curve["pearson_p"]) == (None,) * 3
    counts = tables["quantile_summary"]["query_loss"]["LESS + round robin"]["all"]
    assert (counts["n_exact_expected"], counts["n_sig_bh_wrong"]) == (None, None)
    assert "too few points for a test" in page
    assert "2 points are too few for a test of the correlation." in page


def test_the_table_of_one_study_is_the_same_by_both_ways(tmp_path, make):
    record = with_two_zero_shots(make())
    record.save(tmp_path / "report" / "record.json")
    results = study_results([tmp_path])
    pooled = {(row.method, row.budget): row for row in pooled_rows(results, (0,))}
    own = [row for row in record.table() if not row.method.is_zero_shot]
    assert {(row.method, row.budget) for row in own} < set(pooled)
    for row in own:
        other = pooled[row.method, row.budget]
        assert other.label == row.label
        for name, summary in row.metrics.items():
            found = other.metrics[name]
            assert vars(found.value) == pytest.approx(vars(summary.value))
            for there, here in (
                (found.vs_random, summary.vs_random),
                (found.vs_zero_shot, summary.vs_zero_shot),
            ):
                assert (there is None) == (here is None)
                if there is not None:
                    left, right = there.to_json(), here.to_json() | {"p_holm": there.p_holm}
                    assert left == pytest.approx(right)


def test_cells_are_the_pairs_of_several_studies(tmp_path, make):
    folders = []
    for i, name in enumerate("abcdef"):
        record = make(budgets=(100,), gain=0.2 + 0.01 * i)
        record.name = name
        record.save(tmp_path / name / "report" / "record.json")
        folders.append(tmp_path / name)
    results = study_results(folders)
    (less,) = [r for r in pooled_rows(results, (0,)) if r.label == "LESS + round robin"]
    versus = less.metrics["test_loss"].vs_random
    means_JA = results.means("test_loss")[0, :, :, 0]
    a = results.position("LESS + round robin")
    assert (versus.n, versus.pairs, versus.verdict) == (6, "cells", "better")
    assert versus.difference == pytest.approx((means_JA[:, a] - means_JA[:, 0]).mean())
    assert versus.p_value == 2 / 2**6  # all six differences have one sign
    text = analyze(folders, tmp_path / "out").read_text()
    assert "over 6 cells" in text
    assert "over 6 cells; differences are paired by cell" in words_of(text)


def test_methods_of_one_label_have_a_place_each(tmp_path, make):
    record = make()
    record.legend = replace(record.legend, representations={"less": "Same", "embed": "Same"},
                            selectors={"round_robin": "rule", "uot": "rule"})  # fmt: skip
    record.save(tmp_path / "report" / "record.json")
    results = study_results([tmp_path])
    names = [method.name for method in results.methods]
    assert names == ["Random", "Same + rule (less, round_robin)", "Same + rule (embed, uot)"]
    assert set(all_tables(results)["budget"]["model"][record.name]) == set(names)


def test_models_whose_names_look_alike_have_figures_each(tmp_path, make):
    folders = []
    for i, name in enumerate(("org/m", "org-m")):
        record = make(budgets=(100, 200), gain=0.1 * i)
        record.name, record.setting = f"s-{i}", {"model.name": name}
        record.config["model"] = {"name": name}
        record.name = f"t-model.name-{name}"
        record.save(tmp_path / str(i) / "report" / "record.json")
        folders.append(tmp_path / str(i))
    analyze(folders, tmp_path / "out", tmp_path / "files")
    names = {path.stem for path in (tmp_path / "files/figures").glob("org-m*test_loss*.svg")}
    assert {name.partition("-budget")[0] for name in names} == {"org-m-1", "org-m-2"}


def test_studies_that_count_other_things_are_refused(tmp_path, make):
    folders = []
    for name, unit in (("a", "tokens"), ("b", "examples")):
        record = make()
        record.name, record.budget_unit = name, unit
        record.save(tmp_path / name / "report" / "record.json")
        folders.append(tmp_path / name)
    with pytest.raises(InputError, match="different things cannot be pooled: a in tokens, b in ex"):
        study_results(folders)


def test_what_a_study_says_of_its_runs_is_said_of_several_too(saved):
    folders = saved("a", "b", budgets=(100,))
    rows = pooled_rows(study_results(folders), (0,))
    messages = {f.message for row in rows for f in row.flags if f.code == "few_steps"}
    assert messages == {"only 12 optimizer steps (in 2 of 2 cells)"}
