"""The builtin pool: deterministic, without leaks between parts, skill independent of style."""

import json
import re
from collections import Counter
from collections.abc import Callable
from hashlib import blake2b
from itertools import islice, pairwise
from typing import get_args

import pytest
from scipy.stats import chi2_contingency

from tis_ray.data import builtin, content_fingerprint
from tis_ray.data.builtin.skills import SKILLS_BY_NAME
from tis_ray.errors import InputError
from tis_ray.settings import BuiltinSource
from tis_ray.settings.data import Skill

POOL = builtin.pool_rows(4000, seed=3)

NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


def user_text(row: dict) -> str:
    return row["messages"][0]["content"]


def answer(row: dict) -> str:
    return row["messages"][1]["content"]


def payload(row: dict) -> str:
    (quoted,) = re.findall(r'"([^"]*)"', user_text(row))
    return quoted


def numbers(text: str) -> list[int]:
    return [int(n) for n in re.findall(r"\d+", text)]


# Each answer computed a second time, by other means than the generator's.
EXPECTED: dict[str, Callable[[str], str]] = {
    "reverse_word": lambda x: "".join(x[len(x) - 1 - i] for i in range(len(x))),
    "sort_letters": lambda x: "".join(c * x.count(c) for c in "abcdefghijklmnopqrstuvwxyz"),
    "double_letters": lambda x: re.sub("(.)", r"\1\1", x),
    "drop_vowels": lambda x: re.sub("[aeiou]", "", x),
    "shift_letters": lambda x: x.translate(
        str.maketrans("abcdefghijklmnopqrstuvwxyz", "bcdefghijklmnopqrstuvwxyza")
    ),
    "spell_out": lambda x: re.sub("(?<=.)(?=.)", "-", x),
    "upper_case": lambda x: "".join(chr(ord(c) - 32) for c in x),
    "end_letters": lambda x: re.sub("^(.).*(.)$", r"\1\2", x),
    "plural": lambda x: re.sub("([szx])$", r"\1e", x) + "s",
    "acronym": lambda x: re.sub(r"\B\w| ", "", x),
    "rotate_list": lambda x: re.sub(r"^(\w) (.*)$", r"\2 \1", x),
    "add_numbers": lambda x: str(numbers(x)[0] + numbers(x)[1]),
    "subtract_numbers": lambda x: str(abs(numbers(x)[1] - numbers(x)[0])),
    "largest_number": lambda x: str(sorted(numbers(x))[-1]),
    "next_number": lambda x: str(numbers(x)[-1] + numbers(x)[1] - numbers(x)[0]),
    "digit_names": lambda x: " ".join(NAMES[int(d)] for d in x),
}


def test_a_config_takes_the_skills_that_there_are() -> None:
    assert get_args(Skill) == builtin.SKILLS


def test_answers_are_right_by_independent_computation() -> None:
    assert set(EXPECTED) == set(builtin.SKILLS)
    rows = POOL + [row for s in builtin.SKILLS for row in builtin.test_rows(s, 20, seed=1)]
    wrong = [(row["id"], answer(row)) for row in rows if answer(row) != expected(row)]
    assert not wrong


def expected(row: dict) -> str:
    return EXPECTED[row["source"]](payload(row))


@pytest.mark.parametrize(
    ("skill", "given", "wanted"),
    [
        ("reverse_word", "tomak", "kamot"),
        ("shift_letters", "azel", "bafm"),
        ("plural", "tomas", "tomases"),
        ("rotate_list", "k p t z", "p t z k"),
        ("next_number", "3 7 11", "15"),
        ("digit_names", "4071", "four zero seven one"),
    ],
)
def test_known_answers(skill: str, given: str, wanted: str) -> None:
    assert SKILLS_BY_NAME[skill].answer(given) == wanted == EXPECTED[skill](given)


def test_same_seed_same_rows_and_a_shorter_pool_is_a_prefix() -> None:
    assert builtin.pool_rows(4000, seed=3) == POOL
    assert builtin.pool_rows(50, seed=3) == POOL[:50]
    assert list(islice(builtin.iter_pool_rows(10**9, seed=3), 50)) == POOL[:50]
    assert builtin.pool_rows(50, seed=4) != POOL[:50]
    assert builtin.query_rows("plural", 8, 0) == builtin.query_rows("plural", 16, 0)[:8]


def test_first_row_never_changes() -> None:
    # Pinned: another text here means that every published number of the demonstration moves.
    assert POOL[0] == {
        "id": "end_letters.harbour.pool3.000000",
        "source": "end_letters",
        "messages": [
            {
                "role": "user",
                "content": "From the old lighthouse above the foggy bay, tie the tail and head of "
                '"akot". The sailors on the pier wait for a fair wind.',
            },
            {"role": "assistant", "content": "at"},
        ],
    }


def test_the_version_names_these_rows() -> None:
    # If this fails, the generator makes other rows: change `builtin.VERSION`, and both hashes here.
    rows = [*POOL, *builtin.base_rows(1000, seed=3)]
    for skill in builtin.SKILLS:
        rows += builtin.query_rows(skill, 20, seed=3) + builtin.test_rows(skill, 20, seed=3)
    digest = blake2b(json.dumps(rows).encode(), digest_size=16).hexdigest()
    assert digest == "ad2caf2f13620a98fd75dc32f8b70c67"
    source = BuiltinSource(rows=300)
    assert content_fingerprint(source) == "4150dc52a9e65c5b14cbc03caa544412"


def test_ids_are_unique_and_name_skill_and_style() -> None:
    assert len({row["id"] for row in POOL}) == len(POOL)
    for row in POOL[:100]:
        skill, style, _, _ = row["id"].split(".")
        assert skill == row["source"]
        assert style in builtin.STYLES


def test_no_text_or_payload_is_shared_between_parts() -> None:
    parts = {"pool": POOL, "base": list(builtin.base_rows(4000, seed=3)), "query": [], "test": []}
    for skill in builtin.SKILLS:
        parts["query"] += builtin.query_rows(skill, 40, seed=3)
        parts["test"] += builtin.test_rows(skill, 40, seed=3)
    for read in (user_text, payload):
        texts = {part: {read(row) for row in rows} for part, rows in parts.items()}
        assert sum(map(len, texts.values())) == len(set().union(*texts.values()))
    for part, rows in parts.items():
        assert all(builtin.part_of(payload(row)) == part for row in rows)


def test_query_and_test_texts_are_distinct() -> None:
    rows = builtin.test_rows("next_number", 300, seed=0)
    assert len({user_text(row) for row in rows}) == 300


def test_skills_and_styles_are_uniform_and_independent() -> None:
    counts = Counter((row["source"], row["id"].split(".")[1]) for row in POOL)
    table = [[counts[skill, style] for style in builtin.STYLES] for skill in builtin.SKILLS]
    assert len(builtin.SKILLS) >= 16
    assert len(builtin.STYLES) >= 4
    assert chi2_contingency(table).pvalue > 0.01
    assert 200 < min(map(sum, table)) <= max(map(sum, table)) < 300


def test_style_supplies_most_of_the_words() -> None:
    # Two rows of one style share more words than two rows of one skill, on average.
    rows = POOL[:1500]
    words = [set(re.findall(r"[a-z]+", re.sub('".*?"', "", user_text(r).lower()))) for r in rows]

    def overlap(key: Callable[[dict], str]) -> float:
        order = sorted(range(len(rows)), key=lambda i: key(rows[i]))
        same = [(i, j) for i, j in pairwise(order) if key(rows[i]) == key(rows[j])]
        return sum(len(words[i] & words[j]) / len(words[i] | words[j]) for i, j in same) / len(same)

    assert overlap(lambda r: r["id"].split(".")[1]) > 2 * overlap(lambda r: r["source"])


def test_base_rows_hold_both_readings() -> None:
    first: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for row in builtin.base_rows(4000, seed=0):
        total[row["source"]] += 1
        first[row["source"]] += answer(row) == expected(row)
    assert all(0.3 < first[skill] / total[skill] < 0.75 for skill in builtin.SKILLS)


def test_unknown_skill_and_impossible_counts_are_input_errors() -> None:
    with pytest.raises(InputError, match="reverse_word"):
        builtin.query_rows("juggle", 4, seed=0)
    with pytest.raises(InputError, match="juggle"):
        builtin.test_rows("juggle", 4, seed=0)
    with pytest.raises(InputError, match="-1"):
        builtin.pool_rows(-1, seed=0)
