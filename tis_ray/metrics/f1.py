"""The metric `f1`: words in common with the label."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

from tis_ray.metrics.spec import Metric, Score


def f1(answer: str, references: Sequence[str]) -> Score:
    """Score the overlap of words with the best reference, as in SQuAD (Rajpurkar et al. 2016).

    F1 of precision and recall over words (with repetitions) after lower-casing and dropping ASCII
    punctuation and the articles a, an, the. Words are separated by white space, so that in languages
    without spaces this is exact match.
    """
    words = _words(answer)
    value = max(_overlap(words, _words(reference)) for reference in references)
    return Score(value, " ".join(words) if words or value else None)


_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def _words(text: str) -> list[str]:
    return _ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split()


def _overlap(words: Sequence[str], wanted: Sequence[str]) -> float:
    if not words or not wanted:
        return float(not words and not wanted)
    shared = (Counter(words) & Counter(wanted)).total()
    return 2 * shared / (len(words) + len(wanted))


METRIC = Metric(
    name="f1", label="F1", summary="words in common with the label, as in SQuAD", score=f1
)
