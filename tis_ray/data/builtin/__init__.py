"""The data source `builtin`: a seeded generator of short instructions in sixteen skills.

Nothing is downloaded. Every row asks for one skill (reverse a word, add two numbers, ...) inside the
chatter of one style (a kitchen, a harbour, ...). Style and skill are drawn independently, and the
style supplies most of the words, so rows that look alike seldom train the same skill: text
similarity alone is a poor guide, which is what makes the pool a fair demonstration of targeted
selection.

The payload (the quoted part that the skill works on) is assigned to one of four parts by a hash of
its text: `base` (training of the model that ships with the package), `pool`, `query` and `test`.
No payload, and so no user text, occurs in two parts, whatever the seeds.

Each skill has two readings. Pool, query and test rows always answer by the first. Base rows mix in
the second, more often for some wordings than for others, so the shipped model understands every
instruction but has yet to learn which reading is wanted: that is what fine-tuning teaches it.
"""

import random
from collections.abc import Iterator
from hashlib import blake2b
from typing import Literal

from tis_ray.data.builtin.skills import DIGITS, SKILLS_BY_NAME, Skill
from tis_ray.data.builtin.styles import STYLES_BY_NAME
from tis_ray.data.rows import Row
from tis_ray.errors import InputError

VERSION = "01dfc574f8eb117460b297d04abec01c"
"""Names the generated rows in fingerprints. Change it, to any other text, whenever a row changes."""

SKILLS: tuple[str, ...] = tuple(SKILLS_BY_NAME)
STYLES: tuple[str, ...] = tuple(STYLES_BY_NAME)

Part = Literal["base", "pool", "query", "test"]
# Buckets of ten that each part owns: half of all payloads train the base model.
_PARTS: tuple[Part, ...] = ("base",) * 5 + ("pool",) * 3 + ("query", "test")

# Share of base rows answered by the other reading, for the five wordings of a skill in turn.
OTHER_READING = (0.2, 0.35, 0.5, 0.65, 0.8)


def part_of(payload: str) -> Part:
    """Return the part that owns a payload: a pure function of its text."""
    return _PARTS[int.from_bytes(blake2b(payload.encode(), digest_size=8).digest()) % 10]


def template_words() -> list[str]:
    """Return every word of the styles, wordings and digit names, sorted: the tokenizer's whole words."""
    texts = [wording for skill in SKILLS_BY_NAME.values() for wording in skill.wordings]
    for style in STYLES_BY_NAME.values():
        texts += [*style.openings, *style.closings, *style.names]
    plain = " ".join([*texts, *DIGITS]).replace("{x}", " ").replace("{who}", " ")
    return sorted({word.strip(",.:;") for word in plain.split()})


_TEMPLATE_WORDS = frozenset(word for word in template_words() if len(word) > 1)


def iter_pool_rows(rows: int, seed: int) -> Iterator[Row]:
    """Yield the rows of `pool_rows` one at a time, so that memory does not grow with `rows`."""
    return (_row("pool", seed, index) for index in range(_checked_count(rows)))


def pool_rows(rows: int, seed: int) -> list[Row]:
    """Return a pool of `rows` examples; `source` is the skill.

    Row i depends only on (seed, i), so a shorter pool is a prefix of a longer one. Skill, style and
    wording are uniform and independent. Ids are unique within a pool, and texts almost so: about one
    row in a thousand repeats an earlier one among 20,000 rows, one in a hundred among 200,000.

    Raises InputError if `rows` is negative.
    """
    return list(iter_pool_rows(rows, seed))


def query_rows(skill: str, rows: int, seed: int) -> list[Row]:
    """Return `rows` query examples of one skill, with distinct texts that occur in no pool.

    Raises InputError if `skill` is not one of SKILLS, or if `rows` is negative or more than exist.
    """
    return _distinct("query", skill, rows, seed)


def test_rows(skill: str, rows: int, seed: int) -> list[Row]:
    """Return test examples of one skill: like `query_rows`, and sharing no text with them either.

    Raises InputError as `query_rows` does.
    """
    return _distinct("test", skill, rows, seed)


def base_rows(rows: int, seed: int) -> Iterator[Row]:
    """Yield training rows of the shipped base model, in which both readings occur (OTHER_READING)."""
    return (_row("base", seed, index) for index in range(_checked_count(rows)))


def _distinct(part: Part, skill: str, rows: int, seed: int) -> list[Row]:
    if skill not in SKILLS_BY_NAME:
        raise InputError(
            f"builtin data: skill {skill!r} is unknown; choose one of {', '.join(SKILLS)}"
        )
    by_text: dict[str, Row] = {}
    tries = 20 * _checked_count(rows) + 100
    for index in range(tries):
        if len(by_text) == rows:
            break
        row = _row(part, seed, index, skill)
        by_text.setdefault(row["messages"][0]["content"], row)
    if len(by_text) < rows:
        raise InputError(
            f"builtin data: {rows} distinct {part} rows of {skill!r} were requested, but only "
            f"{len(by_text)} were found; request fewer"
        )
    return list(by_text.values())


def _checked_count(rows: int) -> int:
    if rows < 0:
        raise InputError(f"builtin data: rows is {rows}; give 0 or more")
    return rows


def _row(part: Part, seed: int, index: int, skill_name: str | None = None) -> Row:
    # A generator per row, seeded by text (hashed by Python with SHA-512): any row can be made
    # alone, on any machine, and no global state is touched.
    rng = random.Random(f"{part} {seed} {index} {skill_name}")
    name = skill_name or rng.choice(SKILLS)
    style = rng.choice(STYLES)
    skill = SKILLS_BY_NAME[name]
    wording = rng.randrange(len(skill.wordings))
    text = _wrap(rng, style, skill.wordings[wording])
    payload = _payload(rng, skill, part)
    read = skill.answer
    if part == "base" and rng.random() < OTHER_READING[wording]:
        read = skill.other
    return {
        "id": f"{name}.{style}.{part}{seed}.{index:06d}",
        "source": name,
        "messages": [
            {"role": "user", "content": text.replace("{x}", f'"{payload}"')},
            {"role": "assistant", "content": read(payload)},
        ],
    }


def _payload(rng: random.Random, skill: Skill, part: Part) -> str:
    while True:
        payload = skill.payload(rng)
        # A made-up word that happens to be a template word ("red") would be one token, not letters.
        if part_of(payload) == part and _TEMPLATE_WORDS.isdisjoint(payload.split()):
            return payload


def _wrap(rng: random.Random, style_name: str, task: str) -> str:
    style = STYLES_BY_NAME[style_name]
    text = f"{rng.choice(style.openings)} {task}. {rng.choice(style.closings)}"
    return text.replace("{who}", rng.choice(style.names))
