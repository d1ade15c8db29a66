"""Detection of pool rows that repeat a query or test row, so that no score is earned by memorising.

`tis_ray.stages.screen` decides which of them are dropped.

The small sides (query and test) are indexed, and the pool streams by in any order and any shards.
Words are compared: `\\w+` after NFKC and case folding, so that case, punctuation and white space do
not count. A script without spaces is compared by whole runs only. System turns are left out.

- **exact**: the whole row, its prompt (everything before the last answer) or one of its longer turns
  equals that of a target. Operators and brackets count here: without them 2 + 3 would be 2 * 3.
- **ngram**: at least half of a target's words lie in runs of 8 words that the pool row shares: the
  measure and the defaults of Tülu 3 (Lambert et al. 2024, section 3.2), which were made for
  instruction data like ours. The 13 words of GPT-3 (Brown et al. 2020, appendix C) miss short
  questions; a share of n-grams instead of words (PaLM, Chowdhery et al. 2022, section 8) counts one
  changed word up to 8 times. The pool may hold a question without the passage it came with, so a
  line of 8 words or more counts by itself if it ends with a question mark or is a fair part of the
  prompt.
- **embedding**: the cosine of unit vectors (`embedding_overlaps`), which also sees paraphrases.

Templates are not repetition, but would make every row of a task an overlap. Two rules find them:

- Three consecutive words belong to a template if more than `template_share` of the targets of one
  source, or of all sources, have them, and at least 5 do.
- A run of n words belongs to a template if more than 10 rows of the pool have it (fewer in a small
  pool); GPT-3 ignores such n-grams for the same reason. This takes a first pass over the pool
  (`frequencies`, `pass_over`). A row that has all of a prompt remains an overlap, however many such
  rows there are.

A template's words count neither as repeated nor as missing.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from operator import attrgetter
from typing import Literal, NamedTuple

import numpy as np

from tis_ray.data.rows import Row
from tis_ray.errors import InputError

TargetSide = Literal["query", "test"]
Kind = Literal["exact", "ngram", "embedding"]
Part = Literal["row", "prompt", "line", "answer", "turn"]

_KINDS: tuple[Kind, ...] = ("exact", "ngram", "embedding")
_PARTS: tuple[Part, ...] = ("row", "prompt", "line", "answer", "turn")
# Words, and one by one the signs that carry meaning: operators, brackets, arrows, mathematics.
_TOKEN = re.compile(r"\w+|[+*/=<>%^|&~$#@\\()\[\]{}¬±×÷\u2190-\u22ff]")
_QUESTION = re.compile(r"[?？؟]\W*$")
_LINE_THRESHOLD = 0.8  # a line is short: half of it may be a common phrase
_LINE_SHARE = 0.2  # of the prompt, for a line that is no question
_TEMPLATE_TARGETS = 5
_TEMPLATE_POOL_ROWS = 10

_Run = tuple[str, ...]


@dataclass(frozen=True)
class Overlap:
    """A pool row that repeats a target row.

    part: which part of the target is repeated. value: 1 if exact, else the share of that part's
    words, or the cosine. excerpt: the repeated words, normalised; for an embedding, the pool row's.
    """

    pool_id: str
    side: TargetSide
    target_id: str
    kind: Kind
    part: Part
    value: float
    excerpt: str

    def _rank(self) -> tuple[int, float, int, str, str, str]:
        kind, part = _KINDS.index(self.kind), _PARTS.index(self.part)
        return (kind, -self.value, part, self.pool_id, self.side, self.target_id)


class _Text(NamedTuple):
    """A part of a target; `places` are those of its words that count, less those in `common`."""

    side: TargetSide
    target_id: str
    part: Part
    words: list[str]
    places: frozenset[int]
    threshold: float
    common: set[int]


class _RowTokens(NamedTuple):
    """The tokens of a row: its prompt, its last answer, and every turn."""

    prompt: list[str]
    answer: list[str]
    turns: list[list[str]]


class OverlapIndex:
    """The words of the query and test rows, against which any number of pool rows can be checked.

    Memory: some 600 bytes per word of the targets. Time of either pass: about 20,000 pool rows of 85
    words per second on one core.
    """

    def __init__(
        self,
        targets: Mapping[TargetSide, Iterable[Row]],
        *,
        n: int = 8,
        threshold: float = 0.5,
        min_words: int = 5,
        template_share: float = 0.15,
    ) -> None:
        """Index the targets.

        n: words in a run. threshold: share of a target's words that makes an overlap. min_words: a
        prompt of fewer than n words, but at least this many, is repeated by a row that has them all
        in one run. template_share: see the module.
        """
        if not (2 <= min_words <= n and 0 < threshold <= 1):
            raise InputError(
                f"overlap: n is {n}, min_words {min_words} and threshold {threshold}; "
                "use 2 <= min_words <= n and 0 < threshold <= 1"
            )
        self._n, self._threshold, self._min_words = n, threshold, min_words
        self._exact: dict[str, list[tuple[TargetSide, str, Part]]] = defaultdict(list)
        self._texts: list[_Text] = []
        self._runs: dict[str, list[tuple[int, int]]] = defaultdict(list)  # text, first place
        self._lengths: dict[tuple[str, str], set[int]] = defaultdict(set)  # by first two words
        self._common: set[str] = set()
        rows = [(side, row) for side, side_rows in targets.items() for row in side_rows]
        templates = _templates((row for _, row in rows), template_share)
        for side, row in rows:
            self._add(side, row, templates[row["source"]] | templates[None])

    def frequencies(self, rows: Iterable[Row]) -> Counter[str]:
        """Count the pool rows in which each text of the targets occurs; shards' counts add up."""
        counts: Counter[str] = Counter()
        for row in rows:
            tokens = _row_tokens(row)
            whole = {key for _, key in _whole_texts(tokens) if key in self._exact}
            counts.update(whole.union(self._runs_of(tokens)))
        return counts

    def pass_over(self, frequencies: Mapping[str, int], pool_rows: int) -> None:
        """Treat the texts that are frequent in a pool of so many rows as its templates."""
        most = min(_TEMPLATE_POOL_ROWS, max(2, pool_rows // 200))
        for run in (run for run, count in frequencies.items() if count > most):
            self._common.add(run)
            for number, place in self._runs.get(run, ()):
                self._texts[number].common.update(_span(run, place))

    def find(self, rows: Iterable[Row]) -> Iterator[Overlap]:
        """Yield the overlaps of pool rows, row by row: the strongest with each target."""
        for row in rows:
            tokens = _row_tokens(row)
            exact = self._find_exact(row["id"], tokens)
            yield from strongest(chain(exact, self._find_runs(row["id"], tokens)))

    def _add(self, side: TargetSide, row: Row, template: set[_Run]) -> None:
        row_tokens = _row_tokens(row)
        for part, key in _whole_texts(row_tokens):
            if part != "turn" or len(_places(_words(key.split()), template)) >= self._n:
                self._exact[key].append((side, row["id"], part))
        for part, tokens in _parts(row, row_tokens):
            words = _words(tokens)
            places, length, threshold = _places(words, template), self._n, self._threshold
            if part == "line":
                threshold = max(threshold, _LINE_THRESHOLD)
            if len(places) < self._n:
                # So few words of a formula, without its signs, would say too little.
                if part != "prompt" or len(places) < self._min_words or len(words) < len(tokens):
                    continue
                words = words[places[0] : places[-1] + 1]
                places, length, threshold = list(range(len(words))), len(words), 1.0
            for start in range(len(words) - length + 1):
                run = words[start : start + length]
                self._runs[" ".join(run)].append((len(self._texts), start))
                self._lengths[run[0], run[1]].add(length)
            text = _Text(side, row["id"], part, words, frozenset(places), threshold, set())
            self._texts.append(text)

    def _find_exact(self, pool_id: str, tokens: _RowTokens) -> Iterator[Overlap]:
        for part, key in _whole_texts(tokens):
            if part == "turn" and key.count(" ") + 1 < self._min_words:
                continue
            for side, target, same in self._exact.get(key, ()):
                if same != "turn" or key not in self._common:
                    yield Overlap(pool_id, side, target, "exact", same, 1.0, _excerpt(key))

    def _find_runs(self, pool_id: str, tokens: _RowTokens) -> Iterator[Overlap]:
        repeated: dict[int, set[int]] = defaultdict(set)
        for run in dict.fromkeys(self._runs_of(tokens)):
            for number, place in self._runs[run]:
                repeated[number].update(_span(run, place))
        for number, places in repeated.items():
            text = self._texts[number]
            whole = len(text.places) >= self._n and text.places <= places
            wanted = text.places - (set() if whole and text.part == "prompt" else text.common)
            same = sorted(wanted & places)
            # What is left of a text without its template must still be enough to judge by.
            if len(wanted) < min(self._n, len(text.places)):
                continue
            value = len(same) / len(wanted)
            if value >= text.threshold:
                excerpt = _excerpt(" ".join(text.words[place] for place in same))
                yield Overlap(
                    pool_id, text.side, text.target_id, "ngram", text.part, value, excerpt
                )

    def _runs_of(self, tokens: _RowTokens) -> Iterator[str]:
        """Yield the runs of words that a pool row shares with targets."""
        words = _words(chain(*tokens.turns))
        for start, pair in enumerate(pairwise(words)):
            for length in self._lengths.get(pair, ()):
                run = " ".join(words[start : start + length])
                if run in self._runs:
                    yield run


def embedding_overlaps(
    rows: Sequence[Row],
    rows_EK: np.ndarray,
    side: TargetSide,
    target_ids: Sequence[str],
    targets_MK: np.ndarray,
    *,
    threshold: float = 0.95,
    block: int = 4096,
) -> Iterator[Overlap]:
    """Yield the pairs of pool rows and one side's targets whose cosine reaches `threshold`.

    rows_EK, targets_MK: unit vectors, in the order of `rows` and `target_ids`.
    """
    for first in range(0, len(rows), block):
        cosines_EM = rows_EK[first : first + block] @ targets_MK.T
        # A product's last bits depend on the shape of the block, which must not decide anything.
        for e, m in np.argwhere(cosines_EM >= threshold - 1e-3).tolist():
            row, vector_K = rows[first + e], rows_EK[first + e].astype(np.float64)
            value = float(np.sum(vector_K * targets_MK[m]))
            if value >= threshold:
                excerpt = _excerpt(" ".join(chain(*_row_tokens(row).turns)))
                yield Overlap(row["id"], side, target_ids[m], "embedding", "row", value, excerpt)


def strongest(overlaps: Iterable[Overlap]) -> list[Overlap]:
    """Return one overlap for each pool row, side and target, the strongest first."""
    return _first_of_each(overlaps, "pool_id", "side", "target_id")


def best(overlaps: Iterable[Overlap]) -> list[Overlap]:
    """Return one overlap for each pool row and side, the strongest first."""
    return _first_of_each(overlaps, "pool_id", "side")


def counts(overlaps: Collection[Overlap]) -> dict[TargetSide, dict[str, int]]:
    """Count, for each side, the pool rows by the kind of their best overlap, and the `targets`."""
    by_side: dict[TargetSide, dict[str, int]] = {}
    for side in sorted({o.side for o in overlaps}):
        kinds = Counter(o.kind for o in best(overlaps) if o.side == side)
        targets = {o.target_id for o in overlaps if o.side == side}
        by_side[side] = {**{kind: kinds[kind] for kind in _KINDS}, "targets": len(targets)}
    return by_side


def _first_of_each(overlaps: Iterable[Overlap], *fields: str) -> list[Overlap]:
    first: dict[object, Overlap] = {}
    for overlap in sorted(overlaps, key=Overlap._rank):
        first.setdefault(attrgetter(*fields)(overlap), overlap)
    return list(first.values())


def _templates(rows: Iterable[Row], share: float) -> dict[str | None, set[_Run]]:
    """Return the templates' runs of three words by source, and under None those of all rows."""
    texts: dict[str | None, set[_Run]] = {None: set()}  # a repeated row is not a template
    for row in rows:
        words = tuple(_words(chain(*_row_tokens(row).turns)))
        for source in (row["source"], None):
            texts.setdefault(source, set()).add(words)
    templates = {}
    for source, group in texts.items():
        # Templates are cut up by what fills them: longer runs would miss their short pieces.
        rows_with = Counter(chain.from_iterable(set(_threes(words)) for words in group))
        most = max(_TEMPLATE_TARGETS - 1, share * len(group))
        templates[source] = {run for run, count in rows_with.items() if count > most}
    return templates


def _threes(words: Sequence[str]) -> Iterator[_Run]:
    return zip(words, words[1:], words[2:], strict=False)


def _places(words: Sequence[str], template: set[_Run]) -> list[int]:
    """Return the places of the words that do not belong to a template."""
    starts = [start for start, run in enumerate(_threes(words)) if run in template]
    covered = {start + k for start in starts for k in range(3)}
    return [place for place in range(len(words)) if place not in covered]


def _span(run: str, place: int) -> range:
    return range(place, place + run.count(" ") + 1)


def _tokens(text: str) -> list[str]:
    if text.isascii():
        return _TOKEN.findall(text.lower())
    folded = unicodedata.normalize("NFKC", text).casefold()
    return _TOKEN.findall(unicodedata.normalize("NFKC", folded))


def _words(tokens: Iterable[str]) -> list[str]:
    return [token for token in tokens if token[0].isalnum() or token[0] == "_"]


def row_words(row: Row) -> list[str]:
    """Return the words of a row that are compared: of all turns but the system's."""
    return _words(chain(*_row_tokens(row).turns))


def _row_tokens(row: Row) -> _RowTokens:
    turns = [turn for turn in row["messages"] if turn["role"] != "system"]
    tokens = [_tokens(turn["content"]) for turn in turns]
    answers = [place for place, turn in enumerate(turns) if turn["role"] == "assistant"]
    last = answers[-1] if answers else len(turns)
    prompt, answer = list(chain(*tokens[:last])), list(chain(*tokens[last : last + 1]))
    return _RowTokens(prompt, answer, tokens)


def _whole_texts(row: _RowTokens) -> list[tuple[Part, str]]:
    parts: list[tuple[Part, list[str]]] = [("row", row.prompt + row.answer)]
    parts += [("prompt", row.prompt), *(("turn", turn) for turn in row.turns)]
    return [(part, " ".join(tokens)) for part, tokens in parts if tokens]


def _parts(row: Row, row_tokens: _RowTokens) -> Iterator[tuple[Part, list[str]]]:
    """Yield a target's prompt, its answer, and the lines of the prompt that count by themselves."""
    yield "prompt", row_tokens.prompt
    yield "answer", row_tokens.answer
    for turn in row["messages"]:
        for line in turn["content"].splitlines() if turn["role"] == "user" else ():
            tokens = _tokens(line)
            if _QUESTION.search(line) or len(tokens) >= _LINE_SHARE * len(row_tokens.prompt):
                yield "line", tokens


def _excerpt(text: str) -> str:
    return text if len(text) <= 160 else f"{text[:160]}..."
