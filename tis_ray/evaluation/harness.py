"""Benchmark tasks run with lm-eval (the `eval` extra), on the model that is in memory.

A task is given by its name in lm-eval, or by the path of a task file in lm-eval's own format, which
needs no hub if its data are beside it. Prompts have the study's template (the paper's too), or none.
Generation is greedy and follows only the task's settings. lm-eval is imported only here, and only
when a study names one of its tasks.
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
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, NotRequired, TypedDict

import numpy as np
import peft
import torch
from transformers import GenerationConfig, PreTrainedTokenizerBase

from tis_ray.batches import rotary_depends_on_length
from tis_ray.data import PromptTemplate, end_tokens, portable_source
from tis_ray.errors import InputError
from tis_ray.evaluation.generation import only_settings
from tis_ray.evaluation.grading import Column, Measured
from tis_ray.metrics.description import PARSE_FAILURES
from tis_ray.models.lora import CausalLM, without_wrapper
from tis_ray.models.saving import save_model
from tis_ray.settings import EvaluationConfig, HarnessTask
from tis_ray.store import read_text

if TYPE_CHECKING:
    from lm_eval.api.model import LM
    from lm_eval.api.task import Task
    from lm_eval.tasks import TaskManager

UNREAD = ("[invalid]", "invalid")
"""What lm-eval's filters leave of an answer in which they found nothing."""


class _Loaded(TypedDict):
    """What lm-eval's task manager returns; the keys that are read here."""

    tasks: dict[str, Task]


class _Sample(TypedDict):
    """One row of a task as lm-eval logs it; the value of each metric is under the metric's name."""

    doc_id: int
    filter: str
    target: object
    resps: object
    filtered_resps: list[object]
    metrics: list[str]


class _TaskSettings(TypedDict):
    output_type: str


class _Results(TypedDict):
    """What lm-eval's `simple_evaluate` returns; the keys that are read here."""

    results: dict[str, dict[str, object]]
    groups: NotRequired[dict[str, dict[str, object]] | None]
    group_subtasks: NotRequired[dict[str, list[str]] | None]
    samples: dict[str, list[_Sample]]
    configs: dict[str, _TaskSettings]


@functools.lru_cache(maxsize=8)
def identify(tasks: tuple[HarnessTask, ...], run_code: bool, engine: str) -> list[object]:
    """Load tasks and return, as plain data, what their results depend on: versions and rows.

    Raises InputError if lm-eval, vLLM or a task is missing, if a task's data cannot be loaded, and
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
            "evaluation.engine: vllm needs the `vllm` package; pip install vllm, or use `transformers`"
        )
    import lm_eval

    identity: list[object] = [lm_eval.__version__, engine]
    for named in tasks:
        for name, task in _load(named)["tasks"].items():
            if getattr(task, "UNSAFE_CODE", False) and not run_code:
                raise InputError(
                    f"evaluation.lm_eval: {name} runs code that the model writes, without the "
                    "limits of our own code tasks; set `evaluation.run_code: true` if you want that"
                )
            rows = "\n".join(map(repr, task.eval_docs))
            digest = blake2b(rows.encode(errors="replace"), digest_size=16).hexdigest()
            identity.append([name, str(task.VERSION), digest])
        settings = named.model_dump(mode="json")
        if _is_path(named.task):
            settings["task"] = read_text(named.task)
        identity.append(settings)
    return identity


def measure_harness(
    model: CausalLM,
    tokenizer: PreTrainedTokenizerBase,
    settings: EvaluationConfig,
    template: PromptTemplate,
) -> dict[str, Measured]:
    """Run the study's lm-eval tasks; return, for each task or group, metrics named `task/metric`.

    A filter's name follows the metric's, after a full stop (`gsm8k/exact_match.strict-match`). Each
    metric of generated answers comes with the share of answers that its filter could not read.
    """
    import lm_eval

    results: dict[str, Measured] = {}
    if settings.run_code:
        os.environ["HF_ALLOW_CODE_EVAL"] = "1"  # what lm-eval's own code tasks require
    with _engine(model, tokenizer, settings, template) as lm:
        for task in settings.lm_eval:
            evaluated: _Results = lm_eval.simple_evaluate(
                lm,
                tasks=[task.task],
                task_manager=_manager(_is_path(task.task)),
                num_fewshot=task.num_fewshot,
                limit=task.limit,
                bootstrap_iters=0,
                apply_chat_template=template != "plain",
                confirm_run_unsafe_code=settings.run_code,
            )
            results |= _measured(evaluated)
    return results


def _is_path(name: str) -> bool:
    return name.endswith((".yaml", ".yml"))


@functools.lru_cache(maxsize=2)
def _manager(own: bool) -> TaskManager:
    """Return lm-eval's index of tasks; reading the thousands it ships with takes seconds."""
    from lm_eval.tasks import TaskManager

    return TaskManager(include_defaults=own)


def _load(task: HarnessTask) -> _Loaded:
    """Load a task with lm-eval, including its rows; InputError if that fails."""
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
        loaded: _Loaded = manager.load([name])
    except Exception as error:  # of the hub, of the file system, of a task's own code
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(
            f"evaluation.lm_eval: {name} cannot be loaded ({reason}); check its data and the network"
        ) from error
    return loaded


@contextmanager
def _engine(
    model: CausalLM,
    tokenizer: PreTrainedTokenizerBase,
    settings: EvaluationConfig,
    template: PromptTemplate,
) -> Iterator[LM]:
    """Yield lm-eval's view of the model, which is left as it was."""
    tokenizer = copy.deepcopy(tokenizer)  # its pad token and its template will be set
    if template != "plain":
        tokenizer.chat_template = portable_source(tokenizer, template)
    if settings.engine == "vllm":
        with _vllm(model, tokenizer, settings) as lm:
            yield lm
        return
    from lm_eval.models.huggingface import HFLM

    base = without_wrapper(model).eval()
    ends = end_tokens(tokenizer, template)
    greedy = GenerationConfig(
        do_sample=False, eos_token_id=ends or None, pad_token_id=(ends or [0])[0]
    )
    # lm-eval cuts rows to the model's length; those it puts into one batch share rotary factors.
    longest = getattr(base.config.get_text_config(), "max_position_embeddings", 1)
    size = 1 if rotary_depends_on_length(base, longest) else settings.batch_size
    lm = HFLM(pretrained=base, tokenizer=tokenizer, batch_size=size)
    with only_settings(base, greedy):
        yield lm


@contextmanager
def _vllm(
    model: CausalLM, tokenizer: PreTrainedTokenizerBase, settings: EvaluationConfig
) -> Iterator[LM]:
    """Yield vLLM on a merged copy; the model itself is in main memory until the end."""
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


def save_merged(model: CausalLM, tokenizer: PreTrainedTokenizerBase, folder: str | Path) -> Path:
    """Write a model, merged with its adapter if it has one, for another program; return its path."""
    whole = model
    if isinstance(model, peft.PeftModel):
        whole = copy.deepcopy(model).merge_and_unload()
    path = Path(folder) / "model"
    # The tokenizer has the study's template already, if prompts have one.
    save_model(whole, tokenizer, path, "chat" if tokenizer.chat_template else "tulu")
    return path


def _measured(evaluated: _Results) -> dict[str, Measured]:
    """Read lm-eval's results: those of groups, and of tasks that are in no group."""
    groups, parts = evaluated.get("groups") or {}, evaluated.get("group_subtasks") or {}
    inside = {task for group in groups for task in _leaves(group, parts)}
    tops = [name for name in groups if not any(name in parts.get(g, ()) for g in groups)]
    tops += [name for name in evaluated["results"] if name not in inside and name not in groups]
    measured = {}
    for name in tops:
        leaves = _leaves(name, parts) if name in groups else [name]
        samples = [sample for leaf in leaves for sample in evaluated["samples"][leaf]]
        results = groups.get(name) or evaluated["results"][name]
        generated = evaluated["configs"][leaves[0]]["output_type"] == "generate_until"
        metrics = {}
        for key, value in results.items():
            metric, _, filtered = key.partition(",")
            if not filtered or metric.endswith("_stderr") or not isinstance(value, int | float):
                continue
            full = f"{name}/{_named(metric)}" + (f".{filtered}" if filtered != "none" else "")
            metrics[full] = float(value)
            if generated:
                unread = [_unread(sample) for sample in samples if sample["filter"] == filtered]
                metrics[full + PARSE_FAILURES] = float(np.mean(unread))
        measured[name] = Measured(metrics, _rows(leaves, evaluated["samples"]))
    return measured


def _leaves(group: str, parts: dict[str, list[str]]) -> list[str]:
    inside = [leaf for part in parts.get(group, []) for leaf in _leaves(part, parts)]
    return inside or [group]


def _named(metric: str) -> str:
    """Return a metric's name in letters that MLflow accepts too: pass@1 becomes pass_at_1."""
    return re.sub(r"[^\w.-]", "_", metric.replace("@", "_at_"))


def _unread(sample: _Sample) -> bool:
    """Return whether a filter found nothing in any answer of a sample."""
    kept = [text for answer in sample["filtered_resps"] for text in _texts(answer)]
    return all(not text.strip() or text in UNREAD for text in kept)


def _texts(answer: object) -> list[str]:
    return [str(part) for part in answer] if isinstance(answer, list) else [str(answer)]


def _values(sample: _Sample) -> dict[str, object]:
    by_key: Mapping[str, object] = sample
    return {metric: by_key[metric] for metric in sample["metrics"]}


def _rows(tasks: Sequence[str], samples: Mapping[str, list[_Sample]]) -> dict[str, Column]:
    """Return each sample of each filter as a row; what differs in type by task is kept as text."""
    rows = [(task, sample) for task in tasks for sample in samples[task]]
    return {
        "task": [task for task, _ in rows],
        "id": [str(sample["doc_id"]) for _, sample in rows],
        "filter": [sample["filter"] for _, sample in rows],
        "target": [str(sample["target"]) for _, sample in rows],
        "answer": [str(sample["resps"]) for _, sample in rows],
        "read": [str(sample["filtered_resps"]) for _, sample in rows],
        "metrics": [str(_values(sample)) for _, sample in rows],
    }
