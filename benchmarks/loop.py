"""LESS features against the reference's loop, which takes one example at a time.

The peer does, step by step, what the LESS repositories do: `loss.backward()` on one example, all
gradients in one vector, the Adam direction from the moments in one vector, and every eighth example
TRAK's projector, which draws its matrix again each time. Their GPU projector has no CPU version,
so on a CPU they use the BasicProjector of the same package (`traker`), as here; in float32, which a
CPU multiplies faster than the reference's float16. It takes seconds an example, so it gets a few,
and both times are divided by the number of examples.
"""

from __future__ import annotations

import statistics

import torch
from trak.projectors import BasicProjector

from benchmarks.lab import Lab, lab, machine, quiet
from benchmarks.timing import interleaved, seconds, verdict
from tis_ray.data import builtin
from tis_ray.models.lora import trainable_parameters
from tis_ray.settings import ModelConfig

ROWS, PEER_ROWS = 256, 8
TOGETHER = 8  # examples projected at once, as in the reference
BLOCK = 128  # columns of its matrix that exist at once, as in the reference
REPEATS = 3
TARGET = ">= 100"


class Reference:
    """The reference's loop over one example after the other."""

    def __init__(self, lab: Lab) -> None:
        self.model = lab.model
        names = list(trainable_parameters(self.model))
        self.first, self.second = (
            torch.cat([moment[name].flatten() for name in names]) for moment in lab.moments
        )
        self.projector = BasicProjector(
            grad_dim=self.first.numel(),
            proj_dim=lab.less.width,
            seed=0,
            proj_type="rademacher",
            device="cpu",
            block_size=BLOCK,
            dtype=torch.float32,
        )

    def features(self, rows: list[dict[str, list[int]]]) -> torch.Tensor:
        found, waiting = [], []
        for row in rows:
            waiting.append(self.direction(row))
            if len(waiting) == TOGETHER:
                found.append(self.projector.project(torch.stack(waiting), model_id=0))
                waiting = []
        if waiting:
            found.append(self.projector.project(torch.stack(waiting), model_id=0))
        return torch.nn.functional.normalize(torch.cat(found), dim=1)

    def direction(self, row: dict[str, list[int]]) -> torch.Tensor:
        ids, labels = torch.tensor([row["input_ids"]]), torch.tensor([row["labels"]])
        self.model(input_ids=ids, labels=labels, use_cache=False).loss.backward()
        parameters = trainable_parameters(self.model).values()
        grads = torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])
        average = 0.9 * self.first + 0.1 * grads
        square = 0.999 * self.second + 0.001 * grads**2
        self.model.zero_grad()
        return average / torch.sqrt(square + 1e-8)


def main() -> None:
    quiet()
    torch.set_num_threads(1)
    print(f"  CPU seconds; {machine()}")
    with lab("built-in model", ModelConfig(), builtin.pool_rows(ROWS, seed=0)) as found:
        few = found.rows[:PEER_ROWS]
        reference = Reference(found)
        _check(reference, found)
        works = {
            "peer": lambda: reference.features(few),
            "ours": lambda: found.less.features(found.rows, "pool"),
            "passes": lambda: [reference.direction(row) for row in few],
        }
        times = interleaved(works, REPEATS)
        print(
            f"  {found.describe()}; {REPEATS} interleaved repeats; the peer runs {PEER_ROWS} of the "
            "rows, so seconds are those of one example"
        )
        peer, passes = ([t / PEER_ROWS for t in times[name]] for name in ("peer", "passes"))
        print(f"  of the peer's, passes and directions: {seconds(statistics.median(passes))}")
        verdict(
            "one example at a time with TRAK's BasicProjector ÷ features",
            peer,
            [t / ROWS for t in times["ours"]],
            TARGET,
        )


def _check(reference: Reference, found: Lab) -> None:
    """Both sides must feature the same thing: cosines agree to the noise of two sketches."""
    few = found.rows[:PEER_ROWS]
    mine_EK = torch.from_numpy(found.less.features(few, "pool").values_ECK[:, 0])
    theirs_EK = reference.features(few)
    apart = (mine_EK @ mine_EK.T - theirs_EK @ theirs_EK.T).abs().max()
    assert apart < 6 * (2 / found.less.width) ** 0.5, f"cosines differ by {apart:.3f}"


if __name__ == "__main__":
    main()
