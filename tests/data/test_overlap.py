"""Overlap: what counts as repeated, what is a template, and that order and shards do not matter."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.properties import tries
from tis_ray.data import Row
from tis_ray.data.overlap import (
    Overlap,
    OverlapIndex,
    best,
    counts,
    embedding_overlaps,
    strongest,
)
from tis_ray.errors import InputError

QUESTION = "Which river runs through the old capital before it meets the northern sea?"
PASSAGE = "Barges carried salt and timber down the valley for three hundred years. " * 6
STORY = (
    "Mara packed nine crates of plums on Monday and twice as many on Tuesday, but a storm broke "
    "four of them, so how many crates could she bring to the fair?"
)


def row(name: str, prompt: str, answer: str = "ok", source: str = "s") -> Row:
    messages = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
    return {"id": name, "source": source, "messages": messages}  # type: ignore[typeddict-item]


def dialogue(name: str, *turns: tuple[str, str]) -> Row:
    messages = [{"role": role, "content": content} for role, content in turns]
    return {"id": name, "source": "s", "messages": messages}  # type: ignore[typeddict-item]


def find(pool: list[Row], *targets: Row, **options: Any) -> list[Overlap]:
    return list(OverlapIndex({"test": targets}, **options).find(pool))


def found(pool: Row, *targets: Row, **options: Any) -> list[tuple[str, str, float]]:
    return [(o.kind, o.part, round(o.value, 2)) for o in find([pool], *targets, **options)]


@pytest.mark.parametrize(
    ("said", "target"),
    [
        ("Which river is it?", "  which RIVER -- is, it"),
        ("Straße ﬁnden", "STRASSE finden!"),
        ("Ｗｉｄｅ letters", "wide letters"),
        ("cafe\u0301", "CAFÉ"),
        ("Acme™ ℃", "acmetm °c"),
        ("東京 は？", "東京、は"),
    ],
)
def test_case_punctuation_space_and_code_points_do_not_count(said: str, target: str) -> None:
    assert found(row("p", said, "Yes."), row("t", target, "yes")) == [("exact", "row", 1)]
    assert found(row("p", said, "no"), row("t", target, "yes")) == [("exact", "prompt", 1)]


def test_an_answer_is_compared_if_it_is_long_enough_to_tell() -> None:
    assert found(row("p", "Sum up.", STORY), row("t", "Tell it.", STORY)) == [("exact", "turn", 1)]
    assert found(row("p", "Sum up.", "Not at all"), row("t", "Tell it.", "Not at all")) == []
    # As one long text in another's question.
    assert found(row("p", f"Continue: {STORY}"), row("t", "Tell it.", STORY)) == [
        ("ngram", "answer", 1)
    ]


def test_signs_of_mathematics_count() -> None:
    assert found(row("p", "2 + 3 ="), row("t", "2 * 3 =")) == []
    assert found(row("p", "[ ( { <"), row("t", "[ { ( <")) == []
    assert found(row("p", "What is 2+3?"), row("t", "what is 2 + 3")) == [("exact", "row", 1)]
    # Words alone would find the short formula in the other.
    assert found(row("p", "Now what is 12 * 34 * 56?"), row("t", "what is 12 + 34 + 56")) == []


def test_the_same_text_in_another_template_is_found() -> None:
    pool = row("p", f"I heard a riddle.\n\n{STORY.upper()}\n\nPossible answers: 21, 23, 25", "23")
    (overlap,) = find([pool], row("t", f"Solve step by step.\n{STORY}", "9 + 18 - 4 = 23"))
    assert (overlap.pool_id, overlap.side, overlap.target_id) == ("p", "test", "t")
    assert (overlap.kind, overlap.part, overlap.value) == ("ngram", "line", 1)
    assert overlap.excerpt.startswith("mara packed nine crates of plums on monday")
    assert len(overlap.excerpt) <= 163


def test_a_question_without_its_passage_is_found() -> None:
    target = row("t", f"Read this.\n{PASSAGE}\nQ: {QUESTION}\nA:", "the Aller")
    assert found(row("p", f"Q: {QUESTION}\nChoices: a, b", "a"), target) == [("ngram", "line", 1)]
    # Half of it is too little, and a statement of the passage is no question.
    assert found(row("p", f"Q: {QUESTION[:45]} I wonder", "a"), target) == []
    other = f"Read this.\n{PASSAGE}\n{QUESTION[:-1]}.\n" + "Other words in every line here.\n" * 9
    assert found(row("p", QUESTION, "a"), row("t", other)) == []


@pytest.mark.parametrize(("kept", "share"), [(29, 29 / 31), (16, 16 / 31), (15, None), (7, None)])
def test_a_partial_quote_counts_by_its_share_of_words(kept: int, share: float | None) -> None:
    words = " ".join(STORY.rstrip("?").split())
    quote = " ".join(words.split()[:kept])
    expected = [] if share is None else [("ngram", "prompt", round(share, 2))]
    assert found(row("p", f"Somebody once wrote: {quote} and stopped"), row("t", words)) == expected


def test_one_changed_word_costs_one_word() -> None:
    changed = STORY.replace("storm", "gale").rstrip("?")
    assert found(row("p", changed), row("t", STORY.rstrip("?"))) == [("ngram", "prompt", 0.97)]


TEMPLATE = "Consider the following passage carefully before you answer the question that follows"
THINGS = ("maple", "falcon", "quartz", "lantern", "glacier", "violin", "harbor", "saddle")


def templated(side: str, count: int) -> list[Row]:
    rng = random.Random(side)
    words = [[f"{rng.choice(THINGS)}{rng.randrange(999)}" for _ in range(9)] for _ in range(count)]
    return [row(f"{side}{i}", f"{TEMPLATE}: {' '.join(text)}") for i, text in enumerate(words)]


def test_a_template_of_the_targets_is_no_overlap() -> None:
    pool, targets = templated("pool", 5), templated("test", 6)
    assert find(pool, *targets) == []
    assert len(find(pool, *targets, template_share=1.0)) == 30  # the template is 12 of 21 words
    # What fills the template still counts, and by itself.
    bare = row("p", targets[0]["messages"][0]["content"].removeprefix(TEMPLATE))
    assert found(bare, *targets) == [("ngram", "prompt", 1)]


def test_a_short_text_is_found_without_the_template_around_it() -> None:
    names = ("Ada Holm", "Bo Quist", "Cleo Marsh", "Dov Ranke", "Eli Sund", "Fay Toll")
    targets = [
        row(f"t{i}", f"Answer in one word: when did {name} first visit Oslo? Answer:", "x")
        for i, name in enumerate(names)
    ]
    # "when did" and "first visit Oslo" are the template's too: a name alone says too little.
    assert find([row("p", "So when did Ada Holm first visit Oslo?")], *targets) == []
    targets = [
        row(f"t{i}", f"Answer in one word: {name} sold {i + 3} red kites {i}. Think about it.", "x")
        for i, name in enumerate(names)
    ]
    pool = row("p", "We know that Dov Ranke sold 6 red kites 3 years ago")
    assert [o.target_id for o in find([pool], *targets)] == ["t3"]


def test_a_template_is_looked_for_in_each_source() -> None:
    others = [row(f"o{i}", f"{i} " * 9, source="other") for i in range(40)]
    pool, targets = templated("pool", 3), templated("test", 5)
    assert find(pool, *targets, *others) == []
    assert len(find(pool, *targets[:4], *others)) == 12  # four rows are too few to tell


def test_a_row_that_is_repeated_is_no_template() -> None:
    copies = [row(f"t{i}", STORY) for i in range(5)]
    assert len(find([row("p", f"Try this: {STORY}")], *copies)) == 5


def passed_over(pool: list[Row], *targets: Row, rows: int | None = None) -> list[Overlap]:
    index = OverlapIndex({"test": targets})
    index.pass_over(index.frequencies(pool), len(pool) if rows is None else rows)
    return list(index.find(pool))


def test_a_template_of_the_pool_is_no_overlap() -> None:
    pool, (target,) = templated("pool", 12), templated("test", 1)
    assert len(find(pool, target)) == 12
    assert passed_over(pool, target) == []
    assert passed_over(pool[:11], target, rows=10_000) == []
    assert len(passed_over(pool[:10], target, rows=10_000)) == 10
    assert len(passed_over(pool[:2], target)) == 2  # but in a pool of two, two rows are few
    # The text of that target is still found.
    bare = row("p", target["messages"][0]["content"].removeprefix(TEMPLATE))
    assert [o.pool_id for o in passed_over([*pool, bare], target)] == ["p"]


def test_a_prompt_that_many_rows_repeat_is_no_template() -> None:
    pool = [row(f"p{i}", f"Variant {i}: {STORY}", f"answer {i}") for i in range(20)]
    assert {o.part for o in passed_over(pool, row("t", STORY))} == {"prompt"}
    assert len(passed_over(pool, row("t", STORY))) == 20


def test_an_answer_that_many_rows_give_is_a_template() -> None:
    refusal = "I am sorry, but I cannot help you with that request today."
    pool = [row(f"p{i}", f"Question {i}", refusal) for i in range(20)]
    target = row("t", "What shall I do?", refusal)
    assert {(o.kind, o.part) for o in find(pool, target)} == {("exact", "turn")}
    assert passed_over(pool, target) == []


def test_frequencies_add_up_over_shards() -> None:
    pool, targets = [*templated("pool", 9), row("s", STORY)] * 2, [row("t", STORY)]
    index = OverlapIndex({"query": targets, "test": templated("test", 2)})
    whole = index.frequencies(pool)
    parts: Counter[str] = sum(
        (index.frequencies(pool[i : i + 3]) for i in range(0, 20, 3)), Counter()
    )
    assert whole == parts
    assert max(whole.values()) == 18


def test_tiny_targets_must_be_there_whole() -> None:
    target = row("t", "Who painted the ceiling there?")
    assert found(row("p", "Q: Who painted the ceiling there? A:"), target) == [
        ("ngram", "prompt", 1)
    ]
    assert found(row("p", "Who painted the ceiling and why there"), target) == []
    for words in ("", "Continue", "Who painted the ceiling"):
        assert found(row("p", f"Tell me: {words} or not"), row("t", words)) == []
    assert found(row("p", "Continue!"), row("t", "continue")) == [("exact", "row", 1)]
    assert found(row("p", "So who painted the ceiling"), target, min_words=2) == []
    four = row("t", "Who painted the ceiling")
    assert found(row("p", "So who painted the ceiling"), four, min_words=4) == [
        ("ngram", "prompt", 1)
    ]


def test_empty_texts_overlap_with_nothing() -> None:
    empty = [row("a", "", ""), row("b", " ...!", "--"), dialogue("c"), dialogue("d", ("user", ""))]
    assert find(empty, *empty, row("t", STORY)) == []
    assert find([row("p", STORY)], *empty) == []
    assert counts(find([], row("t", STORY))) == {}
    assert list(OverlapIndex({}).find([row("p", STORY)])) == []


def test_system_turns_are_left_out() -> None:
    system = ("system", "You are a patient teacher who explains every step in plain words.")
    target = dialogue("t", system, ("user", "Go on then"), ("assistant", "no"))
    pool = dialogue("p", system, ("user", STORY), ("assistant", "yes"))
    assert found(pool, target) == []
    assert found(row("p", "Go on then", "no"), target) == [("exact", "row", 1)]


def test_later_turns_count_and_trailing_questions_do_not() -> None:
    pool = dialogue(
        "p", ("user", "Hi"), ("assistant", "Hello"), ("user", STORY), ("assistant", "x")
    )
    assert found(pool, row("t", STORY)) == [("exact", "prompt", 1)]
    open_ended = dialogue("t", ("user", "a b"), ("assistant", "c"), ("user", "and now?"))
    assert found(row("p", "a b", "c"), open_ended) == [("exact", "row", 1)]
    assert found(pool, dialogue("t", *(("user", turn) for turn in ("Hi", STORY)))) != []


def test_one_record_a_pair_and_the_best_a_row() -> None:
    pool = [row("p", STORY), row("q", f"Now: {STORY}"), row("r", "nothing of the kind")]
    targets = {"query": [row("a", STORY)], "test": [row("b", STORY, "no"), row("a", f"{STORY} Eh")]}
    overlaps = list(OverlapIndex(targets).find(pool))  # type: ignore[arg-type]
    pairs = [(o.pool_id, o.side, o.target_id) for o in overlaps]
    assert len(set(pairs)) == len(pairs) == 6
    assert strongest([*overlaps, *overlaps]) == strongest(overlaps[::-1])
    top = {(o.pool_id, o.side): (o.target_id, o.kind) for o in best(overlaps)}
    assert top == {
        ("p", "query"): ("a", "exact"),
        ("p", "test"): ("b", "exact"),
        ("q", "query"): ("a", "ngram"),
        ("q", "test"): ("b", "ngram"),
    }
    assert counts(overlaps) == {
        "query": {"exact": 1, "ngram": 1, "embedding": 0, "targets": 1},
        "test": {"exact": 1, "ngram": 1, "embedding": 0, "targets": 2},
    }


def test_embeddings_overlap_from_the_threshold_on_in_blocks_of_any_size() -> None:
    rng = np.random.default_rng(0)
    targets = rng.normal(size=(7, 16)).astype(np.float32)
    targets /= np.linalg.norm(targets, axis=1, keepdims=True)
    noise = rng.normal(size=(40, 16)).astype(np.float32) * np.linspace(0, 0.2, 40)[:, None]
    vectors = targets[np.arange(40) % 7] + noise.astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[39] = 0
    pool = [row(f"p{i}", f"Text {i}") for i in range(40)]
    names = [f"t{i}" for i in range(7)]
    found = list(embedding_overlaps(pool, vectors, "query", names, targets))
    cosines = vectors.astype(float) @ targets.astype(float).T
    assert {(o.pool_id, o.target_id) for o in found} == {
        (f"p{i}", f"t{j}") for i, j in np.argwhere(cosines >= 0.95)
    }
    assert {(o.kind, o.side, o.part) for o in found} == {("embedding", "query", "row")}
    assert found[0].value == pytest.approx(1)
    assert found[0].excerpt == "text 0 ok"
    near = np.array([[0.9504, np.sqrt(1 - 0.9504**2)], [0.9496, np.sqrt(1 - 0.9496**2)]])
    close = embedding_overlaps(pool[:2], near, "test", ["t"], np.array([[1.0, 0.0]]))
    assert [(o.pool_id, round(o.value, 4)) for o in close] == [("p0", 0.9504)]
    for block in (1, 3, 40):
        assert (
            list(embedding_overlaps(pool, vectors, "query", names, targets, block=block)) == found
        )
    rows = [(o.pool_id, o.side, o.target_id) for o in found]
    exact = Overlap(*rows[0], "exact", "row", 1.0, "")
    assert exact in strongest([*found, exact])
    assert len(strongest([*found, exact])) == len(found)


@pytest.mark.parametrize(
    "options", [{"n": 4}, {"min_words": 1}, {"threshold": 0}, {"threshold": 1.1}]
)
def test_settings_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="overlap: n is"):
        OverlapIndex({}, **options)


WORDS = st.sampled_from(
    [f"{size}{colour}" for size in ("", "big", "old") for colour in ("red", "tan", "sky")]
)
TEXTS = st.lists(WORDS, max_size=24).map(" ".join)


def rows_of(prefix: str, texts: list[str]) -> list[Row]:
    return [row(f"{prefix}{i}", text, text[:9], source=text[:3]) for i, text in enumerate(texts)]


@tries(60)
@given(
    st.lists(TEXTS, min_size=1, max_size=8),
    st.lists(TEXTS, max_size=6),
    st.integers(1, 9),
    st.data(),
)
def test_order_and_shards_of_the_pool_do_not_matter(
    pool_texts: list[str], target_texts: list[str], shard: int, data: st.DataObject
) -> None:
    pool, targets = rows_of("p", pool_texts), rows_of("t", target_texts)
    index = OverlapIndex({"query": targets[:3], "test": targets[3:]}, n=4, min_words=2)
    index.pass_over(index.frequencies(pool), len(pool))
    whole = list(index.find(pool))
    shuffled = data.draw(st.permutations(pool))
    cut = [shuffled[i : i + shard] for i in range(0, len(shuffled), shard)]
    again = [overlap for rows in cut for overlap in index.find(rows)]
    order = {r["id"]: i for i, r in enumerate(pool)}
    assert sorted(again, key=lambda o: order[o.pool_id]) == whole


@tries(60)
@given(st.lists(st.text(max_size=60), min_size=1, max_size=5))
def test_a_row_overlaps_itself_if_it_says_anything(texts: list[str]) -> None:
    rows = [row(f"r{i}", text, "") for i, text in enumerate(texts)]
    overlaps = find(rows, *rows)
    itself = {o.pool_id for o in overlaps if o.pool_id == o.target_id}
    assert {
        r["id"] for r in rows if any(c.isalnum() for c in r["messages"][0]["content"])
    } <= itself
    assert all(o.value == 1 and o.kind == "exact" for o in overlaps if o.pool_id == o.target_id)


@tries(60)
@given(st.lists(TEXTS, max_size=5), st.lists(TEXTS, max_size=5))
def test_no_overlap_between_disjoint_vocabularies(pool: list[str], targets: list[str]) -> None:
    elsewhere = [" ".join(f"x{word}" for word in text.split()) for text in targets]
    assert find(rows_of("p", pool), *rows_of("t", elsewhere), n=3, min_words=2) == []


def test_the_seed_of_python_hashes_does_not_matter() -> None:
    code = (
        "from tests.data.test_overlap import *\n"
        "rows = [*templated('a', 4), row('s', STORY), row('q', QUESTION)]\n"
        "print(find(rows, *templated('b', 2), *rows, row('t', QUESTION + STORY)))"
    )
    outputs = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=Path(__file__).parents[2],
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert outputs[0] == outputs[1] != "[]\n"
