"""A metric of generated answers: ROUGE-L (Lin 2004), the longest common subsequence of words."""

from collections.abc import Sequence

from tis_ray.metrics import Metric, Score


def rouge_l(answer: str, references: Sequence[str]) -> Score:
    """F1 of the longest common subsequence with the best reference; an empty answer is no answer."""
    words = answer.split()
    value = max(_f1(words, reference.split()) for reference in references)
    return Score(value, read=answer if words else None)


def _f1(found: list[str], wanted: list[str]) -> float:
    return 2 * _common(found, wanted) / max(len(found) + len(wanted), 1)


def _common(one: list[str], other: list[str]) -> int:
    """Return the length of the longest common subsequence."""
    row = [0] * (len(other) + 1)
    for word in one:
        left = 0
        for place, match in enumerate(other):
            above, row_left = row[place + 1], row[place]
            row[place + 1], left = (left + 1 if word == match else max(above, row_left)), above
    return row[-1]


ROUGE_L = Metric(name="rouge_l", label="ROUGE-L", version=1, score=rouge_l, summary="LCS of words")
