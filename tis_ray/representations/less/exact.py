"""Exact scores of LESS, without a projection: cosines of whole gradients, the gold standard.

The queries' directions stay in memory, parameter by parameter; a candidate's exist one parameter
at a time and are multiplied at once. The extra cost is 2 P M operations per example, less than 1%
of its gradient's for a hundred queries; the price is memory, 4 P M C bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from tis_ray.errors import InputError
from tis_ray.representations.less.features import Gradients, broken_reason
from tis_ray.representations.spec import ExactScores

if TYPE_CHECKING:
    from tis_ray.data import StoredRow


class ExactLess:
    """Holds the queries' directions and scores candidates against them."""

    def __init__(
        self, gradients: Gradients, queries: list[StoredRow], weights_C: np.ndarray
    ) -> None:
        self.gradients, self.weights, self.count = gradients, weights_C.tolist(), len(queries)
        self._require_room()
        self.unusable: dict[int, str] = {}
        """Position of each query without a direction, and why; it has no row in the scores."""
        self.queries = [self._query_side(queries, c) for c in range(len(self.weights))]
        self.usable = [i for i in range(self.count) if i not in self.unusable]

    def scores(self, rows: list[StoredRow]) -> ExactScores:
        """Return sum_c w_c cos(query, candidate), float32, with a row for each usable query."""
        shape = (len(rows), len(self.weights))
        total_ME = torch.zeros(self.count, len(rows), dtype=torch.float64)
        losses_EC, norms_EC = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        unusable: dict[int, str] = {}
        for c, weight in enumerate(self.weights):

            def work(members: list[int], c: int = c, weight: float = weight) -> None:
                products_ME = torch.zeros(
                    self.count, len(members), dtype=torch.float64, device=self.gradients.device
                )
                squares_E = torch.zeros_like(products_ME[0])

                def sink(name: str, block_E: torch.Tensor) -> None:
                    flat_EP = block_E.reshape(len(members), -1).float()
                    products_ME.add_(self.queries[c][name] @ flat_EP.T)
                    squares_E.add_(flat_EP.square().sum(dim=1, dtype=torch.float64))

                losses_E = self.gradients.directions([rows[i] for i in members], c, "pool", sink)
                norms_E = squares_E.sqrt()
                losses_EC[members, c] = losses_E.cpu().numpy()
                norms_EC[members, c] = norms_E.cpu().numpy()
                for position in (
                    (~torch.isfinite(norms_E) | (norms_E == 0)).nonzero()[:, 0].tolist()
                ):
                    reason = broken_reason(losses_E[position], norms_E[position])
                    unusable[members[position]] = reason
                total_ME[:, members] += weight * (products_ME / norms_E).cpu()

            self.gradients.each_batch(rows, c, work)
        total_ME[:, list(unusable)] = 0.0
        columns = {"loss": losses_EC, "norm": norms_EC}
        scores_ME = total_ME[self.usable].float().numpy()
        return ExactScores(scores_ME, unusable, columns)

    def _query_side(self, queries: list[StoredRow], c: int) -> dict[str, torch.Tensor]:
        """Return the queries' directions, scaled to length 1, (M, P of the parameter) by name."""
        directions: dict[str, torch.Tensor] = {}
        squares_M = torch.zeros(self.count, dtype=torch.float64, device=self.gradients.device)

        def work(members: list[int]) -> None:
            squares_M[members] = 0.0

            def sink(name: str, block_E: torch.Tensor) -> None:
                flat_EP = block_E.reshape(len(members), -1).float()
                if name not in directions:
                    directions[name] = flat_EP.new_zeros(self.count, flat_EP.shape[1])
                directions[name][members] = flat_EP
                squares_M[members] += flat_EP.square().sum(dim=1, dtype=torch.float64)

            losses_E = self.gradients.directions([queries[i] for i in members], c, "query", sink)
            for position, member in enumerate(members):
                norm = squares_M[member].sqrt()
                if not torch.isfinite(norm) or norm == 0:
                    self.unusable[member] = broken_reason(losses_E[position], norm)

        self.gradients.each_batch(queries, c, work)
        for block_MP in directions.values():
            block_MP.div_(squares_M.sqrt()[:, None].to(block_MP.dtype))
        return directions

    def _require_room(self) -> None:
        trainable = sum(p.numel() for p in self.gradients.model.parameters() if p.requires_grad)
        needed = 4 * trainable * self.count * len(self.weights) / 1e9
        allowed = self.gradients.config.exact_gb
        if needed > allowed:
            raise InputError(
                f"less.scoring: `exact` would hold {self.count} queries x {len(self.weights)} "
                f"checkpoints x {trainable:,} parameters in memory: {needed:.1f} GB per actor, and "
                f"less.exact_gb allows {allowed:g}; raise it, use fewer queries, or choose `stream`"
            )
