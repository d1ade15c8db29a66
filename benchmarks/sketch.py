"""The sketch alone against TRAK's BasicProjector (`traker`), on random vectors.

The peer draws P x 8192 signs for every batch it projects and multiplies by them; the sketch adds
each number to two slots. Its signs are drawn once for each parameter and kept, so that is what a
batch costs; the first batch, which draws them, is printed too.
"""

from __future__ import annotations

import time

import torch
from trak.projectors import BasicProjector

from benchmarks.lab import machine, quiet
from benchmarks.timing import interleaved, seconds, verdict
from tis_ray.gradients import Sketch

PARAMETERS, WIDTH, EXAMPLES = 2**18, 8192, 8
BLOCK = 128  # columns of the peer's matrix that exist at once, as in the reference
OURS_TIMES = 50  # runs of ours in one measurement: one takes milliseconds
REPEATS = 3
TARGET = ">= 5000"


def main() -> None:
    quiet()
    torch.set_num_threads(1)
    print(f"  CPU seconds; {machine()}")
    vectors_EP = torch.randn(EXAMPLES, PARAMETERS, generator=torch.Generator().manual_seed(0))
    projector = BasicProjector(
        grad_dim=PARAMETERS,
        proj_dim=WIDTH,
        seed=0,
        proj_type="rademacher",
        device="cpu",
        block_size=BLOCK,
    )
    ours = Sketch(WIDTH, seed=0)

    def sketched() -> torch.Tensor:
        accumulator_EK = ours.new(EXAMPLES)
        ours.add(accumulator_EK, "weight", vectors_EP)
        return ours.finish(accumulator_EK)

    start = time.process_time()
    found_EK = sketched()
    first = time.process_time() - start
    _check(vectors_EP, found_EK)
    works = {
        "peer": lambda: projector.project(vectors_EP, model_id=0),
        "ours": lambda: [sketched() for _ in range(OURS_TIMES)],
    }
    times = interleaved(works, REPEATS)
    print(
        f"  {EXAMPLES} vectors of {PARAMETERS:,} numbers to {WIDTH:,}; {REPEATS} interleaved "
        f"repeats, ours {OURS_TIMES} times in each; the first batch of ours took {seconds(first)}"
    )
    one = [t / OURS_TIMES for t in times["ours"]]
    verdict("BasicProjector ÷ sketch, one batch", times["peer"], one, TARGET)


def _check(vectors_EP: torch.Tensor, found_EK: torch.Tensor) -> None:
    """The sketch keeps lengths, or its speed means nothing."""
    ratio_E = found_EK.norm(dim=1) / vectors_EP.norm(dim=1)
    assert ((ratio_E - 1).abs() < 6 / (2 * WIDTH) ** 0.5).all(), f"lengths change by {ratio_E}"


if __name__ == "__main__":
    main()
