"""A file's studies: tasks and grids, their names, and that each study is a file of its own."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import assume, given
from hypothesis import strategies as st

from tis_ray.config import config_yaml, load_config, parse_config, parts, plan, together
from tis_ray.errors import InputError
from tis_ray.settings.grid import LONGEST_LABEL, label, placed, points

SKILLS = ("plural", "reverse_word")
TASKS = {
    skill: {side: {"kind": "builtin", "skill": skill, "rows": 4} for side in ("query", "test")}
    for skill in SKILLS
}


def raw(**changes: Any) -> dict[str, Any]:
    side = {"kind": "builtin", "skill": "plural", "rows": 4}
    data = {"pool": {"kind": "builtin"}, "query": side, "test": side}
    return {"name": "s", "data": data, "budget": 5, **changes}


def with_tasks(**changes: Any) -> dict[str, Any]:
    return raw(data={"pool": {"kind": "builtin"}}, tasks=TASKS, **changes)


# ---- plans -----------------------------------------------------------------------------------


def test_a_plain_file_is_its_own_plan() -> None:
    config = parse_config(raw())
    assert plan(config) == {"s": config}
    assert together(config) is None


def test_a_grid_is_a_study_for_each_combination() -> None:
    grid = {"finetune.learning_rate": [1e-3, 2e-3], "finetune.lora.rank": [4, 8, 16]}
    config = parse_config(raw(grid=grid, less={"lora": {"targets": ["q_proj", "v_proj"]}}))
    assert (config.finetune.learning_rate, config.finetune.lora.rank) == (1e-3, 4)
    assert config.less.lora.targets == ["q_proj", "v_proj"]  # type: ignore[attr-defined]
    studies = plan(config)
    assert len(studies) == 6
    study = studies["s-finetune.learning_rate-0.002-finetune.lora.rank-16"]
    assert (study.finetune.learning_rate, study.finetune.lora.rank) == (2e-3, 16)
    assert parts(config)[-1].setting == {"finetune.learning_rate": 2e-3, "finetune.lora.rank": 16}
    assert together(config) == config.run_dir


def test_a_grid_may_give_what_the_file_leaves_out() -> None:
    pools = [{"kind": "builtin", "rows": rows} for rows in (100, 200)]
    source = TASKS["plural"]["query"]
    config = parse_config(raw(data={"query": source, "test": source}, grid={"data.pool": pools}))
    assert [study.data.pool.rows for study in plan(config).values()] == [100, 200]  # type: ignore[union-attr]


def test_tasks_and_grid_are_crossed() -> None:
    config = parse_config(with_tasks(grid={"uot.reg": [0.01, 0.1]}))
    studies = plan(config)
    assert list(studies) == [f"s-{task}-uot.reg-{reg}" for task in TASKS for reg in (0.01, 0.1)]
    assert {name: study.name for name, study in studies.items()} == {n: n for n in studies}
    assert studies["s-reverse_word-uot.reg-0.1"].data.query.skill == "reverse_word"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "changes",
    [
        with_tasks(),
        raw(grid={"model.dtype": ["float32", "bfloat16"], "embed.query_prefix": ["Q: ", "Q:"]}),
        with_tasks(grid={"data.query.rows": [2, 3]}, overlap={"also": [TASKS["plural"]]}),
    ],
)
def test_a_study_and_its_file_survive_yaml_and_plan_the_same(changes: dict[str, Any]) -> None:
    config = parse_config(changes)
    again = parse_config(yaml.safe_load(config_yaml(config)))
    assert (again, plan(again)) == (config, plan(config))
    for name, study in plan(config).items():
        alone = parse_config(yaml.safe_load(config_yaml(study)))
        assert plan(alone) == {name: study}
        assert together(alone) is None


def test_one_task_is_that_part_of_the_whole() -> None:
    """The same name, so the same folder, and the same config, so the same artifacts."""
    whole = plan(parse_config(with_tasks(grid={"uot.reg": [0.01, 0.1]})))
    found: dict[str, Any] = {}
    for task in TASKS:
        config = parse_config(with_tasks(grid={"uot.reg": [0.01, 0.1]}, task=task))
        found |= plan(config)
        page = together(config)
        assert page is not None
        assert page.name == f"s-{task}"
    assert found == whole
    (alone,) = plan(parse_config(with_tasks(task="plural"))).values()
    assert alone.name == "s-plural"
    assert together(parse_config(with_tasks(task="plural"))) is None


def test_the_pool_of_each_task_is_screened_for_all() -> None:
    studies = plan(parse_config(with_tasks()))
    for study in studies.values():
        others = [sides.test.skill for sides in study.overlap.also]  # type: ignore[union-attr]
        assert sorted([*others, study.data.test.skill]) == list(SKILLS)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (with_tasks(task="plurals"), "task: 'plurals' is not one of tasks (plural, reverse_word)"),
        (
            with_tasks(task=["plural", "reverse_word"]),
            "task: ['plural', 'reverse_word'] is not one",
        ),
        (raw(task="plural"), "task: found 'plural', but there are no tasks"),
        (
            raw(tasks={"plural": {**TASKS["plural"], "query": "q.jsonl"}}),
            "data.query: each of `tasks` has its own",
        ),
        (
            raw(
                data={"pool": "p"},
                tasks={"a": {"query": {"kind": "builtin", "skil": 1}, "test": "t"}},
            ),
            "`tasks.a.query.skil` is not a known key; did you mean `skill`?",
        ),
        (raw(data={"pool": "p"}, tasks={"a": {"test": "t"}}), "`tasks.a.query` is missing; add it"),
        (
            raw(
                data={"pool": "p"},
                tasks={
                    "a": {"query": "q", "test": "t"},
                    "b": {"query": {"kind": "builtin", "skill": "no"}, "test": "t"},
                },
            ),
            "`tasks.b.query.skill`: found 'no', expected one of",
        ),
        (with_tasks(name="n" * 195), "would name a run folder with 202 characters"),
        (raw(name="n" * 201), "`name`: String should have at most 200 characters"),
    ],
)
def test_tasks_that_do_not_fit_are_one_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as error:
        parse_config(changes)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


# ---- what makes a grid -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "dotted"),
    [
        ({"finetune": {"learning_rate": [1e-3, 2e-3]}}, "finetune.learning_rate: [0.001, 0.002]"),
        ({"less": {"sketch": {"width": [512]}}}, "less.sketch.width: [512]"),
        ({"model": {"name": ["builtin", "./other"]}}, "model.name: ['builtin', './other']"),
        ({"model": {"dtype": ["float32", "bfloat16"]}}, "model.dtype: ['float32', 'bfloat16']"),
        ({"finetune": {"packed": [True, False]}}, "finetune.packed: [True, False]"),
    ],
)
def test_a_list_where_one_value_belongs_names_grid(changes: dict[str, Any], dotted: str) -> None:
    with pytest.raises(InputError) as error:
        parse_config(raw(**changes), origin="study.yaml")
    key = dotted.partition(":")[0]
    assert f"study.yaml: `{key}`: found a list, " in str(error.value)
    assert f"for a study of each value write `grid: {{{dotted}}}`" in str(error.value)


def test_a_list_that_no_grid_can_hold_is_not_sent_there() -> None:
    with pytest.raises(InputError, match=r"`name`: found a list, .*, where one value belongs$"):
        parse_config(raw(name=["a", "b"]))


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ({"finetune.epochs": [2, 0]}, "`grid.finetune.epochs`: Input should be greater"),
        ({"finetune.epochs": [2, 2]}, "`grid.finetune.epochs`: a value is given twice"),
        ({"finetune.learning_rate": [0.001, "0.001"]}, "are the same; keep one"),
        ({"finetune.epoch": [1, 2]}, "did you mean `epochs`"),
        ({"less.lora.rank": [[1, 2], 4]}, "`grid.less.lora.rank`: found a list, [1, 2], where"),
        ({"seed": [1, 2]}, "`grid.seed`: give a setting of a section"),
        ({"finetune": [{}, {"epochs": 2}]}, "`grid.finetune`: give a setting of a section"),
        ({"tasks.a.query": ["a", "b"]}, "`grid.tasks.a.query`: give a setting of a section"),
        ({"nothing.at_all": [1, 2]}, "`nothing` is not a known key"),
        ({"budget.x": [1, 2]}, "grid: `budget.x`: `budget` holds a value, not a section"),
        ({"data.pool.path": ["a", "b"]}, "`data.pool.path`: `data.pool` holds a value, not a"),
        ({"finetune.epochs": 2}, "`grid.finetune.epochs`: Input should be a valid list"),
        ({"finetune.epochs": []}, "`grid.finetune.epochs`: List should have at least 1 item"),
        ([1], "`grid`: Input should be a valid dictionary"),
        ({5: [1, 2]}, "`grid.5`: give a setting of a section"),
        (
            {"less.seed": list(range(40)), "embed.query_prefix": [str(i) for i in range(40)]},
            "grid: makes 1600 studies, more than 1000",
        ),
    ],
)
def test_a_bad_axis_is_one_line(grid: Any, message: str) -> None:
    changes = raw(grid=grid)
    if "data.pool.path" in grid:
        changes["data"] = {**changes["data"], "pool": "some/path"}
    with pytest.raises(InputError) as error:
        parse_config(changes, origin="study.yaml")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_grid_may_be_given_on_the_command_line(tmp_path: Any) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(raw()))
    for override in ("grid.finetune.epochs=[1, 2]", "grid={finetune.epochs: [1, 2]}"):
        assert load_config(path, [override]).grid == {"finetune.epochs": [1, 2]}


def test_the_config_of_a_part_that_an_earlier_version_wrote_is_refused() -> None:
    with pytest.raises(InputError, match="`setting` is no longer a key of a config; leave it out"):
        parse_config(raw(setting={}))


# ---- names -----------------------------------------------------------------------------------


def test_points_labels_and_places() -> None:
    assert points({"a.b": [1, 2], "a.c": ["x"]}) == [{"a.b": 1, "a.c": "x"}, {"a.b": 2, "a.c": "x"}]
    assert label(
        {"finetune.learning_rate": 1e-5, "knn.alpha": 0.01, "model.name": "SmolLM2-135M"}
    ) == ("finetune.learning_rate-1e-05-knn.alpha-0.01-model.name-SmolLM2-135M")
    assert label({"a.b": None, "a.c": True}) == "a.b-None-a.c-True"
    assert label({"model.name": "org/Model 1"}).startswith("model.name-org-Model-1--")
    before = {"a": {"b": 0, "d": 3}, "e": 4}
    assert placed(before, {"a.b": 1}) == {"a": {"b": 1, "d": 3}, "e": 4}
    assert before["a"] == {"b": 0, "d": 3}


def test_values_that_read_the_same_are_two_studies() -> None:
    studies = plan(parse_config(raw(grid={"embed.query_prefix": ["Q: ", "Q:"]})))
    assert len(studies) == 2
    assert {study.embed.query_prefix for study in studies.values()} == {"Q: ", "Q:"}  # type: ignore[attr-defined]
    assert all(name.startswith("s-embed.query_prefix-Q--") for name in studies)


WORDS = st.lists(st.sampled_from(["a", "-", "a.b", "c.d", " ", "1", "--", "Q:", "/"]), max_size=6)
VALUES = st.one_of(
    WORDS.map("".join),
    st.text(max_size=8),
    st.integers(-30, 30),
    st.floats(allow_nan=False),
    st.sampled_from([None, True, False, "None", "True", "1", "1.0", "-1", "x" * 300, "y" * 300]),
    st.lists(st.sampled_from(["q", "q, v", "'q'"]), max_size=3),
)


@given(first=st.tuples(VALUES, VALUES), second=st.tuples(VALUES, VALUES))
def test_two_points_never_share_a_label(first: tuple[Any, Any], second: tuple[Any, Any]) -> None:
    assume(repr(first) != repr(second))
    labels = [label(dict(zip(("a.b", "c.d"), values, strict=True))) for values in (first, second)]
    assert labels[0] != labels[1]
    for text in labels:
        assert len(text) <= LONGEST_LABEL + 14
        assert all(c.isascii() and (c.isalnum() or c in "._-") for c in text)
