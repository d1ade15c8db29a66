"""Each term on the first screens is explained where it first stands."""

import re

import pytest

from tests.report.page_reader import Page
from tis_ray.report import build_report
from tis_ray.report.terms import TERMS, Glossary, study_terms

ON_THE_FIRST_SCREENS = (
    "pool", "budget", "seed", "LESS", "round robin", "random", "test loss", "query loss",
    "exact match", "Holm's correction", "p", "corrected", "points", "better", "cannot tell",
    "zero-shot", "optimizer steps", "interval", "luck", "EMBED", "UOT", "queries",
)  # fmt: skip


@pytest.fixture(scope="module")
def html(record, tmp_path_factory):
    return build_report(record, tmp_path_factory.mktemp("terms")).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def first(html):
    """The page up to the end of its results."""
    return html[: re.search(r"<(?:section|details[^>]*) id=\"pairs\"", html).start()]


@pytest.mark.parametrize("term", ON_THE_FIRST_SCREENS)
def test_a_term_of_the_first_screens_is_explained_there(html, first, term):
    notes = dict(re.findall(r'<div class="note" popover id="([^"]*)"><b>(.*?)</b>', html))
    (anchor,) = (a for a, name in notes.items() if name.replace("&#39;", "'") == term)
    assert first.count(f'popovertarget="{anchor}"') == 1  # where it first stands, and no more


def test_each_explanation_belongs_to_a_button_and_each_button_has_one(html):
    targets = re.findall(r'popovertarget="([^"]*)"', html)
    notes = re.findall(r'popover id="([^"]*)"', html)
    assert sorted(targets) == sorted(notes)
    assert len(set(notes)) == len(notes)


def test_no_button_stands_in_a_link_a_button_or_a_summary(html):
    own = html[html.index("<body>") : html.index('<script type="application')]
    assert not re.search(r"<(a|summary|button|option)\b[^>]*>[^<]*<button", own)
    Page(html)  # balanced


def test_a_term_is_explained_once_the_longer_one_first_and_the_text_is_kept():
    glossary = Glossary({"LESS": "Representation: gradients."})
    text = "LESS beats random <b> on test loss (p < 0.001) over 3 seeds; random again."
    marked = glossary.marked(text)
    assert re.sub(r"<[^>]*>", "", str(marked)) == text.replace("<", "&lt;").replace(">", "&gt;")
    assert list(glossary.used) == ["LESS", "random", "test loss", "p", "seed"]
    assert "term" not in glossary.marked("random, seeds")


def test_marks_stay_with_their_term_and_a_bracket_of_numbers_is_explained():
    glossary = Glossary()
    text = "Loss −0.147 [−0.219, −0.075] over 5 seeds (cannot tell); [what of it may be luck]."
    marked = str(glossary.marked(text))
    assert re.sub(r"<[^>]*>", "", marked) == text
    assert list(glossary.used) == ["interval", "seed", "cannot tell", "luck"]
    whole = re.findall(r'<span class="whole">(.*?)</span>', marked)
    assert [re.sub(r"<[^>]*>", "", each) for each in whole] == ["(cannot tell);", "luck]."]


def test_methods_and_metrics_are_explained_by_their_specs(record):
    terms = study_terms(record.legend, record.table())
    assert terms["LESS"].startswith("Representation: gradients at the checkpoints")
    assert terms["round robin"].startswith("Selector: the queries take turns")
    assert terms["exact match"].startswith("Share of answers where the answer is the label")
    assert not set(terms) & set(TERMS)
