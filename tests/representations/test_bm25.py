"""BM25 scores against the formula, and what must not move them."""

from __future__ import annotations

import hashlib
import logging
import math
import os
import re
import subprocess
import sys
import warnings
from collections import Counter
from itertools import pairwise

import bm25s
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tis_ray.representations.bm25 import Bm25Settings
from tis_ray.representations.bm25.index import Bm25, dialogue_text

POOL = [
    "Reverse the word: cat",
    "What is 7 times 8? It is 56.",
    "",
    "The cat sat on the mat; the mat was red, and the cat was not.",
    "Was ist die Hauptstadt von Österreich? Wien.",
    "def f(x):\n    return x  # a red cat",
    "... !?",
    "什么 是 猫",
]
QUERIES = ["the red cat, the red cat", "What is 6 times 8?", "ÖSTERREICH 猫", "zebra", "", "x"]

WORDS = st.sampled_from(["a", "bb", "Cat", "cat", "7", "x_y", "ö"])
TEXTS = st.lists(WORDS, max_size=8).map(" ".join)


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def formula(pool: list[str], queries: list[str], k1: float, b: float) -> np.ndarray:
    """Lucene's BM25, word by word in double precision."""
    documents = [Counter(words(text)) for text in pool]
    mean = sum(document.total() for document in documents) / max(1, len(documents))
    scores = np.zeros((len(queries), len(pool)))
    for i, query in enumerate(queries):
        for word in words(query):
            holders = sum(word in document for document in documents)
            rarity = math.log(1 + (len(pool) - holders + 0.5) / (holders + 0.5))
            for j, document in enumerate(documents):
                if count := document[word]:
                    length = k1 * (1 - b + b * document.total() / mean)
                    scores[i, j] += rarity * count / (count + length)
    return scores


def bm25_scores(pool: list[str], queries: list[str], **config: float) -> np.ndarray:
    return Bm25(pool, queries, Bm25Settings(**config)).scores()


@pytest.mark.parametrize("k1", [0.0, 0.9, 1.5, 50.0])
@pytest.mark.parametrize("b", [0.0, 0.4, 0.75, 1.0])
def test_scores_are_those_of_the_formula(k1: float, b: float) -> None:
    found = bm25_scores(POOL, QUERIES, k1=k1, b=b)
    np.testing.assert_allclose(found, formula(POOL, QUERIES, k1, b), atol=1e-5)
    assert found.dtype == np.float32


@given(pool=st.lists(TEXTS, max_size=6), queries=st.lists(TEXTS, max_size=4))
def test_scores_of_any_texts_are_those_of_the_formula(pool: list[str], queries: list[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # no 0/0 on the way
        index = Bm25(iter(pool), iter(queries), Bm25Settings())
    found = index.scores()
    assert found.shape == (index.queries, index.rows) == (len(queries), len(pool))
    np.testing.assert_allclose(found, formula(pool, queries, 1.5, 0.75), atol=1e-5)
    assert list(index.unusable) == np.flatnonzero(~found.any(axis=1)).tolist()


def test_scores_are_those_of_the_library() -> None:
    split = {"token_pattern": r"\w+", "stopwords": None, "show_progress": False}
    library = bm25s.BM25(k1=1.5, b=0.75)
    library.index(bm25s.tokenize(POOL, **split), show_progress=False)
    found = bm25_scores(POOL, QUERIES)
    for scores, query in zip(
        found, bm25s.tokenize(QUERIES, **split, return_ids=False), strict=True
    ):
        truth = library.get_scores(query) if query else np.zeros(len(POOL))
        np.testing.assert_allclose(scores, truth, atol=1e-6)


def test_texts_with_nothing_in_common_score_zero_and_such_queries_are_told() -> None:
    index = Bm25(POOL, QUERIES, Bm25Settings())
    scores = index.scores()
    assert list(index.unusable) == [3, 4]  # an unknown word, no word
    assert not scores[[3, 4]].any()
    assert not scores[:, [2, 6]].any()
    assert np.isfinite(scores).all()
    assert scores.min() == 0


def test_a_look_alike_is_first() -> None:
    queries = ["the word cat in reverse", "what is 9 times 8", "return x", "Hauptstadt: Wien"]
    assert bm25_scores(POOL, queries).argmax(axis=1).tolist() == [0, 1, 5, 4]


def test_equal_texts_tie_exactly_in_any_order_of_their_words() -> None:
    pool = [*POOL, POOL[3], " ".join(words(POOL[3])[::-1]), POOL[3].upper()]
    scores = bm25_scores(pool, QUERIES)
    assert scores[0, 3] > 0
    for copy in (8, 9, 10):
        assert np.array_equal(scores[:, copy], scores[:, 3])


def test_words_of_one_letter_count() -> None:
    assert (bm25_scores(POOL, ["8", "猫"]) > 0).sum(axis=1).tolist() == [1, 1]


def test_scores_grow_with_the_query() -> None:
    once, twice = bm25_scores(POOL, ["red cat", "red cat red cat"])
    np.testing.assert_allclose(twice, 2 * once, rtol=1e-6)


@given(bounds=st.lists(st.integers(0, len(POOL)), max_size=5).map(sorted))
def test_scores_do_not_depend_on_where_shards_are_cut(bounds: list[int]) -> None:
    index = Bm25(POOL, QUERIES, Bm25Settings())
    cuts = [0, *bounds, len(POOL)]
    shards = [index.scores(start, stop) for start, stop in pairwise(cuts)]
    assert [shard.shape[1] for shard in shards] == np.diff(cuts).tolist()
    assert all(shard.flags.c_contiguous for shard in shards)
    assert np.array_equal(np.concatenate(shards, axis=1), index.scores())


def test_scores_of_a_query_do_not_depend_on_the_other_queries() -> None:
    together = bm25_scores(POOL, QUERIES)
    for scores, query in zip(together, QUERIES, strict=True):
        assert np.array_equal(bm25_scores(POOL, [query])[0], scores)


def test_scores_are_the_same_in_every_process() -> None:
    """Python orders sets of words by a hash that differs from process to process."""
    code = (
        "import sys, hashlib; from tests.representations.test_bm25 import *; "
        "sys.stdout.write(hashlib.sha256(bm25_scores(POOL, QUERIES).tobytes()).hexdigest())"
    )
    here = hashlib.sha256(bm25_scores(POOL, QUERIES).tobytes()).hexdigest()
    for seed in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)}
        run = subprocess.run(
            [sys.executable, "-c", code],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        assert run.stdout == here


def test_nothing_is_printed_or_logged(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        bm25_scores(POOL, QUERIES)
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []


def test_the_text_of_a_row_is_its_contents() -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "2 + 2?"},
        {"role": "assistant", "content": "4"},
        {"role": "user", "content": "Thanks"},
    ]
    assert dialogue_text(messages, "pool") == "Be brief.\n2 + 2?\n4\nThanks"
    assert dialogue_text(messages, "query") == "Be brief.\n2 + 2?\n4"
    assert dialogue_text([], "query") == ""
