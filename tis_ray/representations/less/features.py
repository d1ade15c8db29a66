"""The features of LESS: sketched LoRA gradients at the warm-up's checkpoints (Xia et al. 2024).

For checkpoint c, a pool row's feature is the step that Adam would take on it alone, and a query's is
its plain gradient; both are sketched with the same projection and scaled to length 1. Scores are the
sums of their dot products over checkpoints, weighted by learning rate (paper section 3).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING

import numpy as np
import torch
from transformers import PreTrainedModel

from tis_ray.batches import collate, needed_length, packs, plan_batches
from tis_ray.batches.out_of_memory import in_halves
from tis_ray.batches.threads import float32_products
from tis_ray.gradients import (
    PerExample,
    Sink,
    Sketch,
    checkpoint_seed,
    direction,
    learning_rate_weights,
    unit_rows,
    unusable_rows,
)
from tis_ray.models.loading import load_model
from tis_ray.models.lora import (
    load_adapter,
    trainable_parameters,
    with_adapter,
    without_wrapper,
)
from tis_ray.representations.less import Direction, LessSettings
from tis_ray.representations.spec import Build, Features
from tis_ray.settings import BatchConfig
from tis_ray.storage import Place
from tis_ray.training.checkpoints import Checkpoint, Moments

if TYPE_CHECKING:
    from tis_ray.data import StoredRow


def checkpoint_weights(steps: list[dict[str, float]]) -> np.ndarray:
    """Return each checkpoint's weight (C,), summing to 1, from the warm-up's log of steps."""
    return np.array(learning_rate_weights([(s["epoch"], s["learning_rate"]) for s in steps]))


class Gradients:
    """The model at its warm-up checkpoints, and the directions of rows there."""

    def __init__(
        self,
        base: PreTrainedModel,
        config: LessSettings,
        batch: BatchConfig,
        checkpoints: Sequence[Place],
    ) -> None:
        self.config, self.batch, self.device = config, batch, str(base.device)
        self.checkpoints = [Checkpoint(path) for path in checkpoints]
        self.model = with_adapter(base, self.checkpoints[0].adapter, trainable=True)
        self.adapters = [self._adapter(checkpoint) for checkpoint in self.checkpoints]
        # The float32 adapters of a half-precision base use TF32: what they read has fewer bits.
        half = base.dtype != torch.float32
        self.products = "high" if self.device != "cpu" and half else None
        self.packed = False
        self.moments = [
            self._moments(checkpoint) if config.needs_moments else ({}, {})
            for checkpoint in self.checkpoints
        ]

    def each_batch(
        self, rows: list[StoredRow], checkpoint: int, work: Callable[[list[int]], None]
    ) -> None:
        """Call `work` with the members (positions in `rows`) of every batch, at one checkpoint.

        A batch that runs out of memory is halved. The plan depends only on these rows, the model and
        the kind of device.
        """
        lengths = [needed_length(row, index) for index, row in enumerate(rows)]
        for name, weight in trainable_parameters(self.model).items():
            weight.data = self.adapters[checkpoint][name]
        self.passes = PerExample(self.model)
        longest = max(lengths, default=1)
        self.packed = packs(self.batch.packed, without_wrapper(self.model), longest, self.device)
        with float32_products(self.products):
            for members in plan_batches(
                lengths, self.batch.examples, self.batch.tokens, self.packed
            ):
                in_halves(members, work)

    def directions(
        self, examples: list[StoredRow], checkpoint: int, side: str, sink: Sink
    ) -> torch.Tensor:
        """Pass each parameter's directions (E, *shape) to `sink`; return the losses (E,)."""
        return self.gradients(
            examples,
            checkpoint,
            lambda name, block_E: sink(
                name, direction(self.kind(side), block_E, *self.moments_of(checkpoint, name))
            ),
        )

    def kind(self, side: str) -> Direction:
        """Return what stands for a row of this side."""
        return self.config.query_direction if side == "query" else self.config.pool_direction

    def moments_of(
        self, checkpoint: int, name: str
    ) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """Return Adam's moments of one parameter; None where there are none."""
        first, second = self.moments[checkpoint]
        return first.get(name), second.get(name)

    def gradients(self, examples: list[StoredRow], checkpoint: int, sink: Sink) -> torch.Tensor:
        """Pass each parameter's gradients (E, *shape) to `sink`; return the losses (E,)."""

        seeds = None
        if self.config.semantics == "paper":
            epoch = self.checkpoints[checkpoint].epoch
            seeds = [_dropout_seed(self.config.seed, epoch, row["input_ids"]) for row in examples]
        batch = collate(examples, packed=self.packed)
        return self.passes.backward(batch, sink, seeds)

    def _adapter(self, checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
        load_adapter(self.model, checkpoint.adapter)
        weights = trainable_parameters(self.model).items()
        return {name: weight.detach().clone() for name, weight in weights}

    def _moments(self, checkpoint: Checkpoint) -> Moments:
        first, second = (
            {name: tensor.to(self.device) for name, tensor in moments.items()}
            for moments in checkpoint.moments()
        )
        return first, second


def gradients(build: Build[LessSettings]) -> Gradients:
    """Return the model at its warm-up checkpoints."""
    base = load_model(build.model, build.device)
    return Gradients(base, build.settings, build.batch, build.checkpoints)


class Less:
    """Makes the features: sketched directions of length 1, one checkpoint after the other."""

    def __init__(self, gradients: Gradients) -> None:
        self.gradients = gradients
        sketch = gradients.config.sketch
        self.width = sketch.width
        self.sketches = [
            Sketch(
                sketch.width,
                checkpoint_seed(sketch.seed, checkpoint.epoch, sketch.shared_seed),
                sketch.kind,
            )
            for checkpoint in gradients.checkpoints
        ]

    def features(self, rows: list[StoredRow], side: str) -> Features:
        """Return unit gradient features (E, C, K), with each row's loss and gradient norm.

        The norm is the sketch's estimate, with a relative error of about 1 / sqrt(2 K).
        """
        shape = (len(rows), len(self.sketches))
        values_ECK = np.zeros((*shape, self.width), dtype=np.float32)
        losses_EC, norms_EC = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        unusable: dict[int, str] = {}
        for c in range(len(self.sketches)):
            sketch_EK, losses_E = self._sketched(rows, c, side)
            norms_EC[:, c] = torch.linalg.vector_norm(sketch_EK, dim=1).cpu().numpy()
            losses_EC[:, c] = losses_E.cpu().numpy()
            for position in unusable_rows(sketch_EK):
                unusable[position] = broken_reason(losses_E[position], sketch_EK[position])
                sketch_EK[position] = 1.0
            values_ECK[:, c] = unit_rows(sketch_EK).cpu().numpy()
        values_ECK[list(unusable)] = 0.0
        return Features(values_ECK, unusable, {"loss": losses_EC, "norm": norms_EC})

    def _sketched(
        self, rows: list[StoredRow], c: int, side: str
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the rows' sketched directions (E, K) and losses (E,), on the device.

        They stay there until all batches have been asked for, so that none waits for the one before.
        """
        sketch, found = self.sketches[c], self.gradients
        places: list[int] = []
        made: list[tuple[torch.Tensor, torch.Tensor]] = []

        def work(members: list[int]) -> None:
            total_EK = sketch.new(len(members), found.device)

            def add(name: str, block_E: torch.Tensor) -> None:
                moments = found.moments_of(c, name)
                sketch.add_direction(total_EK, name, block_E, found.kind(side), *moments)

            losses_E = found.gradients([rows[i] for i in members], c, add)
            made.append((sketch.finish(total_EK), losses_E))
            places.extend(members)

        found.each_batch(rows, c, work)
        sketch_EK, losses_E = (torch.cat(parts) for parts in zip(*made, strict=True))
        order_E = torch.tensor(places).argsort().to(sketch_EK.device)
        return sketch_EK[order_E], losses_E[order_E]


def _dropout_seed(seed: int, epoch: int, input_ids: Sequence[int]) -> int:
    """Return a row's seed at one checkpoint: a function of its tokens, wherever the row is."""
    text = f"{seed}|{epoch}|{','.join(map(str, input_ids))}"
    return int.from_bytes(blake2b(text.encode(), digest_size=4).digest())


def broken_reason(loss: torch.Tensor, direction_K: torch.Tensor) -> str:
    """Return why a row whose direction is zero or not finite cannot be used."""
    if not torch.isfinite(loss):
        return "non_finite_loss"
    return "zero_gradient" if torch.isfinite(direction_K).all() else "non_finite_gradient"
