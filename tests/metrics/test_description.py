"""What a metric's name says of it."""

import pytest

from tis_ray.analysis import Legend
from tis_ray.metrics.description import MetricDescription, describe, measured
from tis_ray.study.labels import known_metrics


@pytest.mark.parametrize(
    ("name", "words", "lower", "share"),
    [
        ("test_loss", "test loss", True, False),
        ("exact_match", "exact match", False, True),
        ("f1", "F1", False, True),
        ("gsm8k/numeric_match", "gsm8k: numeric match", False, True),
        ("gsm8k/exact_match.strict-match", "gsm8k: exact match.strict-match", False, True),
        ("wikitext/word_perplexity", "wikitext: word perplexity", True, False),
        ("wmt/bleu", "wmt: bleu", False, False),
        ("human_eval/pass_at_1", "human_eval: pass@1", False, True),
    ],
)
def test_a_name_says_direction_and_scale(name, words, lower, share):
    found = describe(name, known_metrics(()))
    assert (found.words, found.lower_is_better, found.share) == (words, lower, share)


def test_a_spec_decides_what_its_name_cannot_say():
    mine = {"my_own": MetricDescription("my_own", "mine", lower_is_better=True, share=True)}
    assert describe("t/my_own", mine) == MetricDescription(
        "t/my_own", "t: mine", True, True, margin=0.02
    )
    assert describe("my_own") == MetricDescription("my_own", "my own", False, False)


def test_metrics_stand_in_the_order_of_the_report_and_those_of_tasks_follow():
    cells = [
        {"exact_match": 0.5, "my_own": 0.5, "test_loss": 1.0},
        {"b/acc": 0.1, "b/acc_parse_failures": 0.0, "b/unfinished": 0.2, "b/rows": 7},
        {"a/f1": None, "exact_match_parse_failures": 0.1, "unfinished": 0.0},
    ]
    assert measured(cells) == ["test_loss", "exact_match", "my_own", "b/acc", "a/f1"]


def test_shares_and_losses_have_a_margin_and_what_has_no_known_scale_has_none() -> None:
    margins = {name: describe(name).margin for name in ("exact_match", "test_loss", "t/acc")}
    assert margins == {"exact_match": 0.02, "test_loss": 0.02, "t/acc": 0.02}
    assert describe("t/word_perplexity").margin is None
    legend = Legend(margins={"test_loss": 0.1, "acc": 0.05})
    assert legend.metric("test_loss").margin == 0.1
    assert legend.metric("t/acc").margin == 0.05
