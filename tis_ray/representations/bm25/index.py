"""The index and scores of BM25 (Robertson and Zaragoza 2009).

Documents are pool rows, queries are query rows. With f the count of word w in document j of length
|j| (mean length L), n_w the number of documents that contain w and c_iw its count in query i,

    s_ij = Σ_w c_iw ln(1 + (N - n_w + 1/2) / (n_w + 1/2)) f / (f + k1 (1 - b + b |j| / L)),

which is Lucene's variant (Kamphuis et al. 2020) as the `bm25s` library computes it (Lù 2024). There
are no feature vectors: scores are computed directly from texts. **They are not cosines**: they start
at 0, have no upper bound and grow with the length of the query. Round robin uses only their order, and
only within one query; a selector that compares them between queries favours long ones.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import bm25s
import numpy as np
from scipy.sparse import csc_array, csr_array

from tis_ray.data.rows import Message
from tis_ray.representations.bm25 import Bm25Settings

_WORD = r"\w+"
"""A run of letters, digits and underscores. The library's default leaves out words of one letter,
which are the answers in some tasks, and most of the text in some scripts. Scripts without spaces
match only by whole runs."""


def dialogue_text(messages: Sequence[Message], side: str) -> str:
    """Return the text of a row that BM25 reads: its contents, without roles and template.

    The template's words would be in every row. On the query side, turns after the last assistant
    turn (the label) are left out, as they are when a query is encoded.
    """
    turns = list(messages)
    while side == "query" and turns and turns[-1]["role"] != "assistant":
        turns.pop()
    return "\n".join(turn["content"] for turn in turns)


@contextmanager
def _quiet_library() -> Iterator[None]:
    """Silence the library, whose logger is at DEBUG and reports every index it makes."""
    logger = logging.getLogger("bm25s")
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(before)


class Bm25:
    """An index of the pool's texts, reduced to the words of the queries.

    Scores can be computed for any range of pool rows, so that all M x N never exist at once. They do
    not depend on the range or on the other queries. The index is made in one process, in about a
    minute and 2 GB for 10^6 rows of 85 words, which is the practical limit.
    """

    @_quiet_library()
    def __init__(
        self, pool_texts: Iterable[str], query_texts: Iterable[str], config: Bm25Settings
    ) -> None:
        """Index `pool_texts`, which are read once and not kept."""
        pool, queries = _words(pool_texts), _words(query_texts)
        self.rows, self.queries = len(pool.ids), len(queries.ids)
        # In the order of the pool's numbers, whatever the queries: scores are summed in this order.
        known = sorted((pool.vocab[word], word) for word in queries.vocab if word in pool.vocab)
        counts_MW = _counts(queries.ids, len(queries.vocab))[
            :, [queries.vocab[w] for _, w in known]
        ]
        self._counts_WM = csr_array(counts_MW.T)
        self._weights_NW = csr_array((self.rows, 0), dtype=np.float32)
        if known:
            index = bm25s.BM25(k1=config.k1, b=config.b, method="lucene", csc_backend="scipy")
            index.index(pool, create_empty_token=False, show_progress=False)
            parts = (index.scores["data"], index.scores["indices"], index.scores["indptr"])
            weights_NV = csc_array(parts, shape=(self.rows, len(pool.vocab)))
            self._weights_NW = csr_array(weights_NV[:, [number for number, _ in known]])
        silent = np.flatnonzero(counts_MW.sum(axis=1) == 0).tolist()
        self.unusable = dict.fromkeys(silent, "no_known_word")
        """Queries without any word of the pool: all their scores are 0, so they carry no information."""

    def scores(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Return scores_MN (M, stop - start) float32 of the pool rows from `start` up to `stop`.

        Finite and not negative; 0 if no word is shared. Equal texts have equal scores.
        """
        scores_NM = self._weights_NW[start:stop] @ self._counts_WM
        return np.ascontiguousarray(scores_NM.toarray().T)


def _words(texts: Iterable[str]) -> bm25s.tokenization.Tokenized:
    """Return lower-cased words as numbers, without stop words or stemming, which depend on a language."""
    return bm25s.tokenize(
        texts, lower=True, token_pattern=_WORD, stopwords=None, show_progress=False
    )


def _counts(ids: Sequence[Sequence[int]], words: int) -> csr_array:
    """Return how often each word occurs in each text, (texts, words) float32."""
    bounds = np.cumsum([0, *map(len, ids)])
    flat = np.array([number for text in ids for number in text], dtype=np.int64)
    counts = csr_array((np.ones(len(flat), np.float32), flat, bounds), shape=(len(ids), words))
    counts.sum_duplicates()
    return counts
