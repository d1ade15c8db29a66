"""Every number of the page is made again from the record's plain JSON, with numpy and scipy alone.

Verdicts and p-values against random have tests of their own (`tests/analysis`); their differences are
checked here.
"""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import scipy.stats

from tests.report.page_reader import data_of, part_of, words_of
from tis_ray.report import build_report

MINUS = "\N{MINUS SIGN}"
SHARES = {"exact_match"}


class Rows(HTMLParser):
    """The tables of a piece of a page: each the texts of its cells, row by row, by its label."""

    def __init__(self, html):
        super().__init__()
        self.tables, self._cell = {}, None
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if "aria-label" in attrs and tag == "div" and attrs.get("role") == "region":
            self.rows = self.tables.setdefault(attrs["aria-label"], [])
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self._cell = []
        if tag in ("span", "br") and self._cell is not None:
            self._cell.append(" ")

    def handle_endtag(self, tag):
        if tag == "span" and self._cell is not None:
            self._cell.append(" ")
        if tag in ("td", "th"):
            self.rows[-1].append(" ".join("".join(self._cell).split()))
            self._cell = None

    def handle_data(self, data):
        if self._cell is not None:
            self._cell.append(data)


def numbers(text):
    """Return the numbers of a text with how many decimals each has."""
    found = re.findall(rf"(?<![\w.])[+{MINUS}]?\d[\d,]*(?:\.\d+)?", text)
    plain = [token.replace(MINUS, "-").replace(",", "") for token in found]
    return [(float(token), len(token.partition(".")[2])) for token in plain]


def same(shown, wanted):
    """Assert that the numbers of a text are these, to the digits that are shown."""
    assert len(shown) == len(wanted), (shown, wanted)
    for (value, places), exact in zip(shown, wanted, strict=True):
        assert value == pytest.approx(exact, abs=0.5001 * 10**-places), (shown, wanted)


def interval(values):
    """Return mean and the ends of Student's 95% interval; the mean alone where there is none."""
    values = np.asarray(values, float)
    if len(values) < 2 or np.ptp(values) == 0:
        return [values.mean()]
    ends = scipy.stats.t.interval(
        0.95, len(values) - 1, loc=values.mean(), scale=scipy.stats.sem(values)
    )
    return [values.mean(), *ends]


class Study:
    """The record's JSON, read without the package."""

    def __init__(self, text):
        self.raw = json.loads(text)
        self.legend = self.raw["legend"]

    def label(self, names):
        representation, selector = names["representation"], names["selector"]
        if representation.startswith("zero_shot"):
            return "Zero-shot, no template" if "no template" in representation else "Zero-shot"
        if representation == "random":
            return "Random"
        own = self.legend["representations"].get(representation, representation)
        return f"{own} + {self.legend['selectors'].get(selector, selector)}"

    def values(self, label, budget, metric):
        """Return seed → value of a row."""
        scale = 100 if metric in SHARES else 1
        return {
            cell["seed"]: scale * cell[metric]
            for cell in self.raw["cells"]
            if (self.label(cell), cell["budget"]) == (label, budget)
            and cell.get(metric) is not None
        }

    def zero_shot(self, metric):
        """Return the better of the zero-shots."""
        found = [
            next(iter(self.values(label, 0, metric).values()))
            for label in ("Zero-shot", "Zero-shot, no template")
            if self.values(label, 0, metric)
        ]
        return (max if metric in SHARES else min)(found)


def check_results(html, study, metrics):
    tables = Rows(part_of(html, "results")).tables
    checked = 0
    for metric, words in metrics.items():
        head, *rows = tables[f"Table of {words}"]
        for row in rows:
            cells = dict(zip(head, row, strict=True))
            label = next(
                name for name in sorted({study.label(c) for c in study.raw["cells"]}, key=len)[::-1]
                if cells["Method"].startswith(name)
            )  # fmt: skip
            (budget,) = [int(v) for v, _ in numbers(cells["Budget"].replace("none", "0"))]
            mine = study.values(label, budget, metric)
            same(numbers(cells["Mean"].removeprefix("Mean")), interval(list(mine.values())))
            if label.startswith("Zero-shot"):
                continue
            zero = study.zero_shot(metric)
            differences = interval([value - zero for value in mine.values()])
            same(numbers(cells["Against zero-shot"].partition("shot")[2]), differences)
            if label != "Random":
                random = study.values("Random", budget, metric)
                gaps = interval([mine[s] - random[s] for s in mine if s in random])
                shown = numbers(cells["Against random"].partition(" p ")[0])
                same(shown, gaps)
            checked += 1
    return checked


def check_pairs(html, study, metrics):
    checked = 0
    for label, (head, *rows) in Rows(part_of(html, "pairs")).tables.items():
        metric = next((m for m, w in metrics.items() if label.endswith(f"other, {w}")), None)
        if metric is None:
            continue
        for row in rows:
            cells = dict(zip(head, row, strict=True))
            left, right = cells["First against second"].split(" against ")
            (budget,) = [int(v) for v, _ in numbers(cells["Budget"])]
            ours, theirs = (study.values(name, budget, metric) for name in (left, right))
            gaps = [ours[s] - theirs[s] for s in ours if s in theirs]
            same(numbers(cells["Difference"]), interval(gaps))
            sign = 1 if metric in SHARES else -1
            won, lost = (sum(w * sign * g > 0 for g in gaps) for w in (1, -1))
            assert f"{won} of {len(gaps)} seeds better, {lost} worse" in cells["Verdict"]
            checked += 1
    return checked


def check_bill(html, study, metrics):
    tables = Rows(part_of(html, "bill")).tables
    checked = 0
    for metric, name in metrics.items():
        head, *rows = tables[f"Cost against gain in {name}"]
        for row in rows[:-1]:
            cells = dict(zip(head, row, strict=True))
            label = cells["Method"].partition(" not counted")[0]
            made = {}
            for stage in study.raw["stages"]:
                for names in stage["needed_by"]:
                    alone = study.legend["representations"].get(names["representation"], "?")
                    if label == study.label(names) or (
                        names["selector"] is None and label.startswith(f"{alone} +")
                    ):
                        made[stage["artifact"]] = stage["seconds"]
            check_duration(cells["Cost beyond random"], sum(made.values()))
            for column in head[2:]:
                budget = int(numbers(column)[0][0])
                mine, random = (study.values(n, budget, metric) for n in (label, "Random"))
                sign = 1 if metric in SHARES else -1
                gains = interval([sign * (mine[s] - random[s]) for s in mine if s in random])
                shown = numbers(cells[column].partition(f"Gain at {budget:,}")[2])
                same(shown[:1], gains[:1])
                assert sorted(shown[1:]) == shown[1:]
                same(shown[1:], sorted(gains[1:]))
                checked += 1
        training = dict(zip(head, rows[-1], strict=True))
        for column in head[2:]:
            budget = int(numbers(column)[0][0])
            seconds = [
                c["seconds_train"] for c in study.raw["cells"]
                if c["budget"] == budget and c.get("seconds_train")
            ]  # fmt: skip
            check_duration(training[column].partition(f"At {budget:,}")[2], np.mean(seconds))
    return checked


def check_duration(text, seconds):
    """Assert that a text begins with these seconds, in whatever unit it has."""
    value, unit = re.search(r"([\d.]+) (s|min|h)\b", text).groups()
    places = len(value.partition(".")[2])
    size = {"s": 1, "min": 60, "h": 3600}[unit]
    assert float(value) == pytest.approx(seconds / size, abs=0.5001 * 10**-places)


def check_counts(html, study):
    raw = study.raw
    facts = words_of(html.partition('<div class="verdict')[0])
    assert f"{sum(raw['composition'][0]['counts'].values()):,} pool rows" in facts
    assert f"{len(raw['map']['query_xy'])} queries" in facts
    selected = Rows(part_of(html, "selected")).tables
    _, *rows = selected["Counts of every source"]
    for row in rows:
        for part, text in zip(raw["composition"], row[1:], strict=True):
            count, total = part["counts"].get(row[0], 0), sum(part["counts"].values())
            same(numbers(text), [count, 100 * count / total])
    _, *rows = selected["Tokens of every subset"]
    for part, row in zip(raw["lengths"], rows, strict=True):
        q = part["quantiles"]
        same(numbers(" ".join(row[1:4])), [part["rows"], part["tokens"], q[2], q[0], q[4]])
    _, *rows = Rows(part_of(html, "bill")).tables["Cost by stage"]
    for row in rows:
        own = [s for s in raw["stages"] if s["stage"] == row[0]]
        same(numbers(" ".join(row[1:3])), [len(own), sum(s["reused"] for s in own)])
        same(numbers(" ".join(row[5:7])), [sum(s[k] for s in own) for k in ("rows", "quarantined")])
        for column, reused in ((3, False), (4, True)):
            seconds = sum(s["seconds"] for s in own if s["reused"] == reused)
            if seconds:
                check_duration(row[column], seconds)
            else:
                assert row[column] == "–"


def check_values(html, study):
    """Every number that a cell has besides its own facts is in the table of all values."""
    facts = {"budget", "seed", "train_rows", "train_tokens", "optimizer_steps", "seconds_train",
             "seconds", "peak_mb"}  # fmt: skip
    names = list(
        dict.fromkeys(
            name for cell in study.raw["cells"] for name, value in cell.items()
            if name not in facts and isinstance(value, int | float)
        )
    )  # fmt: skip
    head, *rows = Rows(part_of(html, "values")).tables["Everything measured"]
    assert set(head) == {"Method", "Budget", "Seeds", *names}
    for row in rows:
        cells = dict(zip(head, row, strict=True))
        budget = int(cells["Budget"].replace(",", "") or 0)
        own = [
            c for c in study.raw["cells"]
            if (study.label(c), c["budget"]) == (cells["Method"], budget)
        ]  # fmt: skip
        assert int(cells["Seeds"]) == len(own)
        for name in names:
            known = [cell[name] for cell in own if cell.get(name) is not None]
            same(numbers(cells[name]), [np.mean(known)] if known else [])


def check_answers(html, study):
    graded = study.raw["answers"]
    _, *rows = Rows(part_of(html, "answers")).tables["Answers fixed and broken"]
    checked = 0
    for name, other, *counts, total, questions in rows:
        (found,) = (g for g in graded if g["name"] == questions)
        label, _, budget = name.rpartition(" @ ")
        (mine,) = (
            m for m in found["methods"]
            if (study.label(m), m["budget"]) == (label, int(budget.replace(",", "")))
        )  # fmt: skip
        (theirs,) = (
            m for m in found["methods"]
            if study.label(m) == other and m["budget"] in (0, mine["budget"])
        )  # fmt: skip
        gaps = np.subtract(mine["values"], theirs["values"])
        wanted = [(gaps > 0).sum(), (gaps < 0).sum(), (gaps == 0).sum(), len(gaps)]
        assert [int(count) for count in (*counts, total)] == wanted
        checked += 1
    shown = data_of(html, "answer-data")
    for part, found in zip(shown, graded, strict=True):
        for method, mine in zip(part["methods"], found["methods"], strict=True):
            assert method["shown"] == [f"{100 * value:.0f}%" for value in mine["values"]]
    return checked


def check_page(html, study, metrics, methods, budgets):
    lines = methods * budgets * len(metrics)
    assert check_results(html, study, metrics) == lines + budgets * len(metrics)  # and random
    if methods > 1:
        pairs = methods * (methods - 1) // 2
        assert check_pairs(html, study, metrics) == budgets * len(metrics) * pairs
    assert check_bill(html, study, metrics) == lines
    check_counts(html, study)
    check_values(html, study)
    assert check_answers(html, study) >= methods * budgets


METRICS = {"test_loss": "Test loss", "query_loss": "Query loss", "exact_match": "Exact match"}


def test_every_number_of_a_made_up_study_is_made_again(record, tmp_path):
    html = build_report(record, tmp_path).read_text(encoding="utf-8")
    check_page(html, Study(record.to_json()), METRICS, methods=2, budgets=2)


@pytest.mark.ray
def test_every_number_of_a_trained_study_is_made_again(undisturbed: Path):
    folder = undisturbed / "runs" / "small" / "report"
    html = (folder / "index.html").read_text(encoding="utf-8")
    study = Study((folder / "record.json").read_text(encoding="utf-8"))
    check_page(html, study, METRICS, methods=1, budgets=1)
