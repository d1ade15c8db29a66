"""Benchmark tasks through lm-eval (the `eval` extra), on the model as it lies in memory.

Tasks are named as lm-eval names them, or are the path of a task file in lm-eval's own format, which
needs no hub when its data lie beside it. Prompts have the study's template, also the paper's, or
none. Generation is greedy and by the task's settings alone. lm-eval is imported only here, and only
when a study names a task of its.
"""

from __future__ import annotations

import copy
import difflib
import functools
import gc
import importlib.util
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import peft
import torch
from transformers import GenerationConfig

from tis_ray.analysis.metrics import PARSE_FAILURES
from tis_ray.data import TULU_JINJA, PromptTemplate, end_tokens
from tis_ray.errors import InputError
from tis_ray.evaluation.generation import only_settings
from tis_ray.evaluation.grading import Measured
from tis_ray.models.lora import without_wrapper
from tis_ray.models.saving import save_model
from tis_ray.settings import EvaluationConfig, HarnessTask
from tis_ray.store import read_text

UNREAD = ("[invalid]", "invalid")
"""What lm-eval's filters leave of an answer in which they found nothing."""


@functools.lru_cache(maxsize=8)
def identify(tasks: tuple[HarnessTask, ...], run_code: bool, engine: str) -> list[Any]:
    """Load tasks and return, as plain data, what their results depend on: versions and rows.

    Raises InputError where lm-eval, vLLM or a task is missing, where a task's data cannot be had, and
    for a task that runs what the model writes, unless that is allowed.
    """
    if not tasks:
        return []
    if importlib.util.find_spec("lm_eval") is None:
        raise InputError(
            "evaluation.lm_eval: needs the `lm_eval` package; pip install 'tis_ray[eval]', or leave "
            "the tasks out"
        )
    if engine == "vllm" and importlib.util.find_spec("vllm") is None:
        raise InputError(
            "evaluation.engine: vllm: needs the `vllm` package; pip install vllm, or use `transformers`"
        )
    import lm_eval

    found: list[Any] = [lm_eval.__version__, engine]
    for task in tasks:
        loaded = _load(task)
        for name, one in loaded["tasks"].items():
            if getattr(one, "UNSAFE_CODE", False) and not run_code:
                raise InputError(
                    f"evaluation.lm_eval: {name} runs code that the model writes, without the "
                    "limits of our own code tasks; set `evaluation.run_code: true` if you want that"
                )
            rows = "\n".join(map(repr, one.eval_docs))
            digest = blake2b(rows.encode(errors="replace"), digest_size=16).hexdigest()
            found.append([name, str(one.VERSION), digest])
        settings = task.model_dump(mode="json")
        if _is_path(task.task):
            settings["task"] = read_text(task.task)
        found.append(settings)
    return found


def measure_harness(
    model: Any,
    tokenizer: Any,
    settings: EvaluationConfig,
    template: PromptTemplate,
) -> dict[str, Measured]:
    """Run the study's lm-eval tasks; return, for each task or group, metrics named `task/metric`.

    A filter's name follows the metric's after a point (`gsm8k/exact_match.strict-match`). The share
    of answers that a filter could not read stands beside each metric of generated answers.
    """
    import lm_eval

    results: dict[str, Measured] = {}
    if settings.run_code:
        os.environ["HF_ALLOW_CODE_EVAL"] = "1"  # what lm-eval's own code tasks ask for
    with _engine(model, tokenizer, settings, template) as lm:
        for task in settings.lm_eval:
            found = lm_eval.simple_evaluate(
                lm,
                tasks=[task.task],
                task_manager=_manager(_is_path(task.task)),
                num_fewshot=task.num_fewshot,
                limit=task.limit,
                bootstrap_iters=0,
                apply_chat_template=template != "plain",
                confirm_run_unsafe_code=settings.run_code,
            )
            results |= _measured(found)
    return results


def _is_path(name: str) -> bool:
    return name.endswith((".yaml", ".yml"))


@functools.lru_cache(maxsize=2)
def _manager(own: bool) -> Any:
    """Return lm-eval's index of tasks; reading the thousands it ships with takes seconds."""
    from lm_eval.tasks import TaskManager

    return TaskManager(include_defaults=own)


def _load(task: HarnessTask) -> dict[str, Any]:
    """Return what lm-eval makes of a task, rows included; InputError if it cannot."""
    name = task.task
    manager = _manager(not _is_path(name))
    if _is_path(name) and not Path(name).is_file():
        raise InputError(f"evaluation.lm_eval: {name}: no such file; check the path")
    if not _is_path(name) and name not in manager.all_tasks:
        near = difflib.get_close_matches(name, manager.all_tasks, n=1)
        raise InputError(
            f"evaluation.lm_eval: lm-eval has no task {name!r}; "
            + (f"did you mean `{near[0]}`?" if near else "`lm-eval ls tasks` lists them")
        )
    try:
        loaded: dict[str, Any] = manager.load([name])
    except Exception as error:  # of the hub, of the file system, of a task's own code
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(
            f"evaluation.lm_eval: {name} cannot be loaded ({reason}); check its data and the network"
        ) from error
    return loaded


@contextmanager
def _engine(
    model: Any, tokenizer: Any, settings: EvaluationConfig, template: PromptTemplate
) -> Iterator[Any]:
    """Yield lm-eval's view of the model, which is left as it was."""
    tokenizer = copy.deepcopy(tokenizer)  # its pad token and its template are set
    if template == "tulu":
        tokenizer.chat_template = TULU_JINJA
    if settings.engine == "vllm":
        with _vllm(model, tokenizer, settings) as lm:
            yield lm
        return
    from lm_eval.models.huggingface import HFLM

    base = without_wrapper(model).eval()
    ends = end_tokens(tokenizer, template)
    greedy = GenerationConfig(do_sample=False, eos_token_id=ends, pad_token_id=ends[0])
    lm = HFLM(pretrained=base, tokenizer=tokenizer, batch_size=settings.batch_size)
    with only_settings(base, greedy):
        yield lm


@contextmanager
def _vllm(model: Any, tokenizer: Any, settings: EvaluationConfig) -> Iterator[Any]:
    """Yield vLLM on a merged copy; meanwhile the model waits in main memory."""
    from lm_eval.models.vllm_causallms import VLLM

    device = next(model.parameters()).device
    with tempfile.TemporaryDirectory(prefix="tis-ray-") as folder:
        merged = save_merged(model.cpu(), tokenizer, folder)
        torch.cuda.empty_cache()
        lm = VLLM(pretrained=str(merged), batch_size="auto", gpu_memory_utilization=0.8)
        try:
            yield lm
        finally:
            del lm
            gc.collect()
            torch.cuda.empty_cache()
            model.to(device)


def save_merged(model: Any, tokenizer: Any, folder: str | Path) -> Path:
    """Write a model, its adapter (if any) merged, for a program that loads models; return where."""
    whole = model
    if isinstance(model, peft.PeftModel):
        whole = copy.deepcopy(model).merge_and_unload()
    place = Path(folder) / "model"
    save_model(whole, tokenizer, place)
    return place


def _measured(found: dict[str, Any]) -> dict[str, Measured]:
    """Read lm-eval's results: a group's own, and those of tasks that are in no group."""
    groups: dict[str, Any] = found.get("groups") or {}
    parts = found.get("group_subtasks") or {}
    inside = {task for group in groups for task in _leaves(group, parts)}
    tops = [name for name in groups if not any(name in parts.get(g, ()) for g in groups)]
    tops += [name for name in found["results"] if name not in inside and name not in groups]
    results = {}
    for name in tops:
        leaves = _leaves(name, parts) if name in groups else [name]
        samples = [sample for leaf in leaves for sample in found["samples"][leaf]]
        own = groups.get(name) or found["results"][name]
        generated = found["configs"][leaves[0]]["output_type"] == "generate_until"
        metrics = {}
        for key, value in own.items():
            metric, _, kept = key.partition(",")
            if not kept or metric.endswith("_stderr") or not isinstance(value, int | float):
                continue
            full = f"{name}/{_named(metric)}" + (f".{kept}" if kept != "none" else "")
            metrics[full] = float(value)
            if generated:
                read = [_unread(s) for s in samples if s["filter"] == kept]
                metrics[full + PARSE_FAILURES] = float(np.mean(read))
        results[name] = Measured(metrics, _rows(leaves, found["samples"]))
    return results


def _leaves(group: str, parts: dict[str, list[str]]) -> list[str]:
    inside = [leaf for part in parts.get(group, []) for leaf in _leaves(part, parts)]
    return inside or [group]


def _named(metric: str) -> str:
    """Return a metric's name in letters that MLflow takes too: pass@1 is pass_at_1."""
    return re.sub(r"[^\w.-]", "_", metric.replace("@", "_at_"))


def _unread(sample: dict[str, Any]) -> bool:
    """Whether a filter found nothing in any answer of a sample."""
    kept = [text for found in sample["filtered_resps"] for text in _texts(found)]
    return all(not text.strip() or text in UNREAD for text in kept)


def _texts(found: Any) -> list[str]:
    return [str(part) for part in found] if isinstance(found, list) else [str(found)]


def _rows(tasks: Sequence[str], samples: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Return each sample of each filter as a row; what differs in type by task is kept as text."""
    rows = [(task, sample) for task in tasks for sample in samples[task]]
    return {
        "task": [task for task, _ in rows],
        "id": [str(sample["doc_id"]) for _, sample in rows],
        "filter": [sample["filter"] for _, sample in rows],
        "target": [str(sample["target"]) for _, sample in rows],
        "answer": [str(sample["resps"]) for _, sample in rows],
        "read": [str(sample["filtered_resps"]) for _, sample in rows],
        "metrics": [str({m: sample[m] for m in sample["metrics"]}) for _, sample in rows],
    }
