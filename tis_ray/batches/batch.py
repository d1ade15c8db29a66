"""Batches: which examples share a pass, and the token arrays of one batch.

The plan is a pure function of the lengths in one shard, so a shard gives the same batches on any
worker, however often it restarts. Shapes: E examples in a batch, T tokens of its longest one; in a
packed batch, one row of R tokens.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import TypedDict

import torch
from torch import Tensor

from tis_ray.batches.seen import seen
from tis_ray.batches.segments import Segments, moved_to
from tis_ray.errors import InputError

IGNORED = -100
"""Label of a token that carries no loss (the value `transformers` and `torch` use)."""


class TokenLists(TypedDict):
    """The tokens and labels of one example; a row with further keys is one too."""

    input_ids: list[int]
    labels: list[int]


Example = Mapping[str, Sequence[int]] | TokenLists
"""One encoded example: `input_ids` and `labels` of the same length, -100 where a label is masked."""


@dataclass(frozen=True)
class Batch:
    """Token arrays of a few examples: padded on the right, or packed end to end into one row.

    input_ids: (E, T) int64, or (1, R) packed. An example stops before its last label: in a causal
        model no later token can reach the loss, so leaving them out changes nothing and saves work.
    targets: shaped as input_ids, the label that a position predicts (the next token's), or -100.
    lengths: tokens of each example as a whole, those left out of the batch included.
    segments: which tokens of a packed row belong to which example; None if the batch is padded.
    """

    input_ids: Tensor
    targets: Tensor
    lengths: tuple[int, ...]
    segments: Segments | None = None

    @property
    def examples(self) -> int:
        """Number of examples."""
        return len(self.lengths)

    @property
    def inputs(self) -> dict[str, Tensor]:
        """What a model is called with: input_ids and, if packed, each token's place in its example."""
        if self.segments is None:
            return {"input_ids": self.input_ids}
        return {"input_ids": self.input_ids, "position_ids": self.segments.positions_R[None]}

    @cached_property
    def label_counts(self) -> Tensor:
        """Number of label tokens of each example, (E,) int64, at least 1."""
        labelled = self.targets != IGNORED
        if self.segments is None:
            return labelled.sum(dim=1)
        owners_R = self.segments.examples_R
        return owners_R.new_zeros(self.examples).index_add_(0, owners_R, labelled[0].long())

    @cached_property
    def label_places(self) -> tuple[Tensor, Tensor]:
        """Rows and columns of the positions that predict a label, (labels,) int64 each, row by row."""
        rows, columns = (self.targets != IGNORED).nonzero(as_tuple=True)
        return rows, columns

    @cached_property
    def label_columns(self) -> Tensor:
        """Positions that predict a label, (E, most labels) int64: an example's own, then others."""
        if self.segments is not None and self.label_segments is not None:
            own_R = self.segments.positions_R[self.label_places[1]]
            return self.label_segments.by_example(own_R)
        unlabelled_ET = (self.targets == IGNORED).to(torch.int8)
        most = int(self.label_counts.max())
        return torch.argsort(unlabelled_ET, dim=1, stable=True)[:, :most]

    @cached_property
    def label_segments(self) -> Segments | None:
        """The segments of a packed batch at the output head, which sees only label positions."""
        if self.segments is None:
            return None
        return Segments.of(self.label_counts.tolist(), self.targets.device)

    def to(self, device: torch.device | str) -> "Batch":
        """Return the same batch on another device."""
        device = torch.device(device)
        if device == self.input_ids.device:
            return self
        segments = None if self.segments is None else self.segments.to(device)
        moved = Batch(
            moved_to(self.input_ids, device), moved_to(self.targets, device), self.lengths, segments
        )
        # Where the labels are decides shapes. It is known on the host, and asking a GPU would mean to
        # wait for all that it has been given before.
        of_labels = self.label_segments
        vars(moved).update(
            label_counts=moved_to(self.label_counts, device),
            label_places=tuple(moved_to(places, device) for places in self.label_places),
            label_columns=moved_to(self.label_columns, device),
            label_segments=None if of_labels is None else of_labels.to(device),
        )
        return moved


def needed_length(example: Example, index: int = 0) -> int:
    """Return how many leading tokens of an example its loss depends on, at least 1.

    Raises InputError, naming the example by `index`, if its two lists differ in length or if no
    label enters the causal loss (the label of the first token never does).
    """
    input_ids, labels = example["input_ids"], example["labels"]
    if len(input_ids) != len(labels):
        raise InputError(
            f"example {index}: {len(input_ids)} input_ids but {len(labels)} labels; "
            "give one label for each token (-100 where masked)"
        )
    for last in range(len(labels) - 1, 0, -1):
        if labels[last] != IGNORED:
            return last
    raise InputError(
        f"example {index}: no label token enters the loss (all are -100, or only the first token "
        "has one); drop the example or raise max_length"
    )


def collate(examples: Sequence[Example], pad_id: int | None = None, packed: bool = False) -> Batch:
    """Pad examples on the right to the longest of them, or pack them.

    A short example is filled up with its own first token unless `pad_id` is given. No position
    attends to a later one and padding has no label, so the fill never reaches a loss; taking it
    from the example itself also keeps a broken embedding of the pad token out of good examples
    (a masked attention weight is 0, but 0 times NaN is NaN).

    packed: lay the examples end to end in one row, where no token is padding. This pays on a GPU;
        `check_packing` says whether a model can keep them apart there.

    Raises InputError as `needed_length` does, or if there are no examples.
    """
    if not examples:
        raise InputError("batch: there are no examples; give at least one")
    lengths = [needed_length(example, index) for index, example in enumerate(examples)]
    longest = max(lengths)
    seen.tokens += sum(lengths)
    ids, targets = [], []
    for example, length in zip(examples, lengths, strict=True):
        own = list(example["input_ids"][:length])
        fill = own[0] if pad_id is None else pad_id
        missing = 0 if packed else longest - length
        ids.append(own + [fill] * missing)
        targets.append(list(example["labels"][1 : length + 1]) + [IGNORED] * missing)
    if packed:
        ids, targets = [list(chain(*ids))], [list(chain(*targets))]
    return Batch(
        torch.tensor(ids, dtype=torch.int64),
        torch.tensor(targets, dtype=torch.int64),
        tuple(len(example["input_ids"]) for example in examples),
        Segments.of(lengths) if packed else None,
    )


def plan_batches(
    lengths: Sequence[int],
    batch_size: int | None = None,
    token_budget: int = 2048,
    packed: bool = False,
) -> list[list[int]]:
    """Group examples of similar length; return indices into `lengths`, each exactly once.

    Examples are taken by (length, index), and a batch is closed when one more would make
    `longest x count` exceed `token_budget` (tokens, padding included) or `count` exceed
    `batch_size`. An example longer than the budget forms a batch of its own. Packed batches have no
    padding: there, the sum of the lengths must not exceed the budget.

    Raises InputError if a length, `batch_size` or `token_budget` is below 1.
    """
    if batch_size is not None and batch_size < 1:
        raise InputError(f"batch_size is {batch_size}; it must be at least 1, or None for no limit")
    if token_budget < 1:
        raise InputError(f"token_budget is {token_budget}; it must be at least 1 token")
    order = sorted(range(len(lengths)), key=lambda index: (lengths[index], index))
    if order and lengths[order[0]] < 1:
        raise InputError(f"example {order[0]} has length {lengths[order[0]]}; lengths start at 1")
    batches: list[list[int]] = []
    current: list[int] = []
    tokens = 0
    for index in order:
        # In ascending order each new example is the longest so far, so it sets the padded width.
        length, count = lengths[index], len(current) + 1
        tokens = tokens + length if packed else length * count
        if not current or tokens > token_budget or len(current) == batch_size:
            current, tokens = [], length
            batches.append(current)
        current.append(index)
    return batches
