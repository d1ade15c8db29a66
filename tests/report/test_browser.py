"""The page in a real browser, where one is installed: it draws, fits a phone, answers clicks, and asks for nothing.

To look at it: `TIS_RAY_SCREENSHOTS=folder pytest tests/report/test_browser.py` keeps the pictures.
"""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.paper.published import write_published
from tests.report.conftest import HOSTILE
from tests.report.test_preview import EVIL, preview_of
from tis_ray.report import build_report
from tis_ray.report.analyze import analyze
from tis_ray.report.preview_page import write_preview

sync_api = pytest.importorskip("playwright.sync_api")
BROWSER = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chrome"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no chromium or chrome on this machine"),
]
DESKTOP, PHONE = (1280, 800), (390, 844)
MOST_SCREENS = {DESKTOP: 6, PHONE: 10}
SELECTED = "LESS + round robin"


@pytest.fixture(scope="module")
def chromium():
    # Every host resolves to nothing: a page that needs the network would show it.
    args = ["--no-sandbox", "--disable-gpu", "--host-resolver-rules=MAP * ~NOTFOUND"]
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=args)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def report(record, tmp_path_factory):
    return build_report(record, tmp_path_factory.mktemp("report"))


@contextmanager
def opened(chromium, path, size=DESKTOP):
    """Open a page; fail on whatever it says to the console, on an error, a dialogue or a request."""
    said = []
    context = chromium.new_context(
        viewport=dict(zip(("width", "height"), size, strict=True)), has_touch=size == PHONE
    )
    page = context.new_page()
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("dialog", lambda dialog: said.append(f"dialog {dialog.message}"))
    page.on("request", lambda request: said.append(request.url) if "://" in request.url else None)
    page.goto(path.as_uri())
    page.wait_for_load_state()
    yield page
    page.wait_for_timeout(100)
    keep(page, path, size)
    context.close()
    assert said == [path.as_uri()]


def keep(page, path, size):
    if folder := os.environ.get("TIS_RAY_SCREENSHOTS"):
        test = os.environ["PYTEST_CURRENT_TEST"].partition("::")[2].partition("[")[0].split()[0]
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=f"{folder}/{test}-{path.parent.name}-{size[0]}.png", full_page=True)


def until(page, expression):
    """Wait until an expression holds. The page's policy forbids Playwright's own way, which is `eval`."""
    for _ in range(100):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(100)
    raise AssertionError(f"never: {expression}")


def unfold(page, anchor):
    page.locator(f"nav a[href='#{anchor}']").click()
    until(page, f"document.getElementById('{anchor}').open")
    if anchor in ("rows", "answers"):
        page.wait_for_selector(f"#{anchor}-table tbody tr", timeout=30_000)


def downloaded(page, button):
    with page.expect_download() as found:
        button.click()
    return Path(found.value.path()).read_text(encoding="utf-8")


@pytest.mark.parametrize("size", [DESKTOP, PHONE])
def test_the_page_is_drawn_on_few_screens_and_no_wider_than_they_are(chromium, report, size):
    with opened(chromium, report, size) as page:
        page.wait_for_selector("#results svg")
        height, width = page.evaluate(
            "[document.documentElement.scrollHeight, document.documentElement.scrollWidth]"
        )
        assert height <= MOST_SCREENS[size] * size[1]
        assert width <= size[0]
        assert page.locator("details[open]").count() == 0
        # Only what is in view is drawn: one figure.
        assert page.locator(".chart svg.marks").count() == 1


@pytest.mark.parametrize("size", [DESKTOP, PHONE])
def test_every_fold_opens_and_is_drawn_and_no_wider_than_the_screen(chromium, report, size):
    with opened(chromium, report, size) as page:
        page.evaluate(
            "document.querySelectorAll('details').forEach((fold) => { fold.open = true; })"
        )
        figures = page.locator(".chart:visible")
        until(
            page,
            "[...document.querySelectorAll('.chart')].filter((c) => c.checkVisibility() && c.clientWidth)"
            ".every((c) => c.querySelector('svg.marks')?.clientHeight > 40)",
        )
        page.wait_for_selector("#rows-table tbody tr")
        page.wait_for_selector("#answers-table tbody tr")
        assert figures.count() >= 8
        assert page.evaluate("document.documentElement.scrollWidth") <= size[0]


def test_contents_stay_in_view_in_the_order_of_the_page(chromium, report):
    with opened(chromium, report) as page:
        anchors = page.evaluate(
            "[...document.querySelectorAll('nav a')].map((a) => a.hash.slice(1))"
        )
        tops = [page.evaluate(f"document.getElementById('{a}').offsetTop") for a in anchors]
        assert tops == sorted(tops)
        unfold(page, "reading")
        until(page, "document.querySelector('nav').getBoundingClientRect().top === 0")


def test_a_metric_is_chosen_for_figure_and_tables(chromium, report):
    with opened(chromium, report) as page:
        tables = page.locator("[data-metric]:visible table")
        assert tables.count() == 3  # results, methods, bill
        page.select_option("#metric", "exact_match")
        assert "Exact match" in page.locator("#results figcaption:visible b").inner_text()
        assert tables.count() == 3
        assert "%" in tables.first.inner_text()
        page.get_by_role("radio", name="Difference to random").check()
        page.wait_for_selector("[data-figure=difference_exact_match] svg")
        assert page.locator("#results figure:visible").count() == 1


def test_hovering_shows_the_numbers_of_the_table(chromium, report):
    with opened(chromium, report) as page:
        page.wait_for_selector("#results svg")
        marks = page.locator("#results .chart:visible .mark-symbol.role-mark path")
        texts = []
        for i in range(marks.count()):
            marks.nth(i).hover(force=True)
            page.wait_for_selector("#vg-tooltip-element.visible")
            texts.append(page.locator("#vg-tooltip-element").inner_text())
        (text,) = (t for t in texts if SELECTED in t and "500" in t)
        cells = page.locator(f"#results tr:visible:has-text('{SELECTED}'):has-text('500')")
        mean = cells.locator("td").nth(1).inner_text().split()[0]
        assert mean in text


def test_rows_are_searched_sorted_filtered_and_counted(chromium, report):
    with opened(chromium, report) as page:
        unfold(page, "rows")
        rows, info = page.locator("#rows-table tbody tr"), page.locator("#rows-table .dt-info")
        assert info.inner_text() == "1 to 10 of 200 rows"
        assert rows.first.locator("td").first.inner_text() == "1"
        page.locator("#rows-table input[type=search]").fill("long number17")
        page.wait_for_selector("#rows-table .dt-info:has-text('(of 200)')")
        assert info.inner_text() == "1 to 10 of 11 rows (of 200)"  # 17, and 170 to 179
        page.locator("#rows-table input[type=search]").fill("number17 number18")
        page.wait_for_selector("text=No row has all of these.")
        page.locator("#rows-table input[type=search]").fill("")
        page.locator("#rows-table th").nth(1).click()  # by score, the lowest first
        until(page, "document.querySelector('#rows-table tbody td').textContent !== '1'")
        assert float(rows.first.locator("td").nth(1).inner_text()) < 0.01
        page.select_option("#rows-budget", "100")
        assert info.inner_text() == "1 to 10 of 100 rows"
        page.select_option("#rows-source", f"={HOSTILE}")
        assert info.inner_text() == "1 to 10 of 100 rows"
        page.select_option("#rows-query", "=q0")
        rows.first.locator("summary").click()
        assert HOSTILE[:25] in rows.first.inner_text()
        assert "chosen by query q0" in rows.first.inner_text()


def test_two_methods_stand_side_by_side(chromium, report):
    with opened(chromium, report) as page:
        unfold(page, "rows")
        page.select_option("#rows-budget", "100")
        page.select_option("#rows-beside", "1")
        info = page.locator("#rows-table .dt-info")
        heads = page.locator("#rows-table thead th").all_inner_texts()
        assert [head.strip() for head in heads[:2]] == [f"Rank, {SELECTED}", "Rank, EMBED + UOT"]
        counts = {}
        for which in ("", "both", "left", "right"):
            page.select_option("#rows-which", which)
            counts[which] = int(info.inner_text().split(" of ")[1].split()[0])
        # The second ordering begins 7 rows further on.
        assert counts == {"": 107, "both": 93, "left": 7, "right": 7}


def test_selected_rows_are_downloaded_as_they_are_filtered(chromium, report):
    with opened(chromium, report) as page:
        unfold(page, "rows")
        page.select_option("#rows-budget", "100")
        page.locator("#rows-table input[type=search]").fill("number3 long")
        page.wait_for_selector("#rows-table .dt-info:has-text('(of 100)')")
        jsonl = downloaded(page, page.get_by_text("Download JSONL").first)
        found = [json.loads(line) for line in jsonl.splitlines()]
        assert {row["source"] for row in found} == {HOSTILE}
        assert all("number3" in row["text"] for row in found)
        assert found[0]["method"] == SELECTED
        text = downloaded(page, page.get_by_text("Download CSV").first)
        lines = list(csv.DictReader(io.StringIO(text)))
        assert [line["text"] for line in lines] == [row["text"] for row in found]
        assert [line["rank"] for line in lines] == [str(row["rank"]) for row in found]


def test_fixed_answers_come_first_then_broken_ones(chromium, report):
    with opened(chromium, report) as page:
        unfold(page, "answers")
        changes = page.locator("#answers-table tbody td:first-child").all_inner_texts()
        assert [change.strip() for change in changes] == ["fixed", "fixed", "broken", "alike"]
        assert "answers 2 better than Random @ 500 (fixed) and 1 worse" in (
            page.locator("#answers-count").inner_text()
        )
        first = page.locator("#answers-table tbody tr").first.inner_text()
        assert "label 0" in first
        assert f"{HOSTILE[:25]}" in first
        page.select_option("#answers-right", "2")  # LESS at the smaller budget: the same shares
        changes = page.locator("#answers-table tbody td:first-child").all_inner_texts()
        assert {change.strip() for change in changes} == {"alike"}
        assert len(downloaded(page, page.locator("#answers-save button").first).splitlines()) == 9


@pytest.mark.parametrize("size", [DESKTOP, PHONE])
def test_a_term_is_explained_by_a_tap(chromium, report, size):
    with opened(chromium, report, size) as page:
        term = page.locator(".verdict .term").first
        note = page.locator(f"#{term.get_attribute('popovertarget')}")
        assert not note.is_visible()
        term.tap() if size == PHONE else term.click()
        assert note.is_visible()
        assert len(note.inner_text()) > 20


def test_without_scripts_the_tables_of_all_metrics_are_there(chromium, report):
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(report.as_uri())
    assert page.locator("#results table:visible").count() == 3
    context.close()


def test_ten_orderings_of_ten_thousand_rows_open(chromium, make, tmp_path):
    methods = [(r, s) for r in ("less", "rds", "embed", "bm25", "mine") for s in ("uot", "knn")]
    record = make(pool=60_000, budgets=(10_000,), methods=methods, seeds=(0,))
    path = build_report(record, tmp_path)
    with opened(chromium, path) as page:
        unfold(page, "rows")
        page.wait_for_selector("#rows-table tbody tr", timeout=30_000)
        assert "of 10,000 rows" in page.locator("#rows-table .dt-info").inner_text()
        page.locator("#rows-table input[type=search]").fill("number1234 long")
        until(
            page,
            "document.querySelector('#rows-table .dt-info').textContent.includes('(of 10,000)')",
        )


@pytest.mark.parametrize("size", [DESKTOP, PHONE])
def test_an_analysis_is_drawn(chromium, tmp_path, size):
    path = analyze(write_published(tmp_path / "plot_data", sub=True), tmp_path / "out")
    with opened(chromium, path, size) as page:
        page.wait_for_selector("#results svg")
        page.evaluate(
            "document.querySelectorAll('details').forEach((fold) => { fold.open = true; })"
        )
        until(
            page,
            "[...document.querySelectorAll('.chart')].filter((c) => c.checkVisibility() && c.clientWidth)"
            ".every((c) => c.querySelector('svg.marks')?.clientHeight > 40)",
        )
        assert page.evaluate("document.documentElement.scrollWidth") <= size[0]


@pytest.mark.parametrize("size", [DESKTOP, PHONE])
def test_a_preview_is_drawn_and_runs_nothing_of_its_rows(chromium, tmp_path, size):
    path = write_preview([preview_of(EVIL * 20)], tmp_path / "preview.html")
    with opened(chromium, path, size) as page:
        assert page.locator("img").count() == 0
        assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
