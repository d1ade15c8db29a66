"""An analysis leaves tables, the six figures of each model, and one safe page."""

from __future__ import annotations

import csv
import json
import re
from xml.etree import ElementTree

import pytest

from tests.paper.published import write_published
from tests.report.page_reader import Page, data_of, words_of
from tis_ray.analysis import Cell, Method
from tis_ray.errors import InputError
from tis_ray.paper.published import read_published
from tis_ray.report.analyze import analyze

SIX = {
    f"budget_{measure}_{family}"
    for measure in ("ce_loss_dev", "true_metric")
    for family in ("data_representation", "sel_alg")
} | {f"binning_{measure}_grid_and_spearman_heatmap" for measure in ("ce_loss", "true_metric")}
HOSTILE = '<script>alert(1)</script> $x$ & "q"'


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("analysis")
    analyze(write_published(folder / "plot_data", sub=True), folder / "out", folder / "files")
    return folder / "out"


@pytest.fixture(scope="module")
def html(out):
    return (out / "index.html").read_text(encoding="utf-8")


def test_tables_are_written_with_the_papers_names(out):
    tables = json.loads((out / "tables.json").read_text())
    less = tables["quantile_heatmap_spearman"]["llama2-7b"]["ce_loss"]["LESS (RR)"]
    assert less == pytest.approx({"bbh": 1.0, "codex": 1.0})
    cell = tables["budget"]["olmo3-7b"]["bbh"]["Random"]["500"]
    assert set(cell) == {"dev", "test", "true_metric"}
    assert cell["true_metric"]["mean"] == pytest.approx(100 * (1 - 1.36))


def test_each_model_has_the_six_figures(out):
    names = {path.stem for path in (out.parent / "files/figures").glob("*.svg")}
    for model in ("llama2-7b", "olmo3-7b"):
        assert {f"{model}-{name}" for name in SIX} <= names
    assert "llama2-7b-sub_bin0_focus_ce_loss_grid_and_spearman_heatmap" in names
    assert {"difference_ce_loss_dev", "difference_true_metric"} <= names
    assert len(names) == 2 * 6 + 2 + 2


def test_every_table_of_the_page_is_a_file_with_its_digits(out):
    tables = out.parent / "files" / "tables"
    stems = {path.stem for path in tables.iterdir()}
    assert {"results_ce_loss_dev", "results_true_metric", "noise", "quantiles"} <= stems
    assert {f"{stem}{end}" for stem in stems for end in (".csv", ".tex")} == {
        path.name for path in tables.iterdir()
    }
    with (tables / "results_true_metric.csv").open() as file:
        lines = list(csv.DictReader(file))
    (less,) = (r for r in lines if (r["Method"], r["Budget"]) == ("LESS (UOT)", "500"))
    text = words_of((out / "index.html").read_text())
    assert f"LESS (UOT) @ 500 Mean {less['Mean']} " in text
    assert rf"LESS (UOT) & 500 & {less['Mean']}" in (tables / "results_true_metric.tex").read_text()


def test_figures_show_the_numbers(out):
    figures = out.parent / "files" / "figures"
    name = "llama2-7b-binning_ce_loss_grid_and_spearman_heatmap"
    heatmap = (figures / f"{name}.svg").read_text()
    root = ElementTree.fromstring(heatmap)
    shown = ["".join(node.itertext()) for node in root.iter() if node.tag.endswith("}text")]
    assert [t for t in shown if re.fullmatch(r"-?\d\.\d\d", t)][-4:].count("1.00") == 2
    spec = json.loads((figures / f"{name}.vl.json").read_text())
    rho = {(r["name"], r["task"]): r["rho"] for r in spec["vconcat"][1]["data"]["values"]}
    assert rho["LESS (RR)", "bbh"] == rho["LESS (RR)", "codex"] == pytest.approx(1)
    assert rho["EMBED (RR)", "bbh"] == pytest.approx(-1)
    budget = (figures / "olmo3-7b-budget_true_metric_data_representation.svg").read_text()
    assert "Zero-shot" in budget
    assert "codex · Pass@10" in budget
    assert "Zero-shot" not in (figures / "olmo3-7b-budget_true_metric_sel_alg.svg").read_text()


def test_a_method_has_one_colour_in_all_figures(html):
    found = {}
    for name, spec in data_of(html, "figure-data").items():
        if "budget" in name:
            scale = spec["spec"]["layer"][0]["encoding"]["color"]["scale"]
            for method, colour in zip(scale["domain"], scale["range"], strict=True):
                found.setdefault(method, set()).add(colour)
    assert len(found) > 3
    assert {len(colours) for colours in found.values()} == {1}


def test_page_needs_nothing_else(html):
    page = Page(html)
    assert not {"link", "img"} & {*page.tags}
    for tag, key, value in page.attributes:
        if key in ("src", "href", "xlink:href", "action", "data"):
            assert value.startswith("#"), (tag, key, value[:80])
        assert not key.startswith("on"), (tag, key)
    assert 'name="viewport"' in html
    assert "default-src 'none'" in html


def test_page_has_every_figure_named_and_captioned(html):
    own = html.partition('<script type="application')[0]
    assert own.count("data-figure=") == own.count("<figcaption>") == own.count('role="img"') == 16
    assert own.count("<table") == own.count("<caption>")
    attributes = Page(html).attributes
    ids = [value for _, key, value in attributes if key == "id"]
    assert len(ids) == len(set(ids))
    assert {v[1:] for tag, key, v in attributes if tag == "a" and key == "href"} <= set(ids)


def test_page_says_what_the_tables_say(html):
    text = words_of(html)
    # Four cells: Wilcoxon's p is 0.125 at best, so nothing may be claimed.
    assert "No method is shown to beat random on test metric. The closest is LESS (UOT)" in text
    assert "All 6 comparisons with random: query loss 6 cannot tell; test metric 6" in text
    assert (
        "LESS (RR) mean ρ +1.00, significant as expected in 4 of 4 cells and reversed in 0" in text
    )
    assert (
        "EMBED (RR) mean ρ −1.00, significant as expected in 0 of 4 cells and reversed in 4" in text
    )
    assert "The same training run twice (8 pairs) differs by a median of 0.0000" in text
    assert "Most often best: LESS (UOT) (4 of 4 points)." in text


def test_same_folder_gives_the_same_bytes(out, tmp_path):
    analyze(out.parent / "plot_data", tmp_path)
    for path in out.iterdir():
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()


def test_own_studies_go_the_same_way(tmp_path, make):
    record = make()
    record.quantiles = [
        Cell(Method("less", "round_robin"), 50, 0, {"query_loss": 0.3 + 0.01 * q}, (q,))
        for q in range(1, 9)
    ]
    record.save(tmp_path / "run" / "report" / "record.json")
    html = analyze(tmp_path / "run", tmp_path / "out", tmp_path / "files").read_text()
    text = words_of(html)
    assert "LESS + round robin" in text
    assert "over 3 seeds" in text
    assert "what of it may be luck" in text
    assert "<script>alert" not in html  # the study's name tries to be one
    assert "LESS + round robin mean ρ +1.00, significant as expected in 1 of 1 cells" in text
    names = {path.stem for path in (tmp_path / "files/figures").glob("*.svg")}
    assert names == {
        f"{kind}_{measure}{family}"
        for kind, family in (("model-budget", "_data_representation"), ("difference", ""))
        for measure in ("test_loss", "query_loss", "exact_match")
    } | {"model-binning_query_loss_grid_and_spearman_heatmap"}


def test_a_mean_that_one_cell_makes_is_told(tmp_path):
    folder = write_published(tmp_path / "plot_data")
    path = folder / "olmo3-7b" / "budget_true_metric_budget.csv"
    lines = path.read_text().splitlines()
    for k, line in enumerate(lines):
        if line.startswith("codex,Random,500,"):  # random collapses in one cell
            lines[k] = ",".join([*line.split(",")[:4], "-150"])
    path.write_text("\n".join(lines))
    text = words_of(analyze(folder, tmp_path / "out").read_text())
    # Elsewhere LESS (UOT) gains 25; here random fell from -46 to -150, and it gains 129.
    assert (
        "One cell decides the mean of LESS (UOT) at 500: olmo3-7b on codex differs from random by"
        " +129.00; without it the mean difference is +25.00." in text
    )


def test_names_from_files_cannot_become_markup(tmp_path):
    folder = write_published(tmp_path / "plot_data")
    for path in folder.rglob("*.csv"):
        quoted = '"' + HOSTILE.replace('"', '""') + '"'
        path.write_text(path.read_text().replace("codex", quoted))
    html = analyze(folder, tmp_path / "out").read_text()
    assert HOSTILE not in html
    assert "<script>alert" not in html
    assert "<script>alert(1)</script> $x$" in "".join(Page(html).text)
    assert read_published(folder).tasks == ("bbh", HOSTILE)


def test_more_methods_than_colours_are_told_apart_within_their_family(tmp_path, make):
    methods = [(r, s) for r in ("less", "rds", "embed") for s in ("round_robin", "uot", "knn_kde")]
    record = make(methods=methods)
    record.save(tmp_path / "run" / "report" / "record.json")
    specs = data_of(analyze(tmp_path / "run", tmp_path / "out").read_text(), "figure-data")
    for name in ("LESS", "RDS-", "EMBED"):
        spec = specs[f"model-budget_test_loss_sel_alg_{name}"]
        scale = spec["layer"][0]["encoding"]["color"]["scale"]
        assert len(set(scale["range"])) == len(scale["domain"]) == 4


@pytest.mark.parametrize(
    ("folders", "told"),
    [
        (["nowhere"], "nowhere: no such folder"),
        (["empty"], "empty: no model's folder"),
        (["run", "empty"], "empty: no report/record.json"),
    ],
)
def test_other_folders_are_refused(tmp_path, make, folders, told):
    make().save(tmp_path / "run" / "report" / "record.json")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=told):
        analyze([tmp_path / name for name in folders], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_study_that_has_not_ended_is_told_so(tmp_path):
    run = tmp_path / "runs" / "half"
    run.mkdir(parents=True)
    (run / "config.yaml").write_text("name: half\n")
    with pytest.raises(InputError, match=r"half: this study has not ended .*continues it"):
        analyze(run, tmp_path / "out")
