"""Text that is meant to be YAML: whatever it holds, a value or one line, and soon."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tis_ray.config import load_config
from tis_ray.errors import InputError
from tis_ray.store.document import read_document

STUDY = """
name: s
data:
  pool: {kind: builtin}
  query: {kind: builtin, skill: plural}
  test: {kind: builtin, skill: plural}
budget: 5
"""
BOMB = "\n".join(
    [
        "a0: &a0 [x, x, x, x, x, x, x, x, x, x]",
        *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)),
    ]
)
DIGITS = "9" * 5000
NESTED = "[" * 3000


def refused(path: Path, *overrides: str) -> str:
    """Return the one line that a config is refused with; it must not take long."""
    start = time.monotonic()
    with pytest.raises(InputError) as error:
        load_config(path, [*overrides])
    assert time.monotonic() - start < 5
    line = str(error.value)
    assert "\n" not in line
    assert len(line) < 1000
    return line


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("name: 2024-13-45", "line 9: not valid YAML: `2024-13-45` cannot be read as timestamp"),
        ("name: 2024-01-05", "`name`: Input should be a valid string; found datetime.date(2024"),
        (f"name: {DIGITS}", "line 9: not valid YAML: `99999"),
        (f"seed: 0x{'f' * 5000}", "`seed`"),
        (f"name: {NESTED}", "line 9: not valid YAML: more than 100 sections or lists inside each"),
        (f"name: {NESTED}{']' * 3000}", "line 9: not valid YAML: more than 100 sections"),
        (f"name: {NESTED[:90]}{']' * 90}", "`name`: found a list, [[["),
        ("name: !!int abc", "`abc` cannot be read as int"),
        ("name: !!bool abc", "`abc` cannot be read as bool"),
        ("name: !!timestamp abc", "`abc` cannot be read as timestamp"),
        ("name: !!map [a]", "not valid YAML: expected a mapping node, but found sequence"),
        ("name: !!set [a]", "not valid YAML"),
        ("name: !!python/object:os.system []", "could not determine a constructor"),
        ("name: &a [*a]", "a value contains itself"),
        ("name: &a {b: *a}", "a value contains itself"),
        ("? [1, 2]\n: 3", "not valid YAML: found unhashable key"),
        (f"{BOMB}\nname: *a9", "more than 100,000 values, with those that aliases repeat"),
        (f"{BOMB}\nmodel: *a9", "more than 100,000 values"),
    ],
    ids=lambda text: text[:24].encode("unicode_escape").decode(),
)
def test_what_cannot_be_a_config_is_one_line(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(STUDY.replace("name: s\n", "") + f"runs: r\n\n{line}\n")
    found = refused(path)
    assert found.startswith(f"{path}: ")
    assert message in found


@pytest.mark.parametrize("value", [DIGITS, NESTED, "!!int abc", "2024-13-45", "&a [*a]"])
def test_an_override_that_cannot_be_read_is_one_line(tmp_path: Path, value: str) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(STUDY)
    assert "the value is not valid YAML" in refused(path, f"budget={value}")


def test_a_key_is_overridden_once(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(STUDY)
    line = refused(path, "budget=5", "seed=1", "budget=6")
    assert line == "--set budget=6: `budget` is given twice; keep one"
    assert load_config(path, ["less.seed=1", "less.dtype=float32"]).less.seed == 1  # type: ignore[attr-defined]


def test_a_few_aliases_are_welcome(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    side = "{kind: builtin, skill: plural}"
    path.write_text(f"budget: 5\ndata: {{pool: {{kind: builtin}}, query: &q {side}, test: *q}}\n")
    config = load_config(path)
    assert config.data.query == config.data.test


@given(st.text(st.sampled_from("[]{}&*!:-?, ab1\n'\"|>#%@"), max_size=40))
def test_any_text_is_a_value_or_one_line(text: str) -> None:
    line = ""
    try:
        read_document(text)
    except ValueError as error:
        line = str(error)
    assert "\n" not in line
