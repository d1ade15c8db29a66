"""The page is one safe, complete file, and does not hide what went wrong."""

import base64
import hashlib
import re

import pytest

from tests.report.conftest import changed, with_two_zero_shots
from tests.report.page_reader import Page, data_of, part_of, words_of
from tis_ray.report import StudyRecord, build_report


def html_of(record, folder):
    return build_report(record, folder).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def html(record, tmp_path_factory):
    return html_of(record, tmp_path_factory.mktemp("report"))


def test_page_needs_nothing_else(html):
    page = Page(html)
    assert "link" not in page.tags
    for tag, key, value in page.attributes:
        if key in ("src", "href", "xlink:href", "action", "data"):
            assert value.startswith("#"), (tag, key, value[:80])
        assert not key.startswith("on"), (tag, key)
    assert "url(http" not in html
    assert "@import" not in html


def test_untrusted_texts_cannot_become_markup(html, hostile):
    page = Page(html)
    assert page.tags.count("script") == 3 + 3  # those of libraries and ours; data that is not run
    assert "<script>alert(1)</script> $x_1$" in "".join(page.text)
    assert hostile not in html
    assert "<script>alert" not in html


def test_policy_allows_only_the_hashes_of_the_three_scripts(html):
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', html)
    scripts = re.findall(r'<script type="module">(.*?)</script>', html, flags=re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in scripts]
    assert len(scripts) == 3
    assert policy.endswith("script-src " + " ".join(f"'sha256-{digest}'" for digest in digests))
    assert policy.startswith("default-src 'none'")
    assert "unsafe-eval" not in policy


def test_verdict_leads_and_every_row_is_in_the_table(html):
    text = words_of(html)
    assert "LESS + round robin beats random at budget" in text
    assert "budgets 100, 500 · seeds 0, 1, 2 · 2026-01-01 00:00 UTC" in text
    (table,) = re.findall(r'aria-label="Table of Test loss".*?</table>', html, re.S)
    rows = re.findall(r'<th scope="row"><span>(.*?)</span>', table)
    assert [words_of(row) for row in rows] == [
        "Zero-shot",
        *["Random"] * 2,
        *["LESS + round robin"] * 2,
        *["EMBED + UOT"] * 2,
    ]
    assert "cannot tell" in table


def test_flags_are_shown_beside_the_number_and_on_top(html):
    text = words_of(html)
    assert "only 12 optimizer steps" in text
    assert "trained on 99 of 100 rows" in text
    assert "results after 16 optimizer steps or fewer" in text


def test_negative_results_lead_too(tmp_path, make):
    bad = make(gain=-0.3, budgets=(100,), methods=[("less", "round_robin")])
    html = html_of(bad, tmp_path)
    assert 'class="verdict bad"' in html
    assert "Every method is worse than random" in words_of(html)


def test_a_row_without_a_result_is_listed_not_left_out(tmp_path, make):
    record = make(budgets=(100,))

    def fail(cell):
        if cell["representation"] == "embed":
            cell["test_loss"] = float("nan")

    record.cells = changed(record, fail)
    html = html_of(record, tmp_path)
    assert "no result" in html
    assert "test loss missing in 3 of 3" in html


def test_all_selected_rows_are_there_with_the_query_that_pulled_them(record, html, hostile):
    data = data_of(html, "row-data")
    assert [method["name"] for method in data["methods"]] == ["LESS + round robin", "EMBED + UOT"]
    for method, ordering in zip(data["methods"], record.orderings, strict=True):
        assert method["index"] == [row["index"] for row in ordering["rows"]]
        assert len(method["index"]) == 200
        assert method["score"][1] == 0.5
        assert method["margin"][:2] == [-0.25, 0.75]
        assert method["nearest"][0] == 10  # ranks begin at 1
        assert method["budgets"] == [
            100 - (method["name"] == "EMBED + UOT"),
            499 if method["name"] == "EMBED + UOT" else 500,
        ]
    row = data["rows"]["3"]
    assert (row["id"], row["source"], row["file"], row["line"]) == (
        f"r3 {hostile}",
        hostile,
        "p.jsonl",
        4,
    )
    assert "number3" in row["text"]
    assert data["queries"]["0"] == {"query": 0, "id": "q0", "text": hostile}
    assert "all 200 rows that 2 methods selected" in words_of(html)


def test_answers_stand_beside_labels_and_changes_are_counted(html, hostile):
    (found,) = data_of(html, "answer-data")
    names = [method["name"] for method in found["methods"]]
    assert [names[found[side]] for side in ("left", "right")] == [
        "LESS + round robin @ 500",
        "Random @ 500",
    ]
    assert found["methods"][found["left"]]["shown"] == ["100%", "100%", "33%", "100%"]
    assert found["methods"][0]["answers"][0] == [[hostile, 2], ["", 1]]
    assert found["rows"][1]["label"] == "label 1"
    text = words_of(part_of(html, "answers"))
    # Of 4 rows, 2 are answered rightly more often than by random, 1 less often.
    assert "LESS + round robin @ 500 Random 2 1 1 4 test rows" in text


def test_quarantine_is_counted_by_reason(html):
    text = words_of(part_of(html, "quarantine"))
    assert "3 rows could not be used." in text
    assert re.search(r"no assistant turn pool 2\b", text)


def test_tables_have_captions_and_figures_have_names(html):
    own = html.partition('<script type="application')[0]
    assert own.count("<table") == own.count("<caption>")
    assert own.count("data-figure=") == own.count('role="img"') == own.count("<figcaption>") == 15
    assert set(re.findall(r'data-figure="([^"]*)"', own)) == set(data_of(html, "figure-data"))


def test_ids_are_unique(html):
    ids = [value for _, key, value in Page(html).attributes if key == "id"]
    assert len(ids) == len(set(ids))


def test_in_page_links_lead_somewhere(html):
    attributes = Page(html).attributes
    ids = {value for _, key, value in attributes if key == "id"}
    assert {v[1:] for tag, key, v in attributes if tag == "a" and key == "href"} <= ids


@pytest.mark.parametrize(
    "missing",
    [
        ("cells",),
        ("orderings", "stages"),
        ("map", "config", "quarantined"),
        ("composition", "distances", "agreement"),
        ("texts", "answers"),
    ],
)
def test_any_part_may_be_missing(missing, tmp_path, make):
    record = make(budgets=(100,))
    for part in missing:
        setattr(record, part, getattr(StudyRecord(name="x"), part))
    assert "Run it again" in "".join(Page(html_of(record, tmp_path)).text)


def test_an_empty_study_still_has_a_page(tmp_path):
    text = "".join(Page(html_of(StudyRecord(name="nothing yet"), tmp_path)).text)
    assert "nothing to compare" in text
    assert "Every row could be used." in text


def test_redrawing_from_the_saved_record_gives_the_same_bytes(record, html, tmp_path):
    record.save(tmp_path / "record.json")
    assert html_of(StudyRecord.load(tmp_path / "record.json"), tmp_path) == html


def test_a_large_study_stays_small(tmp_path, make):
    methods = [(r, s) for r in ("less", "rds", "embed") for s in ("round_robin", "uot", "knn")]
    record = make(pool=20_000, methods=methods)
    html = html_of(record, tmp_path)
    assert len(html.encode()) < 4_000_000
    assert "of 20,000 pool rows are shown" in html


def test_the_exactness_of_scores_and_the_recall_of_a_cascade_are_told(html):
    text = words_of(html)
    assert "estimated error 0.0104 (scores of a query spread by 0.0570)" in text
    assert "predicted agreement with exact scores, top 1%: 85%, top 5%: 90%" in text
    assert "BM25 kept 40 of 200 rows; of the 10 rows that full LESS would take from" in text
    assert "7 were kept: recall 70% [40%, 89%]" in text
    assert "no projection: exact" in text


def test_distances_stand_beside_loss_and_random(html):
    text = words_of(part_of(html, "distances"))
    assert "Pool, 100 of 200 rows 0.900 [0.900, 0.902] Sinkhorn" in text
    assert re.search(r"Random mean of 3 subsets 100 0\.\d+ 0\.810 0\.810 0\.100", text)
    # The mean over seeds of random's 0.80, 0.81 and 0.82 is the yardstick.
    assert re.search(r"LESS \+ round robin 100 0\.\d+ 0\.405 50% of random", text)
    assert "Random mean of 3 subsets 100 of 500 rows have a score 500" in text
    assert "Effective dimension 4.2 (participation ratio 7.5), from 100 rows of the pool." in text
    assert "BM25 Not measured: its scores are not cosines." in text


def test_orderings_are_compared_and_their_ties_told(html):
    text = words_of(part_of(html, "orderings"))
    assert "two random subsets of 200 rows would have 0.111" in text
    assert "with p = 0.99 the first 100 ranks have 85% of the weight" in text
    assert "LESS + round robin – 0.34 EMBED + UOT 0.12 –" in text
    assert "LESS + round robin 500 4 1 0.016 0.05 1 EMBED" in text


def test_a_single_ordering_without_scores_has_no_comparison(make, tmp_path):
    record = make(methods=[("less", "round_robin")])
    record.agreement = None
    record.orderings[0]["scores"] = None
    for row in record.orderings[0]["rows"]:
        for name in ("margin", "duplicates", "nearest_rank", "nearest_cosine"):
            del row[name]
    html = html_of(record, tmp_path)
    assert 'id="orderings"' not in html
    (method,) = data_of(html, "row-data")["methods"]
    assert method["score"][1] == 0.5
    assert set(method["margin"]) == {None}


def test_distances_without_features_say_what_is_missing(make, tmp_path):
    record = make(seeds=(0,))
    (found, _) = record.distances
    found["dimension"] = None
    for cell in (found["pool"], *found["subsets"]):
        cell |= {"mmd": None, "sampling": None}
    text = words_of(html_of(record, tmp_path))
    assert "No features are kept, so there is no MMD" in text


def test_a_study_without_certificates_or_map_has_neither_section(make, tmp_path):
    record = make(budgets=(100,))
    record.certificates, record.map = [], None
    assert 'id="certificates"' not in html_of(record, tmp_path)


def test_tasks_have_tables_with_the_share_of_unreadable_answers(make, tmp_path):
    record = make(budgets=(100,))

    def measure(cell):
        cell["gsm8k/numeric_match"] = cell["exact_match"]
        cell["gsm8k/numeric_match_parse_failures"] = 0.625

    record.cells = changed(record, measure)
    text = words_of(html_of(record, tmp_path))
    assert "gsm8k: numeric match, higher is better." in text
    assert "Unreadable 62.5%" in text
    assert "where half of the answers or more could not be read" in text


def test_which_zero_shot_the_rows_are_compared_with_is_said(html, make, tmp_path):
    text = words_of(html_of(with_two_zero_shots(make()), tmp_path))
    assert "Zero-shot, no template" in text
    assert text.count("Zero-shot is the one without template.") == 1  # of test loss
    assert text.count("Zero-shot is the one with template.") == 2
    assert "with template" not in words_of(html)


def test_cost_stands_beside_gain(html):
    text = words_of(part_of(html, "bill"))
    assert "Cost against gain: test loss" in text
    assert re.search(
        r"LESS \+ round robin Cost beyond random 5 min features less 5 min, less round_robin 2\.0 s"
        r" Gain at 100 \+0\.\d+ \[\+0\.\d+, \+0\.\d+\] Gain at 500",
        text,
    )
    assert "Training one model, as random pays too At 100 2.0 s At 500 10 s" in text


def test_methods_stand_against_each_other(html, make, tmp_path):
    text = words_of(part_of(html, "pairs"))
    assert text.count("LESS + round robin against EMBED + UOT Budget 500") == 3  # a table a metric
    assert "3 of 3 seeds better, 0 worse; corrected p" in text
    alone = html_of(make(methods=[("less", "uot")]), tmp_path)
    assert 'id="pairs"' not in alone


def test_one_metric_is_chosen_for_figure_and_tables(html):
    (switch,) = re.findall(r'<select id="metric">.*?</select>', html)
    found = re.findall(r'<option value="([^"]*)">', switch)
    assert found == ["test_loss", "query_loss", "exact_match"]
    for anchor in ("results", "pairs", "bill"):
        assert set(re.findall(r'data-metric="([^"]*)"', part_of(html, anchor))) == set(found)


def test_ranks_are_shown_where_methods_met(html, make, tmp_path):
    assert "Mean ranks" not in html  # two methods that share nothing
    methods = [("less", s) for s in ("round_robin", "uot", "<b>mine")]
    section = part_of(html_of(make(methods=methods), tmp_path), "pairs")
    text = words_of(section)
    assert "Selectors under LESS Mean rank over seeds." in text
    assert "is no test of methods" in text
    assert re.search(r"round robin Test loss 1\.00 best in 6", text)
    assert "Do they differ?" not in text
    assert "<b>mine" in text
    assert "<b>mine" not in section
