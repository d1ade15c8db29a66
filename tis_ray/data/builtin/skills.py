"""The sixteen skills of the built-in data: payloads, right answers, and the wordings of each task."""

import random
from collections.abc import Callable
from dataclasses import dataclass

_VOWELS = "aeiou"
_CONSONANTS = "bcdfghjklmnpqrstvwxyz"
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@dataclass(frozen=True)
class Skill:
    """How a payload is drawn, the two readings of the task, and five wordings ({x}: payload)."""

    payload: Callable[[random.Random], str]
    answer: Callable[[str], str]
    other: Callable[[str], str]
    wordings: tuple[str, ...]


def _word(rng: random.Random, letters: int) -> str:
    # Consonants and vowels alternate: pronounceable, and no dictionary word is ever needed.
    first = rng.randrange(2)
    return "".join(rng.choice((_CONSONANTS, _VOWELS)[(first + i) % 2]) for i in range(letters))


def _one_word(rng: random.Random) -> str:
    return _word(rng, rng.randint(4, 5))


def _three_words(rng: random.Random) -> str:
    return " ".join(_word(rng, 3) for _ in range(3))


def _four_letters(rng: random.Random) -> str:
    return " ".join(rng.sample(_CONSONANTS + _VOWELS, 4))


def _two_numbers(rng: random.Random) -> str:
    numbers = [str(rng.randint(10, 99)), str(rng.randint(2, 9))]
    rng.shuffle(numbers)
    return " ".join(numbers)


def _falling_numbers(rng: random.Random) -> str:
    return f"{rng.randint(10, 99)} {rng.randint(2, 9)}"


def _four_numbers(rng: random.Random) -> str:
    return " ".join(map(str, rng.sample(range(10, 100), 4)))


def _sequence(rng: random.Random) -> str:
    start, step = rng.randint(1, 80), rng.randint(2, 9)
    return " ".join(str(start + i * step) for i in range(3))


def _long_number(rng: random.Random) -> str:
    return str(rng.randint(1000, 9999))


def _ints(text: str) -> list[int]:
    return [int(number) for number in text.split()]


def _shift(word: str, by: int) -> str:
    return "".join(chr((ord(letter) - 97 + by) % 26 + 97) for letter in word)


def _names(digits: str) -> str:
    return " ".join(DIGITS[int(digit)] for digit in digits)


SKILLS_BY_NAME: dict[str, Skill] = {
    "reverse_word": Skill(
        _one_word,
        lambda x: x[::-1],
        lambda x: x[-1] + x[1:-1] + x[0],
        (
            "write {x} backwards",
            "flip {x} around",
            "read {x} from the end",
            "turn {x} about",
            "show {x} in a mirror",
        ),
    ),
    "sort_letters": Skill(
        _one_word,
        lambda x: "".join(sorted(x)),
        lambda x: "".join(sorted(x, reverse=True)),
        ("sort {x}", "put {x} in order", "arrange {x}", "tidy up {x}", "line up {x}"),
    ),
    "double_letters": Skill(
        _one_word,
        lambda x: "".join(letter * 2 for letter in x),
        lambda x: x * 2,
        ("stutter {x}", "double {x}", "say {x} twice", "write {x} two times", "repeat {x}"),
    ),
    "drop_vowels": Skill(
        _one_word,
        lambda x: "".join(letter for letter in x if letter not in _VOWELS),
        lambda x: "".join("-" if letter in _VOWELS else letter for letter in x),
        (
            "drop the vowels of {x}",
            "squeeze {x}",
            "strip {x}",
            "keep the bones of {x}",
            "hide the soft sounds in {x}",
        ),
    ),
    "shift_letters": Skill(
        _one_word,
        lambda x: _shift(x, 1),
        lambda x: _shift(x, -1),
        (
            "move {x} one step on",
            "encode {x}",
            "shift {x} by one",
            "put {x} in code",
            "make a secret of {x}",
        ),
    ),
    "spell_out": Skill(
        _one_word,
        "-".join,
        " ".join,
        ("spell {x}", "break {x} apart", "take {x} letter by letter", "split {x}", "dictate {x}"),
    ),
    "upper_case": Skill(
        _one_word,
        str.upper,
        str.capitalize,
        (
            "shout {x}",
            "use big letters for {x}",
            "make {x} large",
            "put {x} on a sign",
            "start a page with {x}",
        ),
    ),
    "end_letters": Skill(
        _one_word,
        lambda x: x[0] + x[-1],
        lambda x: x[-1] + x[0],
        (
            "give the two ends of {x}",
            "keep the edges of {x}",
            "name the outer letters of {x}",
            "join the borders of {x}",
            "tie the tail and head of {x}",
        ),
    ),
    "plural": Skill(
        _one_word,
        lambda x: x + ("es" if x[-1] in "sxz" else "s"),
        lambda x: x + "en",
        (
            "give the plural of {x}",
            "ask for more than one {x}",
            "name several {x}",
            "say many {x}",
            "count two {x}",
        ),
    ),
    "acronym": Skill(
        _three_words,
        lambda x: "".join(word[0] for word in x.split()),
        lambda x: "".join(word[-1] for word in x.split()),
        (
            "give the initials of {x}",
            "abbreviate {x}",
            "shorten {x}",
            "make a badge from {x}",
            "reduce {x}",
        ),
    ),
    "rotate_list": Skill(
        _four_letters,
        lambda x: x[2:] + " " + x[0],
        lambda x: x[-1] + " " + x[:-2],
        (
            "send the front of {x} to the back",
            "rotate {x}",
            "cycle {x}",
            "pass {x} along",
            "roll {x} by a place",
        ),
    ),
    "add_numbers": Skill(
        _two_numbers,
        lambda x: str(sum(_ints(x))),
        lambda x: x.replace(" ", ""),
        ("add {x}", "give the total of {x}", "sum up {x}", "combine {x}", "put together {x}"),
    ),
    "subtract_numbers": Skill(
        _falling_numbers,
        lambda x: str(_ints(x)[0] - _ints(x)[1]),
        lambda x: str(_ints(x)[1] - _ints(x)[0]),
        (
            "find the gap in {x}",
            "tell how far apart {x} are",
            "take the difference of {x}",
            "compare {x}",
            "go from one to the other in {x}",
        ),
    ),
    "largest_number": Skill(
        _four_numbers,
        lambda x: str(max(_ints(x))),
        lambda x: str(min(_ints(x))),
        (
            "name the largest of {x}",
            "pick the top of {x}",
            "find the winner of {x}",
            "choose the extreme of {x}",
            "take the best of {x}",
        ),
    ),
    "next_number": Skill(
        _sequence,
        lambda x: str(2 * _ints(x)[2] - _ints(x)[1]),
        lambda x: f"+{_ints(x)[1] - _ints(x)[0]}",
        (
            "continue {x}",
            "tell what follows {x}",
            "extend {x}",
            "see how {x} goes on",
            "explain the series {x}",
        ),
    ),
    "digit_names": Skill(
        _long_number,
        _names,
        lambda x: _names(x[::-1]),
        ("read {x} aloud", "say {x} in words", "write {x} out", "pronounce {x}", "call out {x}"),
    ),
}
