"""The bounds of examples laid end to end in one tensor: which of its rows belong to which example.

A packed batch is such a tensor at every layer, and another one at the output head, which sees only
label positions. Shapes: E examples, R rows of all of them, L rows of the longest.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


def moved_to(tensor: Tensor, device: torch.device | str) -> Tensor:
    """Return a tensor on a device; on its way to a GPU nothing waits for what that is doing."""
    if torch.device(device).type != "cuda" or tensor.is_cuda:
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


@dataclass(frozen=True)
class Segments:
    """The rows of each example are consecutive, and the examples follow each other without a gap.

    lengths: number of rows of each example, at least 1; on the host, so that shapes are known
        without waiting for a kernel.
    cu_seqlens: (E + 1,) int32, the same as bounds: example e has the rows cu_seqlens[e] up to
        cu_seqlens[e + 1]. (The name is that of attention kernels for packed rows.)
    examples_R, positions_R: int64, the example that a row belongs to, and which of its rows it is.
    """

    lengths: tuple[int, ...]
    cu_seqlens: Tensor
    examples_R: Tensor
    positions_R: Tensor

    @classmethod
    def of(cls, lengths: Sequence[int], device: torch.device | str = "cpu") -> "Segments":
        """Return the segments of examples of these lengths."""
        lengths_E = torch.tensor(lengths, dtype=torch.int64)
        ends_E = lengths_E.cumsum(0)
        examples_R = torch.repeat_interleave(lengths_E)
        positions_R = torch.arange(len(examples_R)) - (ends_E - lengths_E)[examples_R]
        cu_seqlens = torch.cat([ends_E.new_zeros(1), ends_E]).to(torch.int32)
        return cls(tuple(lengths), cu_seqlens, examples_R, positions_R).to(device)

    @property
    def rows(self) -> int:
        """Number of rows of all examples."""
        return len(self.examples_R)

    @property
    def longest(self) -> int:
        """Number of rows of the longest example."""
        return max(self.lengths)

    def to(self, device: torch.device | str) -> "Segments":
        """Return the same segments on another device."""
        tensors = (self.cu_seqlens, self.examples_R, self.positions_R)
        return Segments(self.lengths, *(moved_to(tensor, device) for tensor in tensors))

    def by_example(self, rows_R_: Tensor) -> Tensor:
        """Give each example its own block, with zeros after its end: (R, ...) to (E, L, ...)."""
        shape = (len(self.lengths), self.longest, *rows_R_.shape[1:])
        if self.rows == shape[0] * shape[1]:
            return rows_R_.reshape(shape)
        padded_EL_ = rows_R_.new_zeros(shape)
        padded_EL_[self.examples_R, self.positions_R] = rows_R_
        return padded_EL_

    def end_to_end(self, padded_EL_: Tensor) -> Tensor:
        """Undo `by_example`: (E, L, ...) to (R, ...)."""
        if self.rows == padded_EL_.shape[0] * padded_EL_.shape[1]:
            return padded_EL_.flatten(0, 1)
        return padded_EL_[self.examples_R, self.positions_R]
