"""Every number of the page is made again from the record's plain JSON, with numpy and scipy alone.

Means and intervals, differences with random, zero-shot and other methods, their p-values and verdicts: by the
formulas of docs/statistics.md, written down here once more.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import scipy.stats

from tests.report.page_reader import data_of, part_of, words_of
from tis_ray.config import load_config
from tis_ray.report import build_report
from tis_ray.report.pairs_section import MOST
from tis_ray.study.run import run

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


def half(parts, level=0.95):
    """Half the width of an interval of independent parts: variance and degrees of freedom of each."""
    return np.sqrt(sum(scipy.stats.t.ppf((1 + level) / 2, df) ** 2 * v for v, df in parts))


def variance(values):
    values = np.asarray(values, float)
    return 0.0 if np.ptp(values) <= 1e-12 * np.abs(values).max() else values.var(ddof=1)


def mean_parts(runs):
    """The parts of a mean over runs and rows."""
    n = len(runs.values)
    own, parts = variance(runs.values) / n, []
    rows = runs.rows
    if rows is not None and n > 1:
        seeds, size = rows.shape
        rest = rows - rows.mean(1, keepdims=True) - rows.mean(0) + rows.mean()
        own = max(0.0, own - (rest**2).sum() / ((seeds - 1) * (size - 1)) / (n * size))
        parts = [(rows.mean(0).var(ddof=1) / size, size - 1)]
    return [(own, n - 1), *parts]


def mean_interval(runs):
    mean = runs.values.mean()
    if len(runs.values) < 2:
        return [mean]
    wide = half(mean_parts(runs))
    if wide == 0:
        return [mean]
    ends = [mean - wide, mean + wide]
    return [mean, *(np.clip(ends, 0, 100) if runs.share else ends)]


def rows_part(left, right):
    """The rows' part of a difference; a share's has two half-rows more."""
    if left.rows is None or right.rows is None:
        return []
    gaps = left.rows.mean(0) - right.rows.mean(0)
    more = (100 / len(gaps)) ** 2 if left.share else 0.0
    return [(gaps.var(ddof=1) / len(gaps) + more, len(gaps) - 1)]


def against_random(runs, random):
    n = len(random.values)
    return [(variance(random.values) * (1 + 1 / n), n - 1), *rows_part(runs, random)]


def method_against_random(drawn, random):
    n, others = len(drawn.values), len(random.values)
    luck = variance(drawn.values) * (1 + 1 / n) + variance(random.values) / others
    return [(luck, min(n, others) - 1), *rows_part(drawn, random)]


def against_zero(runs, zero):
    less = Runs(runs.values - zero.values[0], runs.share)
    if runs.rows is not None and zero.rows is not None:
        less.rows = runs.rows - zero.rows
    training = mean_parts(less)[:1]
    return [*training, *rows_part(runs, zero)]


def between(left, right, random, drawn):
    """Two methods: by their draws if both have some, else as two random subsets."""
    ours, theirs = drawn
    if ours is not None and theirs is not None:
        n = len(ours.values)
        return [(variance(ours.values - theirs.values) * (1 + 1 / n), n - 1), *rows_part(*drawn)]
    return [(2 * variance(random.values), len(random.values) - 1), *rows_part(left, right)]


def check_difference(text, left, right, parts, metric, *, luck=True, margin=0.02):
    """Assert that a cell shows this difference, its interval, p and verdict."""
    gap = left.values.mean() - right.values.mean()
    if parts[0][1] < 1:  # of one run nothing is known but the difference
        same(numbers(text), [gap])
        return
    wide = half(parts)
    shown, _, p_text = text.partition(" p ")
    # Where random's runs are all the same, nothing is known of luck.
    known = wide > 0 and (parts[0][0] > 0 or not luck)
    ends = [gap - wide, gap + wide] if known else []
    same(numbers(shown), [gap, *ends])
    if not ends:
        return
    verdict = re.search("better|worse|alike|cannot tell", text)
    if verdict is None:
        return
    scale = 100 if metric in SHARES else 1
    if abs(gap) > wide:
        wanted = "better" if (gap > 0) == (metric in SHARES) else "worse"
    else:
        wanted = "alike" if abs(gap) + half(parts, 0.90) < margin * scale else "cannot tell"
    assert verdict[0] == wanted, (text, gap, wide)
    if p_text.startswith("= "):
        (p_value, places), *_ = numbers(p_text)
        low, high = p_value - 0.5 * 10**-places, min(1.0, p_value + 0.5 * 10**-places)
        assert half(parts, 1 - high) * 0.999 <= abs(gap) <= half(parts, 1 - max(low, 1e-9)) * 1.001


class Runs:
    """Values of runs, and of their rows."""

    def __init__(self, values, share, rows=None):
        self.values, self.share, self.rows = np.asarray(values, float), share, rows


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
            and cell.get("draw") is None
            and cell.get(metric) is not None
        }

    def runs(self, label, budget, metric, drawn=False):
        """Return the runs of a row with their rows, or of its draws; None where there are none."""
        scale = 100 if metric in SHARES else 1
        cells = [
            cell
            for cell in self.raw["cells"]
            if (self.label(cell), cell["budget"]) == (label, budget)
            and (cell.get("draw") is not None) == drawn
            and cell.get(metric) is not None
        ]
        if not cells:
            return None
        rows = [cell.get("rows", {}).get(metric) for cell in cells]
        kept = None
        if all(rows) and len({len(row) for row in rows}) == 1:
            kept = scale * np.array([[float(value) for value in row] for row in rows])
        return Runs([scale * cell[metric] for cell in cells], metric in SHARES, kept)

    def zero_shot(self, metric):
        """Return the better of the zero-shots."""
        found = [
            runs
            for label in ("Zero-shot", "Zero-shot, no template")
            if (runs := self.runs(label, 0, metric)) is not None
        ]
        pick = max if metric in SHARES else min
        return pick(found, key=lambda runs: runs.values[0])


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
            mine = study.runs(label, budget, metric)
            same(numbers(cells["Mean"].removeprefix("Mean")), mean_interval(mine))
            if label.startswith("Zero-shot"):
                continue
            zero = study.zero_shot(metric)
            shown = cells["Against zero-shot"].partition("shot")[2]
            check_difference(shown, mine, zero, against_zero(mine, zero), metric, luck=False)
            if label != "Random":
                random = study.runs("Random", budget, metric)
                drawn = study.runs(label, budget, metric, drawn=True)
                shown = cells["Against random"].partition("random")[2]
                of_rows, _, of_method = shown.partition("Method ")
                parts = against_random(mine, random)
                check_difference(of_rows.removeprefix("Rows "), mine, random, parts, metric)
                assert bool(of_method) == (drawn is not None)
                if drawn is not None:
                    parts = method_against_random(drawn, random)
                    check_difference(of_method, drawn, random, parts, metric)
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
            sides = [study.runs(name, budget, metric) for name in (left, right)]
            drawn = [study.runs(name, budget, metric, drawn=True) for name in (left, right)]
            random = study.runs("Random", budget, metric)
            parts = between(*sides, random, drawn)
            met = drawn if drawn[0] is not None and drawn[1] is not None else sides
            check_difference(cells["Difference"], *met, parts, metric)
            gaps = met[0].values - met[1].values
            sign = 1 if metric in SHARES else -1
            won, lost = (int((w * sign * gaps > 0).sum()) for w in (1, -1))
            kind = "draws" if met is drawn else "seeds"
            assert f"{won} of {len(gaps)} {kind} better, {lost} worse" in cells["Verdict"]
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
                mine, random = (study.runs(n, budget, metric) for n in (label, "Random"))
                sign = 1 if metric in SHARES else -1
                gain = sign * (mine.values.mean() - random.values.mean())
                wide = half(against_random(mine, random))
                known = len(random.values) > 1
                gains = [gain, gain - wide, gain + wide] if known else [gain]
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
             "seconds", "peak_mb", "draw"}  # fmt: skip
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
            if (study.label(c), c["budget"], c.get("draw")) == (cells["Method"], budget, None)
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
        pairs = budgets * methods * (methods - 1) // 2
        assert check_pairs(html, study, metrics) == len(metrics) * min(pairs, MOST)
        assert (f"The first {MOST} of {pairs} pairs" in html) == (pairs > MOST)
    assert check_bill(html, study, metrics) == lines
    check_counts(html, study)
    check_values(html, study)
    assert check_answers(html, study) >= methods * budgets


METRICS = {"test_loss": "Test loss", "query_loss": "Query loss", "exact_match": "Exact match"}


def test_every_number_of_a_made_up_study_is_made_again(record, tmp_path):
    html = build_report(record, tmp_path).read_text(encoding="utf-8")
    check_page(html, Study(record.to_json()), METRICS, methods=2, budgets=2)


def test_every_number_of_a_study_with_draws_and_rows_is_made_again(record, tmp_path):
    rng = np.random.default_rng(0)

    def with_rows(cell, **changes):
        losses = {
            name: (value + rng.normal(0, 0.3, 12)).round(4).tolist()
            for name, value in cell.metrics.items()
            if name.endswith("loss")
        }
        answers = (rng.random(12) < cell.metrics["exact_match"]).astype(float).tolist()
        return replace(cell, rows={**losses, "exact_match": answers}, **changes)

    drawn = [
        with_rows(
            cell,
            draw=draw,
            metrics={name: value + rng.normal(0, 0.02) for name, value in cell.metrics.items()},
        )
        for cell in record.cells
        if not cell.method.is_baseline and cell.seed == 0
        for draw in range(3)
    ]
    record = replace(record, cells=[*(with_rows(cell) for cell in record.cells), *drawn])
    html = build_report(record, tmp_path).read_text(encoding="utf-8")
    check_page(html, Study(record.to_json()), METRICS, methods=2, budgets=2)


@pytest.mark.ray
def test_every_number_of_a_trained_study_is_made_again(undisturbed: Path):
    folder = undisturbed / "runs" / "small" / "report"
    html = (folder / "index.html").read_text(encoding="utf-8")
    study = Study((folder / "record.json").read_text(encoding="utf-8"))
    check_page(html, study, METRICS, methods=1, budgets=1)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize(("name", "methods", "budgets"), [("quickstart", 2, 2), ("study", 8, 3)])
def test_every_number_of_an_example_is_made_again(ray_cluster, tmp_path, name, methods, budgets):
    config = load_config(Path("examples") / f"{name}.yaml")
    changes = {"runs": str(tmp_path / "runs"), "artifacts": str(tmp_path / "artifacts")}
    result = run(config.model_copy(update=changes))
    html = result.report.read_text(encoding="utf-8")
    text = (result.report.parent / "record.json").read_text(encoding="utf-8")
    check_page(html, Study(text), METRICS, methods=methods, budgets=budgets)
