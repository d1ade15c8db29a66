"""F1 of words."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

from tis_ray.metrics.spec import Metric, Score


def f1(answer: str, references: Sequence[str]) -> Score:
    """Overlap of words with the best reference, as SQuAD does it (Rajpurkar et al. 2016).

    F1 of precision and recall over words (with repetitions) after lower-casing and dropping ASCII
    punctuation and the articles a, an, the. Words are what white space separates, so that in
    languages without spaces this is exact match.
    """
    found = _words(answer)
    value = max(_overlap(found, _words(reference)) for reference in references)
    return Score(value, " ".join(found) if found or value else None)


_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def _words(text: str) -> list[str]:
    return _ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split()


def _overlap(found: Sequence[str], wanted: Sequence[str]) -> float:
    if not found or not wanted:
        return float(not found and not wanted)
    shared = (Counter(found) & Counter(wanted)).total()
    return 2 * shared / (len(found) + len(wanted))


METRIC = Metric(
    name="f1", label="F1", summary="words in common with the label, as SQuAD does it", score=f1
)
