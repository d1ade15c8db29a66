"""The fused direction and sketch against `direction` and `Sketch.add`, in Triton's interpreter and on a GPU."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from tis_ray.gradients import Sketch, direction, fused

pytest.importorskip("triton", reason="Triton has no wheel for this processor")

KINDS = ("sgd", "sign", "adam")
CASES = [(4, (3,)), (8, (5, 7)), (64, (1,)), (256, (33, 9)), (4096, (100, 200))]


def near(found: torch.Tensor, truth: torch.Tensor, error: float = 1e-6) -> bool:
    return bool((found - truth).norm() <= error * truth.norm())


def folded(device: str, width: int, shape: tuple[int, ...], kind: str, examples: int = 3):
    """Return the fused result and the reference for random input, and for its middle example alone."""
    made = torch.Generator().manual_seed(1)
    block = torch.randn(examples, *shape, generator=made)
    block[0].flatten()[0] = 0.0
    first = torch.randn(shape, generator=made) * 0.1
    second = torch.rand(shape, generator=made) * 0.01
    sketch = Sketch(width, seed=7)
    truth = sketch.new(examples)
    sketch.add(truth, "w", direction(kind, block, first, second))
    words = sketch._seed_words(0, "w", shape), sketch._seed_words(1, "w", shape)
    flat, *moments = (x.to(device) for x in (block.flatten(1), first, second))
    together, alone = sketch.new(examples, device), sketch.new(1, device)
    fused.fold(together, flat, kind, *moments, words)
    fused.fold(alone, flat[1:2].contiguous(), kind, *moments, words)
    poisoned = flat.clone()
    poisoned[0, 0] = float("nan")
    beside = sketch.new(examples, device)
    fused.fold(beside, poisoned, kind, *moments, words)
    return [x.cpu() for x in (together, truth, alone, beside)]


def check_all(device: str) -> None:
    for width, shape in CASES:
        for kind in KINDS:
            together, truth, alone, beside = folded(device, width, shape, kind)
            assert near(together, truth)
            # Neighbours change nothing, not even the last digit; NaN stays in its own row.
            assert torch.equal(alone[0], together[1])
            assert torch.equal(beside[1:], together[1:])
            assert torch.isnan(beside[0]).any()


def check_dense(device: str) -> None:
    made = torch.Generator().manual_seed(1)
    for width, count, examples in [(32, 5, 1), (100, 70, 3), (256, 300, 20), (64, 9000, 2)]:
        block = torch.randn(examples, count, generator=made)
        sketch = Sketch(width, seed=3, kind="rademacher")
        truth = sketch.new(examples)
        sketch.add(truth, "w", block)
        words = sketch._seed_words(0, "w", (count,))
        found, beside = sketch.new(examples, device), sketch.new(examples, device)
        fused.fold_dense(found, block.to(device), words)
        assert near(found.cpu(), truth, 5e-6)  # sums of thousands, in another order
        block[0, 0] = float("nan")
        fused.fold_dense(beside, block.to(device), words)
        assert torch.equal(beside[1:], found[1:])
        assert torch.isnan(beside[0]).all()


def test_the_kernel_equals_the_reference() -> None:
    """In a process of its own: Triton asks for its interpreter when a kernel is defined."""
    code = "from tests.gradients.test_fused import check_all, check_dense; "
    code += "check_all('cpu'); check_dense('cpu'); print('equal')"
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert done.stdout == "equal\n", done.stderr


def test_the_kernels_compile_for_a_hopper_gpu() -> None:
    """Triton compiles without a GPU; registers that do not suffice show as local memory."""
    from triton import compiler
    from triton.backends.compiler import GPUTarget

    rotation = dict.fromkeys(("grads", "first", "second", "partial"), "*fp32")
    rotation |= dict.fromkeys(("count", "sign0", "offset0", "sign1", "offset1"), "i32")
    rotation |= dict.fromkeys(("beta1", "rest1", "beta2", "rest2", "eps"), "fp32")
    dense = dict.fromkeys(("grads", "partial"), "*fp32")
    dense |= dict.fromkeys(("count", "examples", "width", "first", "second"), "i32")
    kernels = [
        (fused._fold_kernel, rotation, {"KIND": 2, "SLOTS": 4096, "TILE": 1024, "BLOCKS": 16}, 4),
        (fused._dense_kernel, dense, {"TOGETHER": 16, "TILE": 128, "STEP": 64, "ROWS": 8192}, 8),
    ]
    for kernel, types, constants, warps in kernels:
        signature = {name: types.get(name, "constexpr") for name in kernel.arg_names}
        source = compiler.ASTSource(kernel, signature, constants)
        made = compiler.compile(
            source, target=GPUTarget("cuda", 90, 32), options={"num_warps": warps}
        )
        assert ".local" not in made.asm["ptx"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_the_kernel_equals_the_reference() -> None:
    check_all("cuda")
    check_dense("cuda")
    made = torch.Generator().manual_seed(2)
    block, first = torch.randn(2, 300, 20, generator=made), torch.randn(300, 20, generator=made)
    second = torch.rand(300, 20, generator=made)
    sketch = Sketch(512, seed=3)
    truth, found = sketch.new(2), sketch.new(2, "cuda")
    sketch.add_direction(truth, "w", block, "adam", first, second)
    sketch.add_direction(found, "w", block.cuda(), "adam", first.cuda(), second.cuda())
    assert near(found.cpu(), truth)
