"""Duplicates inside a pool, against the rule written out for every pair."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.properties import tries
from tis_ray.data import Row
from tis_ray.data.duplicates import Runs, near_duplicates, row_runs
from tis_ray.data.overlap import row_words

N = 5
WORDS = [f"w{number}" for number in range(40)]


def pool(*texts: str) -> list[Row]:
    return [
        {"id": str(i), "source": "x", "messages": [{"role": "assistant", "content": text}]}
        for i, text in enumerate(texts)
    ]


def found(rows: list[Row], parts: int = 1, shards: int = 1) -> dict[int, tuple[int, float]]:
    numbered = list(enumerate(rows))
    runs = Runs.joined([row_runs(numbered[s::shards], N) for s in range(shards)])
    words = dict(enumerate(map(row_words, rows)))
    return near_duplicates(
        (runs.part(part, parts) for part in range(parts)),
        len(rows),
        lambda wanted: {row: words[row] for row in wanted},
        n=N,
    )


def by_every_pair(rows: list[Row]) -> dict[int, tuple[int, float]]:
    words = [row_words(row) for row in rows]
    runs = [[tuple(w[p : p + N]) for p in range(len(w) - N + 1)] for w in words]
    of: dict[Any, set[int]] = {}
    for row, own in enumerate(runs):
        for run in own:
            of.setdefault(run, set()).add(row)
    most = min(10, max(2, len(rows) // 200))

    def covered(row: int, wanted: Any) -> set[int]:
        return {p + k for p, run in enumerate(runs[row]) if wanted(run) for k in range(N)}

    dropped: dict[int, tuple[int, float]] = {}
    for row in range(len(rows)):
        common = covered(row, lambda run: len(of[run]) > most)
        left = len(words[row]) - len(common)
        shares = []
        for earlier in range(row):
            same = covered(row, lambda run, e=earlier: e in of[run] and len(of[run]) <= most)
            value = len(same - common) / left if left >= N else 0.0
            if earlier not in dropped and value >= 0.5:
                shares.append((value, -earlier))
        if shares:
            value, earlier = max(shares)
            dropped[row] = (-earlier, value)
    return dropped


@tries(120)
@given(
    texts=st.lists(
        st.lists(
            st.sampled_from([*WORDS, " ".join(WORDS[:9]), " ".join(WORDS[9:20])]), max_size=14
        ).map(" ".join),
        max_size=9,
    ),
    parts=st.integers(1, 3),
    shards=st.integers(1, 3),
)
def test_near_duplicates_are_those_of_every_pair(texts: list[str], parts: int, shards: int) -> None:
    rows = pool(*texts)
    assert found(rows, parts, shards) == by_every_pair(rows)


def test_a_template_is_no_duplicate_and_a_changed_word_is() -> None:
    template = "answer the question below as briefly as you can please"
    questions = [f"{template} q{i} r{i} s{i} t{i} u{i} v{i}" for i in range(6)]
    copy = "  ".join([*WORDS[:20], "changed", *WORDS[21:]]).upper()
    rows = pool(*questions, " ".join(WORDS), copy)
    assert set(found(rows)) == {7}
    assert found(rows)[7][0] == 6
