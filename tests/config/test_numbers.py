"""Numbers in a config: every field refuses what is none, and takes each way to write one."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, get_origin

import pytest
from pydantic import ValidationError

from tests.config.test_config import study
from tis_ray.config import Config, parse_config
from tis_ray.errors import InputError
from tis_ray.section import Section, _kinds
from tis_ray.store.document import read_document


def number_fields(section: type[Section], path: str = "") -> Iterator[Any]:
    """Yield every field that holds numbers, and those of the sections inside."""
    for name, field in section.model_fields.items():
        kinds = _kinds(field.annotation)
        for kind in sorted(kinds, key=str):
            if isinstance(kind, type) and issubclass(kind, Section):
                yield from number_fields(kind, f"{path}{name}.")
        if kinds & {int, float}:
            yield pytest.param(section, name, id=f"{path}{name}")


FIELDS = list({tuple(field.values): field for field in number_fields(Config)}.values())
"""Each once, wherever its section stands."""


def test_there_are_many() -> None:
    assert len(FIELDS) > 70


@pytest.mark.parametrize("value", [True, False, math.nan, math.inf, -1, "many"])
@pytest.mark.parametrize(("section", "name"), FIELDS)
def test_no_field_takes_what_is_no_number_of_its(
    section: type[Section], name: str, value: object
) -> None:
    origin = get_origin(section.model_fields[name].annotation)
    inside: object = {list: [value], dict: {"a": value}}.get(origin, value)  # type: ignore[call-overload]
    with pytest.raises(ValidationError) as caught:
        section.model_validate({name: inside})
    assert any(problem["loc"][0] == name for problem in caught.value.errors())


@pytest.mark.parametrize("value", [10, 10.0, "10", "1e1", "1.0e+1"])
def test_a_count_may_be_written_as_any_whole_number(value: object) -> None:
    assert parse_config(study(budget=value, finetune={"epochs": value})).budget == [10]


@pytest.mark.parametrize("value", [10.5, "1e-1", "1e999", "ten"])
def test_a_count_is_whole(value: object) -> None:
    with pytest.raises(InputError, match="`budget`: Input should be"):
        parse_config(study(budget=value))


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"budget": True}, "`budget`: give a number, not true or false; found True"),
        ({"seed": [0, True]}, "`seed`: give a number, not true or false; found [0, True]"),
        ({"constraints": {"cap": {"a": True}}}, "`constraints.cap`: give a number, not true"),
        ({"grid": {"finetune.epochs": [2, True]}}, "`grid.finetune.epochs`: give a number, not tr"),
        ({"search": {"over": {"lora.rank": [True]}}}, "`search.over.lora.rank`: give a number"),
    ],
)
def test_true_is_not_1(changes: dict[str, Any], where: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_config(study(**changes))
    assert where in str(caught.value)


def test_an_id_that_yaml_reads_as_true_is_not_made_text() -> None:
    with pytest.raises(InputError, match=r"`constraints.include`: .* valid string; found True"):
        parse_config(study(constraints={"include": [True]}))
    assert parse_config(study(constraints={"include": [7]})).constraints.include == ["7"]


@pytest.mark.parametrize(
    ("text", "value"), [("010", "8"), ("007", "7"), ("1:30", "90"), ("1:30.5", "90.5")]
)
def test_a_number_that_yaml_reads_as_another_is_refused(text: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"`{text}` cannot be read as .*YAML takes it for {value}"):
        read_document(f"budget: {text}")
    assert read_document(f"'{text}'") == text


@pytest.mark.parametrize(("text", "value"), [("0", 0), ("-0", 0), ("0x10", 16), ("0.5", 0.5)])
def test_a_number_that_says_what_it_is_is_read(text: str, value: float) -> None:
    assert read_document(text) == value
