"""Lists in place of single values: axes of a grid, and the studies that come of it."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from tis_ray.config import config_yaml, parse_config
from tis_ray.errors import InputError
from tis_ray.settings.grid import label, placed, points


def raw(**changes: Any) -> dict[str, Any]:
    side = {"kind": "builtin", "skill": "plural", "rows": 4}
    data = {"pool": {"kind": "builtin"}, "query": side, "test": side}
    return {"name": "s", "data": data, "budget": 5, **changes}


def test_a_list_in_place_of_a_value_is_an_axis() -> None:
    config = parse_config(
        raw(
            finetune={"learning_rate": [1e-3, 2e-3], "lora": {"rank": [4, 8, 16]}},
            less={"lora": {"targets": ["q_proj", "v_proj"]}},
            seed=[0, 1],
        )
    )
    assert config.grid == {"finetune.learning_rate": [1e-3, 2e-3], "finetune.lora.rank": [4, 8, 16]}
    assert (config.finetune.learning_rate, config.finetune.lora.rank) == (1e-3, 4)
    assert config.less.lora.targets == ["q_proj", "v_proj"]
    parts = config.parts()
    assert len(parts) == 6
    study = parts["finetune.learning_rate-0.002-finetune.lora.rank-16"]
    assert study.name == "s-finetune.learning_rate-0.002-finetune.lora.rank-16"
    assert (study.finetune.learning_rate, study.finetune.lora.rank) == (2e-3, 16)
    assert study.setting == {"finetune.learning_rate": 2e-3, "finetune.lora.rank": 16}
    assert study.parts() == {}


def test_both_ways_to_write_it_are_one_and_survive_yaml() -> None:
    by_place = parse_config(raw(model={"dtype": ["float32", "bfloat16"]}))
    by_name = parse_config(raw(grid={"model.dtype": ["float32", "bfloat16"]}))
    assert by_place == by_name
    for config in (by_place, *by_place.parts().values()):
        assert parse_config(yaml.safe_load(config_yaml(config))) == config


def test_tasks_and_grid_are_crossed() -> None:
    tasks = {
        skill: {side: {"kind": "builtin", "skill": skill} for side in ("query", "test")}
        for skill in ("plural", "reverse_word")
    }
    config = parse_config(
        {"name": "s", "data": {"pool": {"kind": "builtin"}}, "tasks": tasks, "budget": 5}
        | {"uot": {"reg": [0.01, 0.1]}}
    )
    parts = config.parts()
    assert list(parts) == [f"{task}-uot.reg-{reg}" for task in tasks for reg in (0.01, 0.1)]
    assert {name: part.name for name, part in parts.items()} == {n: f"s-{n}" for n in parts}
    assert parts["reverse_word-uot.reg-0.1"].data.query.skill == "reverse_word"  # type: ignore[union-attr]


def test_one_value_in_a_list_is_the_value() -> None:
    config = parse_config(raw(finetune={"epochs": [3]}))
    assert (config.finetune.epochs, config.grid, config.parts()) == (3, {}, {})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"finetune": {"epochs": [2, 0]}}, "`finetune.epochs`: Input should be greater"),
        ({"finetune": {"epochs": [2, 2]}}, "`finetune.epochs`: a value is there twice"),
        ({"finetune": {"epoch": [1, 2]}}, "did you mean `epochs`"),
        ({"grid": {"finetune.epoch": [1, 2]}}, "did you mean `epochs`"),
        ({"grid": {"seed": [1, 2]}}, "`grid.seed`: give a setting of a section"),
        ({"grid": {"finetune.epochs": 2}}, "`grid.finetune.epochs`: Input should be a valid list"),
    ],
)
def test_a_bad_axis_is_one_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as error:
        parse_config(raw(**changes), origin="study.yaml")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_points_labels_and_places() -> None:
    assert points({"a.b": [1, 2], "a.c": ["x"]}) == [{"a.b": 1, "a.c": "x"}, {"a.b": 2, "a.c": "x"}]
    assert label({"model.name": "org/Model 1", "a.b": None}) == "model.name-org-Model-1-a.b-None"
    before = {"a": {"b": 0, "d": 3}, "e": 4}
    assert placed(before, {"a.b": 1}) == {"a": {"b": 1, "d": 3}, "e": 4}
    assert before["a"] == {"b": 0, "d": 3}
