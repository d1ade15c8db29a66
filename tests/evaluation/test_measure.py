"""The numbers of a model are the means of the rows that are kept beside them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tis_ray.data import builtin, encode_query_row
from tis_ray.errors import InputError
from tis_ray.evaluation import (
    example_losses,
    generate,
    grade,
    measure_answers,
    measure_rows,
    task_prompts,
)
from tis_ray.evaluation.tasks import Asking, Task, TaskRow
from tis_ray.models.loading import load_model, load_tokenizer
from tis_ray.settings import EvaluationConfig, ModelConfig


@pytest.fixture(scope="module")
def model() -> Any:
    return load_model(ModelConfig())


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return load_tokenizer(ModelConfig())


def encoded(rows: list[dict[str, Any]], tokenizer: Any, template: Any = "tulu") -> list[Any]:
    return [{"id": r["id"], **encode_query_row(r, tokenizer, 128, template)} for r in rows]


@pytest.fixture(scope="module")
def sides(tokenizer: Any) -> tuple[list[Any], list[Any]]:
    query = builtin.query_rows("upper_case", 4, seed=0)
    test = builtin.test_rows("upper_case", 12, seed=0)
    return encoded(query, tokenizer), encoded(test, tokenizer)


def test_means_are_those_of_the_rows(model: Any, tokenizer: Any, sides: Any) -> None:
    settings = EvaluationConfig(metrics=["exact_match", "f1"], max_new_tokens=24)
    found = measure_rows(model, tokenizer, *sides, settings)
    assert found.metrics["query_loss"] == example_losses(model, sides[0]).mean()
    assert found.metrics["test_loss"] == np.mean(found.rows["loss"])
    for name in ("exact_match", "f1"):
        assert found.metrics[name] == np.mean(found.rows[name])
        missing = np.mean([read is None for read in found.rows[f"{name}_read"]])
        assert found.metrics[f"{name}_parse_failures"] == missing
    assert found.metrics["unfinished"] == 1 - np.mean(found.rows["finished"])
    assert found.rows["id"] == [row["id"] for row in sides[1]]
    assert {len(column) for column in found.rows.values()} == {12}
    assert found.metrics["f1"] >= found.metrics["exact_match"] > 0


def test_exact_match_is_that_of_answers_and_labels(model: Any, tokenizer: Any, sides: Any) -> None:
    found = measure_rows(model, tokenizer, *sides, EvaluationConfig(max_new_tokens=24))
    prompts = [
        [token for token, y in zip(row["input_ids"], row["labels"], strict=True) if y == -100]
        for row in sides[1]
    ]
    answers = [a.text for a in generate(model, tokenizer, prompts, 24, 4)]
    assert found.rows["answer"] == answers
    labels = found.rows["label"]
    assert labels == [
        row["messages"][-1]["content"] for row in builtin.test_rows("upper_case", 12, 0)
    ]
    same = [a.strip() == b.strip() for a, b in zip(answers, labels, strict=True)]
    assert found.metrics["exact_match"] == np.mean(same)


def test_without_metrics_nothing_is_generated(model: Any, tokenizer: Any, sides: Any) -> None:
    found = measure_rows(model, tokenizer, *sides, EvaluationConfig(metrics=[]))
    assert set(found.metrics) == {"query_loss", "test_loss"}
    assert set(found.rows) == {"id", "loss"}


def test_a_template_of_another_kind_gives_other_numbers(model: Any, tokenizer: Any) -> None:
    """The shipped model learned the template: bare prompts are harder for it."""
    rows = builtin.test_rows("upper_case", 12, seed=0)
    settings = EvaluationConfig(metrics=[])
    both = []
    for template in ("tulu", "plain"):
        side = encoded(rows, tokenizer, template)
        both.append(measure_rows(model, tokenizer, side, side, settings).metrics["test_loss"])
    assert both[1] > both[0] + 0.1


def test_every_metric_has_its_share_of_parse_failures() -> None:
    answers = ["#### 4", "four", "", "#### 5"]
    found = grade(answers, [["4"]] * 4, ["numeric_match", "exact_match"])
    assert found.metrics == {
        "numeric_match": 0.25,
        "numeric_match_parse_failures": 0.5,
        "exact_match": 0.0,
        "exact_match_parse_failures": 0.25,
    }
    assert found.rows["numeric_match_read"] == ["4", None, None, "5"]


def task(rows: list[dict[str, Any]], **asking: Any) -> Task:
    found = [
        TaskRow(row["id"], row["messages"][:-1], [row["messages"][-1]["content"]]) for row in rows
    ]
    return Task("upper", "exact_match", found, Asking(max_new_tokens=24, **asking))


def test_a_task_of_the_test_rows_gives_what_the_test_rows_give(model: Any, tokenizer: Any) -> None:
    rows = builtin.test_rows("upper_case", 12, seed=0)
    settings = EvaluationConfig()
    found = measure_answers(model, tokenizer, task(rows), settings, "tulu", 128)
    side = encoded(rows, tokenizer)
    own = measure_rows(model, tokenizer, side, side, EvaluationConfig(max_new_tokens=24))
    assert found.rows["answer"] == own.rows["answer"]
    assert found.metrics == {
        "upper/exact_match": own.metrics["exact_match"],
        "upper/exact_match_parse_failures": own.metrics["exact_match_parse_failures"],
        "upper/unfinished": own.metrics["unfinished"],
        "upper/cut_prompts": 0.0,
    }
    assert found.rows["question"] == [row["messages"][0]["content"] for row in rows]


def test_stop_strings_of_the_task_and_those_without_template(model: Any, tokenizer: Any) -> None:
    rows = builtin.test_rows("upper_case", 4, seed=0)
    settings = EvaluationConfig(plain_stop=("a", "e", "i", "o", "u", "A", "E", "I", "O", "U"))

    def vowels(template: Any, **asking: Any) -> int:
        found = measure_answers(
            model, tokenizer, task(rows, **asking), settings, template, 128
        ).rows["answer"]
        return sum(letter in "aeiouAEIOU" for answer in found for letter in answer.strip())

    assert vowels("tulu") > 0
    assert vowels("tulu", stop=settings.plain_stop) == 0
    assert vowels("plain") == 0
    assert vowels("plain", plain_stop=()) > 0


def test_long_prompts_keep_their_end_and_are_counted(model: Any, tokenizer: Any) -> None:
    rows = builtin.test_rows("upper_case", 4, seed=0)
    short = max(len(ids) for ids in task_prompts(tokenizer, task(rows), "tulu"))
    long = {**rows[0], "messages": [dict(turn) for turn in rows[0]["messages"]]}
    long["messages"][0]["content"] = "word " * 40 + long["messages"][0]["content"]
    found = measure_answers(
        model, tokenizer, task([*rows[1:], long]), EvaluationConfig(), "tulu", short
    )
    assert found.metrics["upper/cut_prompts"] == 0.25


def test_a_pattern_says_what_of_an_answer_counts() -> None:
    answers = ["So the answer is 4. Then more.", "the answer is 5.", "4"]
    found = grade(answers, [["4"]] * 3, ["exact_match"], r"answer is (.*?)\.")
    assert found.rows["exact_match"] == [1, 0, 0]
    assert found.rows["exact_match_read"] == ["4", "5", None]
    assert found.metrics["exact_match_parse_failures"] == pytest.approx(1 / 3)


def test_code_runs_only_where_it_is_allowed(model: Any, tokenizer: Any) -> None:
    question = [{"role": "user", "content": "def f():\n"}]
    row = TaskRow("f", question, test="def check(f): assert f() is None", entry_point="f")
    code = Task("code", "pass_at_1", [row], Asking(max_new_tokens=4, plain_stop=()))
    with pytest.raises(InputError, match=r"code: .*set `evaluation.run_code: true`"):
        measure_answers(model, tokenizer, code, EvaluationConfig(), "tulu", 128)
    allowed = EvaluationConfig(run_code=True)
    found = measure_answers(model, tokenizer, code, allowed, "tulu", 128)
    assert found.rows["outcome"][0] in ("passed", "syntax", "other", "assertion")
    kinds = ("syntax", "assertion", "timeout", "other")
    failed = sum(found.metrics[f"code/failed_{kind}"] for kind in kinds)
    assert found.metrics["code/pass_at_1"] + failed == 1
