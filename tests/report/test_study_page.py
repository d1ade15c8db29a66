"""The page is one safe, complete file, and does not hide what went wrong."""

import base64
import hashlib
import re

import pytest

from tests.report.conftest import changed, with_two_zero_shots
from tests.report.page_reader import Page
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
            assert value.startswith(("#", "data:image/png;base64,")), (tag, key, value[:80])
        assert not key.startswith("on"), (tag, key)
    assert "url(http" not in html
    assert "@import" not in html


def test_untrusted_texts_cannot_become_markup(html, hostile):
    page = Page(html)
    assert page.tags.count("script") == 1
    assert "<script>alert(1)</script> $x_1$" in "".join(page.text)
    assert hostile not in html


def test_policy_allows_only_the_scripts_own_hash(html):
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', html)
    (script,) = re.findall(r"<script>(.*?)</script>", html, flags=re.S)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")


def test_verdict_leads_and_every_row_is_in_the_table(html):
    text = " ".join(" ".join(Page(html).text).split())
    assert "LESS + round robin beats random at budget" in text
    assert "budgets 100, 500 · seeds 0, 1, 2 · 2026-01-01 00:00 UTC" in text
    (table,) = re.findall(r"<table class=\"cards\">\s*<caption>Test loss.*?</table>", html, re.S)
    assert re.findall(r'<th scope="row"><span>([^<]*)', table) == [
        "Zero-shot",
        *["Random"] * 2,
        *["LESS + round robin"] * 2,
        *["EMBED + UOT"] * 2,
    ]
    assert "cannot tell" in table


def test_flags_are_shown_beside_the_number_and_on_top(html):
    assert "only 12 optimizer steps" in html
    assert "trained on 99 of 100 rows" in html
    assert "results after 16 optimizer steps or fewer" in html


def test_negative_results_lead_too(tmp_path, make):
    bad = make(gain=-0.3, budgets=(100,), methods=[("less", "round_robin")])
    html = html_of(bad, tmp_path)
    assert 'class="verdict bad"' in html
    assert "Every method is worse than random" in html


def test_a_row_without_a_result_is_listed_not_left_out(tmp_path, make):
    record = make(budgets=(100,))

    def fail(cell):
        if cell["representation"] == "embed":
            cell["test_loss"] = float("nan")

    record.cells = changed(record, fail)
    html = html_of(record, tmp_path)
    assert "no result" in html
    assert "test loss missing in 3 of 3" in html


def test_each_example_names_the_query_that_pulled_it(html):
    assert html.count("chosen by query q0") == 2 * 50
    assert "50 of 500 rows" in html
    assert "Ranks 11 to 50" in html


def test_quarantine_is_counted_by_reason(html):
    text = " ".join(" ".join(Page(html).text).split())
    assert "3 rows could not be used." in text
    assert re.search(r"no assistant turn pool 2\b", text)


def test_tables_have_captions_and_figures_have_names(html):
    assert html.count("<table") == html.count("<caption>")
    assert html.count("<svg") == html.count('role="img"') == html.count("<figcaption>") == 15


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
    for ordering in record.orderings:
        for row in ordering["rows"]:
            row["text"] = row["query_text"] = "word " * 20_000
    html = html_of(record, tmp_path)
    assert len(html.encode()) < 3_000_000
    assert "more characters]" in html
    assert "All 20,000 points are drawn, as a picture" in html


def test_the_exactness_of_scores_and_the_recall_of_a_cascade_are_told(html):
    text = " ".join(Page(html).text)
    assert "estimated error 0.0104 (scores of a query spread by 0.0570)" in text
    assert "predicted agreement with exact scores, top 1%: 85%, top 5%: 90%" in text
    assert "BM25 kept 40 of 200 rows; of the 10 rows that full LESS would take from" in text
    assert "7 were kept: recall 70% [40%, 89%]" in text
    assert "no projection: exact" in text


def test_distances_stand_beside_loss_and_random(html):
    (section,) = re.findall(r'<section id="distances">.*?</section>', html, re.S)
    text = " ".join(" ".join(Page(section).text).split())
    assert "Pool, 100 of 200 rows 0.900 [0.900, 0.902] Sinkhorn" in text
    assert re.search(r"Random mean of 3 subsets 100 0\.\d+ 0\.810 0\.810 0\.100", text)
    # The mean over seeds of random's 0.80, 0.81 and 0.82 is the yardstick.
    assert re.search(r"LESS \+ round robin 100 0\.\d+ 0\.405 50% of random", text)
    assert "Random mean of 3 subsets 100 of 500 rows have a score 500" in text
    assert "Effective dimension 4.2 (participation ratio 7.5), from 100 rows of the pool." in text
    assert "BM25 Not measured: its scores are not cosines." in text


def test_orderings_are_compared_and_their_ties_told(html):
    (section,) = re.findall(r'<section id="orderings">.*?</section>', html, re.S)
    text = " ".join(" ".join(Page(section).text).split())
    assert "two random subsets of 200 rows would have 0.111" in text
    assert "with p = 0.99 the first 100 ranks have 85% of the weight" in text
    assert "LESS + round robin – 0.34 EMBED + UOT 0.12 –" in text
    assert "LESS + round robin 500 4 1 0.016 0.05 1 EMBED" in text


def test_each_example_tells_how_clear_its_choice_was(html):
    text = " ".join(" ".join(Page(html).text).split())
    assert "#1 score 1 margin −0.2500 <script>" in text
    assert (
        "#2 score 0.5 margin 0.7500 a near-duplicate in the first 60 (cosine ≥ 0.95), nearest #10"
        in text
    )
    assert "margin 1.7500 2 near-duplicates in" in text


def test_a_single_ordering_without_scores_has_no_comparison(make, tmp_path):
    record = make(methods=[("less", "round_robin")])
    record.agreement = None
    record.orderings[0]["scores"] = None
    for row in record.orderings[0]["rows"]:
        for name in ("margin", "duplicates", "nearest_rank", "nearest_cosine"):
            del row[name]
    html = html_of(record, tmp_path)
    assert 'id="orderings"' not in html
    assert "score 0.5" in html


def test_distances_without_features_say_what_is_missing(make, tmp_path):
    record = make(seeds=(0,))
    (found, _) = record.distances
    found["dimension"] = None
    for cell in (found["pool"], *found["subsets"]):
        cell |= {"mmd": None, "sampling": None}
    text = " ".join(Page(html_of(record, tmp_path)).text)
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
    text = " ".join(" ".join(Page(html_of(record, tmp_path)).text).split())
    assert "gsm8k: numeric match, higher is better." in text
    assert "Unreadable 62.5%" in text
    assert "where half of the answers or more could not be read" in text


def test_which_zero_shot_a_row_is_compared_with_is_said(html, make, tmp_path):
    text = " ".join(Page(html_of(with_two_zero_shots(make()), tmp_path)).text)
    assert "Zero-shot, no template" in text
    assert text.count("without template") > 4  # a row each in the table of test loss
    assert "with template" not in " ".join(Page(html).text)


def test_cost_stands_beside_gain(html):
    (section,) = re.findall(r'<section id="gains">.*?</section>', html, re.S)
    text = " ".join(" ".join(Page(section).text).split())
    assert "Cost against gain: test loss" in text
    assert re.search(
        r"Random Cost beyond random none .* LESS \+ round robin Cost beyond random 5 min features less"
        r" 5 min, less round_robin 2\.0 s Gain at 100 \+0\.\d+ \[\+0\.\d+, \+0\.\d+\] Gain at 500",
        text,
    )
    assert section.count("features less 5 min") == 1  # said once, not in the table of each metric
    assert "Training one model, mean of all methods At 100 2.0 s At 500 10 s" in text


def test_ranks_are_shown_where_methods_met(html, make, tmp_path):
    assert 'id="ranks"' not in html  # two methods that share nothing
    methods = [("less", s) for s in ("round_robin", "uot", "<b>mine")]
    page = html_of(make(methods=methods), tmp_path)
    (section,) = re.findall(r'<section id="ranks">.*?</section>', page, re.S)
    text = " ".join(" ".join(Page(section).text).split())
    assert "Selectors under LESS Mean rank [95% interval over seeds]" in text
    assert re.search(r"round robin Test loss 1\.00 best in 6, the same in all 3 seeds", text)
    assert text.count("6 comparisons, 3 seeds") == 3
    assert "<b>mine" in text
    assert "<b>mine" not in section
