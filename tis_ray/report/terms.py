"""What the words of a page mean: each is explained where it first stands, by a tap, a click or a key.

An explanation is a popover of HTML itself, so it needs no script. Labels of methods and metrics are
explained by the summaries of their specs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from markupsafe import Markup, escape

from tis_ray.analysis import Legend, TableRow
from tis_ray.metrics import METRICS
from tis_ray.metrics.description import MetricDescription
from tis_ray.report.formatting import metrics_of
from tis_ray.representations import REPRESENTATIONS
from tis_ray.selectors import SELECTORS

TERMS = {
    "zero-shot": "The model as it was given, without any fine-tuning.",
    "random": "Fine-tuning on rows drawn at random from the pool, as many as the method may select.",
    "budget": "How much data a method may select: a number of rows, or of tokens.",
    "seed": "One repetition of a training: another order of the rows and, for random, other rows.",
    "draw": "One repetition of the whole selection, from a part of the pool and other queries.",
    "pool": "All rows that may be selected.",
    "queries": "The few examples of the task that steer the selection.",
    "test rows": "Rows of the task that no training and no selection has seen.",
    "template": "How a dialogue is written as the one text that the model reads.",
    "test loss": "How surprised the model is by the right answers to the test rows, in nats a token. Lower is better.",
    "query loss": "The same as test loss for the queries, which have steered the selection: too good to judge by.",
    "interval": "In brackets: the range in which the true value, a mean or a difference, lies with 95% confidence.",
    "luck": "Random subsets differ from each other. A subset wins only if it is further from their mean than "
    "95% of random ones would be.",
    "Holm's correction": "Of many comparisons some look like wins by chance. The corrected p counts that in.",
    "corrected": "Counted in: that of many comparisons some look like wins by chance (Holm's correction).",
    "p": "How often a difference as large as this would come by chance if there were none.",
    "cannot tell": "The data do not show which is better: a difference this small also comes by chance.",
    "alike": "The difference is shown to be smaller than what matters (the metric's margin).",
    "better": "The difference is larger than chance explains (p < 0.05), to the good.",
    "worse": "The difference is larger than chance explains (p < 0.05), to the bad.",
    "points": "Percentage points: from 40% to 45% are 5 points.",
    "optimizer steps": "Updates of the weights in one training.",
    "unreadable": "Answers in which there was nothing to compare with the label.",
    "warm-up": "A short training on a part of the pool; LESS takes its gradients at the models it leaves.",
    "features": "The vectors that stand for rows: what a representation computes.",
    "scores": "How alike each row of the pool and each query are.",
    "ordering": "The rows of the pool as a method ranks them; a subset is its beginning.",
    "W1": "Wasserstein distance: how far the subset's rows would have to be moved to lie on the queries.",
}
"""Term → what it means. Of two that fit, the longer holds."""

_PLAIN = {
    "p": r"(?<![\w.-])p(?= [=<])",
    "seed": r"\bseeds?\b",
    "draw": r"\bdraws?\b",
    "budget": r"\bbudgets?\b",
    "interval": r"95% intervals?|\bintervals?\b|\[[+−]?\d[^\[\]]*, [^\[\]]*\]",
    "template": r"\btemplates?\b",
    "ordering": r"\borderings?\b",
    "optimizer steps": r"\boptimizer steps?\b",
    "queries": r"\bquer(?:ies|y)\b",
}

_BEFORE, _AFTER = re.compile(r"[(\[]+$"), re.compile(r"[)\].,;:!?]+")


class Glossary:
    """The terms of one page; each is explained once in every part that asks for it.

    more: further terms, such as labels of methods.
    """

    def __init__(self, more: Mapping[str, str] | None = None) -> None:
        known = {**TERMS, **(more or {})}
        self._known = {
            term: (_PLAIN.get(term) or rf"(?<!\w){re.escape(term)}(?!\w)", words)
            for term, words in sorted(known.items(), key=lambda item: -len(item[0]))
        }
        names = "|".join(
            f"(?P<t{i}>{pattern})" for i, (pattern, _) in enumerate(self._known.values())
        )
        self._any = re.compile(names, re.IGNORECASE)
        self._order = list(self._known)
        self.used: dict[str, str] = {}

    def marked(self, text: object) -> Markup:
        """Return a text, escaped, in which each term that the page has not explained yet can be tapped."""
        whole, parts, end = str(text), [], 0
        for found in self._any.finditer(whole):
            term = self._order[int(str(found.lastgroup)[1:])]
            if term in self.used:
                continue
            self.used[term] = self._known[term][1]
            before, after = _touching(whole, found)
            parts += [escape(whole[end : found.start() - len(before)])]
            parts += [_unbroken(before, self._button(term, found[0]), after)]
            end = found.end() + len(after)
        return Markup("").join([*parts, escape(whole[end:])])

    def _button(self, term: str, shown: str) -> Markup:
        return Markup(
            '<button type="button" class="term" popovertarget="{}" title="{}">{}</button>'
        ).format(self.anchor(term), self._known[term][1], shown)

    def anchor(self, term: str) -> str:
        """Return the id of a term's explanation."""
        return f"term-{self._order.index(term)}"

    def notes(self) -> Iterable[tuple[str, str, str]]:
        """Return id, term and meaning of each term that was explained so far."""
        return [(self.anchor(term), term, words) for term, words in self.used.items()]


def _touching(text: str, found: re.Match[str]) -> tuple[str, str]:
    """Return the marks that stand right before and right after a term."""
    before, after = _BEFORE.search(text[: found.start()]), _AFTER.match(text, found.end())
    return before[0] if before else "", after[0] if after else ""


def _unbroken(before: str, button: Markup, after: str) -> Markup:
    """Return a term with its marks: a browser would break the line between a button and a comma."""
    if not before and not after:
        return button
    return Markup('<span class="whole">{}{}{}</span>').format(before, button, after)


def study_terms(legend: Legend, rows: Iterable[TableRow]) -> dict[str, str]:
    """Return what the methods and metrics of a study are, where their specs say so."""
    rows = list(rows)
    terms = {}
    for row in rows:
        method = row.method
        if method.is_baseline:
            continue
        if spec := REPRESENTATIONS.own.get(method.representation):
            terms[legend.representation(method.representation)] = f"Representation: {spec.summary}."
        if rule := SELECTORS.own.get(method.selector or ""):
            terms[legend.selector(rule.name)] = f"Selector: {rule.summary}."
    for metric in metrics_of(rows):
        if metric.words not in TERMS:
            terms[metric.words] = _metric_words(metric)
    return terms


def _metric_words(metric: MetricDescription) -> str:
    spec = METRICS.own.get(metric.name.rpartition("/")[2])
    what = f"Share of answers where {spec.summary}. " if spec and metric.share else ""
    if spec and not metric.share:
        what = f"{spec.summary}. "
    return f"{what}{'Lower' if metric.lower_is_better else 'Higher'} is better."
