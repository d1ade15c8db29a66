"""LESS on a GPU beside its floors: `python -m benchmarks gpu --out DIR`, in some eight minutes.

Each part runs in a process of its own with a limit on its time, and writes `DIR/<part>.json` before
the next begins. Models have the shapes of real ones and random weights, so nothing is downloaded.
Without a GPU everything runs with tiny shapes, which shows that the script works and no more. It needs
neither Ray nor MLflow.

Floors and peers are measured in the same process: the largest rate of a bfloat16 matrix product, the
rate of a copy, and a plain forward and backward pass over the same batches.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

CUDA = "cuda"
LIMITS = {
    "machine": 60,
    "tests": 150,
    "equality": 90,
    "sketch": 60,
    "seven": 120,
    "one": 120,
    "paper": 60,
    "training": 90,
}
"""The parts, in order of worth, and the most seconds that each may take."""
PACKAGES = ("torch", "triton", "transformers", "peft", "liger-kernel")
PLAIN, LIGER = "as it is", "with liger-kernel"
KINDS = {
    "sketch": r"_fold_kernel|_partial_sums",
    "attention": r"flash|fmha|mha_",
    "matrix products": r"gemm|nvjet|cutlass|cublas|splitK|sm90_",
    "copies": r"Memcpy|Memset|direct_copy|CatArray",
    "indexing": r"index|gather|scatter|sort|Radix|nonzero|scan",
    "reductions": r"reduce|softmax|norm",
    "element by element": r"elementwise|triton_",
}
"""Kernels by what they do: the first pattern that their name has."""


@dataclass(frozen=True)
class Shape:
    """A model of the Llama family, and the rows that it gets."""

    name: str
    hidden: int
    inner: int
    layers: int
    heads: int
    key_heads: int
    vocabulary: int
    rank: int
    tokens: int
    rows: int

    @property
    def linear(self) -> int:
        """Weights of the linear modules in the layers."""
        keys = self.hidden * self.key_heads // self.heads
        attention = 2 * self.hidden * (self.hidden + keys)
        return self.layers * (attention + 3 * self.hidden * self.inner)

    @property
    def adapter(self) -> int:
        """Weights of adapters on q, k, v and o."""
        keys = self.hidden * self.key_heads // self.heads
        return self.layers * self.rank * (4 * self.hidden + 2 * (self.hidden + keys))

    def operations(self, tokens: int, labels: int) -> float:
        """Fewest operations of one row's gradient: base layers there and back, adapters thrice."""
        attention = 3.5 * 2 * tokens**2 * self.hidden * self.layers
        head = 4.0 * self.hidden * self.vocabulary * labels
        return tokens * (4.0 * self.linear + 6.0 * self.adapter) + attention + head


SEVEN = Shape("Llama-2-7B", 4096, 11008, 32, 32, 32, 32000, 128, 512, 48)
ONE = Shape("Llama-3.2-1B", 2048, 8192, 16, 32, 8, 128256, 128, 128, 512)
TINY = Shape("tiny", 64, 128, 2, 4, 2, 512, 4, 24, 8)


def on_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


# --- parts ----------------------------------------------------------------------------------


def machine() -> dict[str, Any]:
    """The device, versions, and the two ceilings."""
    import torch

    found: dict[str, Any] = {"versions": {name: _version(name) for name in PACKAGES}}
    found["python"], found["cores"] = platform.python_version(), os.cpu_count()
    device = CUDA if on_gpu() else "cpu"
    found["device"] = torch.cuda.get_device_name() if on_gpu() else "cpu"
    size, elements = (8192, 2**30) if on_gpu() else (256, 2**20)
    a, b = (torch.randn(size, size, device=device).bfloat16() for _ in range(2))
    found["matmul_tflops"] = 2 * size**3 / timed(lambda: a @ b, 20) / 1e12
    source = torch.randn(elements, device=device)
    target = torch.empty_like(source)
    found["copy_tb_s"] = 8 * elements / timed(lambda: target.copy_(source), 20) / 1e12
    return found


def tests() -> dict[str, Any]:
    """The tests that are marked `gpu`."""
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "-p", "no:cacheprovider"]
    places = ["tests/batches", "tests/gradients", "tests/representations/test_less.py"]
    done = subprocess.run([*command, *places], capture_output=True, text=True)
    print(done.stdout[-6000:], done.stderr[-2000:])
    return {"exit": done.returncode, "last": (done.stdout.strip().splitlines() or [""])[-1]}


def equality() -> dict[str, Any]:
    """CPU against GPU on the shipped model: features, scores and orderings."""
    import numpy as np
    import torch

    from benchmarks.lab import checkpoint, encoded
    from tis_ray.data import builtin
    from tis_ray.models.loading import load_model
    from tis_ray.representations.less import LessSettings
    from tis_ray.representations.less.features import Gradients, Less
    from tis_ray.selectors import select
    from tis_ray.settings import BatchConfig, ModelConfig

    torch.set_num_threads(os.cpu_count() or 1)
    exact, half = ModelConfig(), ModelConfig(dtype="bfloat16")
    rows = encoded(exact, builtin.pool_rows(512 if on_gpu() else 32, seed=0))
    queries = encoded(exact, builtin.pool_rows(16, seed=9))
    device = CUDA if on_gpu() else "cpu"
    found: dict[str, Any] = {}
    with checkpoint(exact) as path:
        made = {}
        for name, config, place in (
            ("cpu", exact, "cpu"),
            ("gpu", exact, device),
            ("gpu bfloat16", half, device),
        ):
            less = Less(Gradients(load_model(config, place), LessSettings(), BatchConfig(), [path]))
            pool, asked = less.features(rows, "pool"), less.features(queries, "query")
            made[name] = pool.values_ECK[:, 0], asked.values_ECK[:, 0]
    picks = min(100, len(rows))
    truth = made["cpu"][1] @ made["cpu"][0].T
    picked = {}
    for name, (pool_EK, asked_MK) in made.items():
        scores_MN = asked_MK @ pool_EK.T
        picked[name] = [int(i) for i in select(scores_MN, "round_robin", picks).indices]
        if name != "cpu":
            cosines = (pool_EK * made["cpu"][0]).sum(axis=1)
            common = len(set(picked[name]) & set(picked["cpu"]))
            found[name] = {
                "least cosine of a feature": float(cosines.min()),
                "median cosine of a feature": float(np.median(cosines)),
                "largest difference of a score": float(np.abs(scores_MN - truth).max()),
                "spread of scores": float(truth.std()),
                "same of 100 picks": common,
                "same ordering": picked[name] == picked["cpu"],
            }
    return found


def sketch() -> dict[str, Any]:
    """Adam's direction and the sketch of one adapter matrix of 7B, as bytes a second."""
    import torch

    from tis_ray.gradients import Sketch

    device = CUDA if on_gpu() else "cpu"
    shape, examples = ((4096, 128), 8) if on_gpu() else ((64, 4), 2)
    block = torch.randn(examples, *shape, device=device)
    first, second = torch.randn(shape, device=device), torch.rand(shape, device=device)
    made = Sketch(8192, seed=0)
    total = made.new(examples, device)
    seconds = timed(lambda: _sketched(made, total, block, first, second), 50)
    copy = timed(lambda: block.clone(), 50)
    return {
        "ms_a_block": 1e3 * seconds,
        "bytes_a_block": block.nbytes,
        "times_a_copy_of_it": seconds / copy,
    }


def _sketched(made: Any, total: Any, block: Any, first: Any, second: Any) -> None:
    if hasattr(made, "add_direction"):
        made.add_direction(total, "w", block, "adam", first, second)
    else:
        from tis_ray.gradients import direction

        made.add(total, "w", direction("adam", block, first, second))


def seven() -> dict[str, Any]:
    """Features at the shape of Llama-2-7B, r 128, 512 tokens."""
    return _features(SEVEN if on_gpu() else TINY, (4096, 12288, 32768), varied=False)


def one() -> dict[str, Any]:
    """Features at the shape of Llama-3.2-1B, 128 tokens; and rows of 16 to 240 tokens."""
    return _features(ONE if on_gpu() else TINY, (4096, 16384), varied=True)


def paper() -> dict[str, Any]:
    """The paper's dense projection: seconds a batch for a part of the weights, and for all of 7B's."""
    import torch

    from tis_ray.gradients import Sketch

    device = CUDA if on_gpu() else "cpu"
    count, width, examples = (2**20, 8192, 8) if on_gpu() else (2**10, 64, 2)
    block = torch.randn(examples, count, device=device)
    made = Sketch(width, seed=0, kind="rademacher")
    total = made.new(examples, device)
    seconds = timed(lambda: made.add(total, "w", block), 3)
    whole = seconds * SEVEN.adapter / count
    return {
        "seconds_for_2^20_weights": seconds,
        "seconds_a_batch_at_7B": whole,
        "signs_a_second": count * width / seconds,
    }


def training() -> dict[str, Any]:
    """Tokens a second of fine-tuning and of greedy generation at the shape of Llama-3.2-1B."""
    import torch

    from tis_ray.evaluation.generation import generate
    from tis_ray.models.loading import load_tokenizer
    from tis_ray.models.lora import attach_lora
    from tis_ray.settings import LoraConfig, ModelConfig, TrainingConfig
    from tis_ray.training.loop import train

    tokenizer = load_tokenizer(ModelConfig())
    shape = ONE if on_gpu() else TINY
    base = random_model(shape, vocabulary=len(tokenizer))
    model = attach_lora(base, LoraConfig(rank=shape.rank, alpha=4.0 * shape.rank), seed=0)
    count, long, new = (256, 256, 64) if on_gpu() else (8, 16, 4)
    rows = random_rows(count, [long] * count, len(tokenizer))
    settings = TrainingConfig(epochs=1, batch_size=16, learning_rate=1e-5)
    found: dict[str, Any] = {}
    for name in ("first", "second"):  # the first finds its kernels
        with tempfile.TemporaryDirectory() as folder:
            start = clock()
            train(model, rows, settings, seed=0, folder=folder)
            found[f"training_tokens_s_{name}"] = count * long / (clock() - start)
    prompts = [row["input_ids"][: long // 2] for row in rows[:64]]
    for name in ("first", "second"):
        start = clock()
        made = generate(model, tokenizer, prompts, new, 64, ends=[0])
        found[f"generated_tokens_s_{name}"] = len(made) * new / (clock() - start)
    found["memory_gb"] = _peak()
    if on_gpu():
        torch.cuda.empty_cache()
    return found


# --- what they share ------------------------------------------------------------------------


def _features(shape: Shape, budgets: Sequence[int], varied: bool) -> dict[str, Any]:
    import torch

    from benchmarks.features import logits_at_labels
    from tis_ray.batches import collate, needed_length, packing, packs, plan_batches
    from tis_ray.models.lora import without_wrapper
    from tis_ray.representations.less import LessSettings
    from tis_ray.representations.less.features import Gradients, Less
    from tis_ray.settings import BatchConfig, LoraConfig

    ceiling = _ceiling()
    found: dict[str, Any] = {"shape": shape.name, "ceiling_tflops": ceiling / 1e12}
    found["varlen_attn"] = packing._HAS_VARLEN
    settings = LessSettings(lora=LoraConfig(rank=shape.rank, alpha=4.0 * shape.rank))
    start = clock()
    base = random_model(shape)
    lengths = {"equal": [shape.tokens] * shape.rows}
    if varied:
        lengths["varied"] = [16 + (i * 97) % (2 * shape.tokens - 32) for i in range(shape.rows)]
    with checkpoint_of(base, settings.lora) as path:
        found["set_up_s"] = clock() - start
        variants = [PLAIN, LIGER] if on_gpu() and _version("liger-kernel")[0].isdigit() else [PLAIN]
        for variant in variants:
            _change(base, variant)
            for tokens in budgets if variant == variants[0] else budgets[1:2]:
                for kind, wanted in lengths.items():
                    rows = random_rows(shape.rows, wanted, shape.vocabulary)
                    less = Less(Gradients(base, settings, BatchConfig(tokens=tokens), [path]))
                    model = less.gradients.model
                    longest = max(wanted)
                    packed = packs(None, without_wrapper(model), longest, less.gradients.device)
                    plan = plan_batches([needed_length(r) for r in rows], None, tokens, packed)
                    batches = [collate([rows[i] for i in m], packed=packed) for m in plan]

                    def plain(model: Any = model, batches: Any = batches) -> None:
                        for batch in batches:
                            logits_at_labels(model, batch.to(base.device))

                    def features(less: Any = less, rows: Any = rows) -> None:
                        less.features(rows, "pool")

                    works = {"features": features}
                    if tokens == budgets[0] or variant != variants[0]:
                        works["plain"] = plain
                    work = sum(shape.operations(n, n // 2) for n in wanted)
                    for name, call in works.items():
                        _reset_peak()
                        call()
                        seconds = statistics.median(_once(call) for _ in range(2))
                        key = f"{variant}: {name} {kind} {tokens}"
                        found[key] = {
                            "rows_s": shape.rows / seconds,
                            "ms_a_row": 1e3 * seconds / shape.rows,
                            "share_of_ceiling": work / seconds / ceiling,
                            "memory_gb": _peak(),
                        }
                        print(key, found[key], flush=True)
                    if on_gpu() and (tokens == budgets[0] or variant != variants[0]):
                        few = [rows[i] for i in plan[-1]]
                        key = f"{variant}: profile {kind} {tokens}"
                        found[key] = profiled(lambda: features(rows=few), len(few), 1)  # noqa: B023
                        print(key, json.dumps(found[key], indent=1), flush=True)
                    model.zero_grad()
                    model.unload()
                    del less, model
                    if on_gpu():
                        torch.cuda.empty_cache()
    return found


def _change(base: Any, variant: str) -> None:
    """Put Liger's kernels into a model's norms, rotary embeddings and feed-forward layers."""
    if variant == LIGER:
        from liger_kernel.transformers.monkey_patch import _apply_liger_kernel_to_instance

        off = {"cross_entropy": False, "fused_linear_cross_entropy": False}
        _apply_liger_kernel_to_instance(base, rope=True, rms_norm=True, swiglu=True, **off)


def random_model(shape: Shape, vocabulary: int | None = None) -> Any:
    """Return a frozen model of this shape with random weights, in bfloat16 on a GPU."""
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig

    config = LlamaConfig(
        hidden_size=shape.hidden,
        intermediate_size=shape.inner,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_heads,
        vocab_size=vocabulary or shape.vocabulary,
        max_position_embeddings=4096,
    )
    torch.manual_seed(0)
    with torch.device(CUDA if on_gpu() else "cpu"):
        model = AutoModelForCausalLM.from_config(
            config, dtype=torch.bfloat16 if on_gpu() else torch.float32
        )
    return model.requires_grad_(False).eval()


def random_rows(count: int, lengths: Sequence[int], vocabulary: int) -> list[dict[str, Any]]:
    """Return rows of random tokens, the second half of each being labels."""
    import torch

    made = torch.Generator().manual_seed(0)
    rows = []
    for length in lengths[:count]:
        ids = torch.randint(1, vocabulary, (length + 1,), generator=made).tolist()
        masked = length - length // 2
        rows.append({"input_ids": ids, "labels": [-100] * (masked + 1) + ids[masked + 1 :]})
    return rows


@contextmanager
def checkpoint_of(base: Any, lora: Any) -> Iterator[Path]:
    """Yield a checkpoint of random adapters and moments; `base` is as it was afterwards."""
    import torch
    from safetensors.torch import save_file

    from tis_ray.models.lora import attach_lora, save_adapter, trainable_parameters

    model = attach_lora(base, lora, seed=0)
    moments = {}
    for name, weight in trainable_parameters(model).items():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.01)
        moments[f"exp_avg/{name}"] = torch.randn_like(weight).mul_(1e-4).cpu()
        moments[f"exp_avg_sq/{name}"] = torch.rand_like(weight).mul_(1e-7).cpu()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "epoch-1"
        path.mkdir()
        save_adapter(model, path / "adapter")
        save_file(moments, path / "moments.safetensors")
        (path / "steps.json").write_text('[{"epoch": 1.0, "learning_rate": 1e-5}]')
        model.unload()
        yield path


def profiled(call: Callable[[], None], rows: int, batches: int) -> dict[str, Any]:
    """Return GPU milliseconds a row by kind of kernel, the GPU's idle share, and syncs a batch."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as recorded:
        start = clock()
        call()
        wall = clock() - start
    spent: Counter[str] = Counter()
    launches, syncs = 0, 0
    names: Counter[str] = Counter()
    for event in recorded.key_averages():
        device_us = event.self_device_time_total
        if str(event.device_type).endswith("CUDA"):
            kind = next((k for k, p in KINDS.items() if re.search(p, event.key)), "other")
            spent[kind] += device_us / 1e3 / rows
            names[event.key[:110]] += device_us / 1e3 / rows
            launches += event.count
        elif "Synchronize" in event.key:
            syncs += event.count
    return {
        "ms_a_row": {kind: round(ms, 3) for kind, ms in spent.most_common()},
        "busy_share": sum(spent.values()) * rows / 1e3 / wall,
        "kernels_a_batch": launches / batches,
        "syncs_a_batch": syncs / batches,
        "largest": {name: round(ms, 3) for name, ms in names.most_common(40)},
    }


def clock() -> float:
    """Seconds, after all that was asked of the GPU is done."""
    import torch

    if on_gpu():
        torch.cuda.synchronize()
    return time.perf_counter()


def timed(call: Callable[[], Any], times: int) -> float:
    """Return the seconds of one call, the mean over `times` of them after two."""
    call()
    call()
    start = clock()
    for _ in range(times):
        call()
    return (clock() - start) / times


def _once(call: Callable[[], None]) -> float:
    start = clock()
    call()
    return clock() - start


def _ceiling() -> float:
    """Return the measured operations a second of a large bfloat16 matrix product."""
    import torch

    size = 8192 if on_gpu() else 256
    device = CUDA if on_gpu() else "cpu"
    a, b = (torch.randn(size, size, device=device).bfloat16() for _ in range(2))
    return 2 * size**3 / timed(lambda: a @ b, 20)


def _reset_peak() -> None:
    import torch

    if on_gpu():
        torch.cuda.reset_peak_memory_stats()


def _peak() -> float:
    import torch

    return torch.cuda.max_memory_allocated() / 1e9 if on_gpu() else 0.0


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


# --- the whole ------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks gpu", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"))
    parser.add_argument("--parts", default=",".join(LIMITS), help="some of them, by name")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    if options.one:
        _run_one(options.one, options.out)
        return
    for part in options.parts.split(","):
        start = time.monotonic()
        print(f"\n{part}: {globals()[part].__doc__}", flush=True)
        command = [sys.executable, "-m", "benchmarks.gpu", "--one", part, "--out", str(options.out)]
        try:
            done = subprocess.run(command, timeout=LIMITS[part])
            ended = "" if done.returncode == 0 else f"FAILED with code {done.returncode}"
        except subprocess.TimeoutExpired:
            ended = f"stopped: more than {LIMITS[part]} s"
        print(f"{part}: {ended or 'done'} in {time.monotonic() - start:.0f} s", flush=True)


def _run_one(part: str, out: Path) -> None:
    from benchmarks.lab import quiet

    quiet()
    found = globals()[part]()
    text = json.dumps(found, indent=1)
    (out / f"{part}.json").write_text(text + "\n")
    print(text, flush=True)


if __name__ == "__main__":
    main()
