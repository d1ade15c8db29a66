"""Nothing in a batch looks at what a device has computed: on a GPU the host would have to wait for it.

Tensors on the `meta` device have shapes and no values, so whatever looks at a value there raises an error.
"""

from __future__ import annotations

import pytest
import torch
from transformers import masking_utils

from tis_ray.batches import collate, packing
from tis_ray.gradients import PerExample, Sketch


@pytest.mark.parametrize("packed", [False, True])
def test_a_batch_of_features_waits_for_nothing(
    lab, packed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = lab.build_model(target_modules="all-linear")
    examples = lab.random_examples(1, [9, 5, 12])
    batch = collate(examples, packed=packed)
    # What a run finds out once about a model is found out here, on the CPU.
    PerExample(model).backward(batch, lambda name, block: None)
    if packed:
        known = packing._checked[model.get_base_model()]
        known |= {("meta", dtype): longest for (_, dtype), longest in known.items()}
    # transformers looks at the positions once in each pass: the one wait of a batch.
    monkeypatch.setattr(masking_utils, "find_packed_sequence_indices", lambda _: None)
    model.to("meta")
    sketch, names = Sketch(64, seed=0), []
    total = sketch.new(3, "meta")

    def add(name: str, block: torch.Tensor) -> None:
        names.append(name)
        moment = torch.zeros(block.shape[1:], device="meta")
        sketch.add_direction(total, name, block, "adam", moment, moment)

    losses = PerExample(model).backward(batch, add)
    assert losses.shape == (3,)
    assert sorted(names) == sorted(n for n, p in model.named_parameters() if p.requires_grad)
