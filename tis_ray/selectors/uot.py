"""Unbalanced optimal transport (UOT): rank candidates by the mass the query set sends them.

The plan T minimises

    <T, C> + reg KL(T | a b') + reg_m1 KL(T 1 | a) + reg_m2 KL(T' 1 | b),    C = (1 - scores) / 2,

with uniform a over the queries and b over the candidates. The paper (arXiv 2602.14696, appendix
F.2) takes reg 0.01 and reg_m = (inf, 1e-4): every query gives away all of its mass, and candidates
are hardly pressed to take equal shares. The solution is found by the scaling iteration of Chizat,
Peyré, Schmitzer and Vialard ("Scaling algorithms for unbalanced optimal transport problems", 2018)
with the stopping rule of POT's `sinkhorn_unbalanced`, so masses and iteration counts are POT's.

Three facts make it cheap and distributed. A factor of a row of the kernel is absorbed by u when
reg_m1 is infinite, so row maxima are divided out and nothing underflows. u then depends on the
shards by M sums only; and within one pass over a block of columns v follows from u, and the sums
for the next u from v. With the paper's values v is raised to the power 0.0099 at each step, which
is why four passes are enough. The plan itself is never formed.

Where v can be far from 1 (a finite reg_m1, a large reg_m2, a tiny reg), the same iteration runs in
logarithms, with two passes a step.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Generator
from typing import Any, NamedTuple

import numpy as np

from tis_ray.errors import InputError
from tis_ray.selectors.heads import merged_heads
from tis_ray.selectors.ordering import Ordering
from tis_ray.selectors.protocol import Call, Layout, Rounds, ask_about
from tis_ray.selectors.sums import Doubles, FixedPoint
from tis_ray.selectors.transport import Extent, Kernel, Sweep

# How far the exponents of a kernel may reach down and still give normal numbers.
REACH = {"float32": 80.0, "float64": 600.0}
# One pass a step is used while log v stays within this of 0.
MODERATE = 8 * math.log(2)


def coordinate(
    layout: Layout,
    budget: int,
    *,
    reg: float = 0.01,
    reg_m1: float = math.inf,
    reg_m2: float = 1e-4,
    tolerance: float = 1e-6,
    max_iterations: int = 1000,
    precision: str = "scores",
) -> Rounds:
    """Return the `budget` candidates with the largest masses, by (mass down, index up).

    The ordering's scores are the masses; its queries are those that send the largest part of them.

    reg: weight of the entropy, > 0. reg_m1, reg_m2: weights of the marginals of queries and of
        candidates, >= 0; inf makes a marginal exact.
    tolerance, max_iterations: when to stop, as POT's stopThr and numItermax; a RuntimeWarning says
        when the limit came first.
    precision: "scores" computes the kernel of float32 scores in float32 (masses within about 1e-5
        of themselves), "float64" does not. Sums are as fine as float64 either way.
    """
    _check(reg, reg_m1, reg_m2, tolerance, max_iterations, precision)
    extents: list[Extent] = yield [Call(s, "extent", ()) for s in range(len(layout.sizes))]
    problem = _Problem.of(layout, extents, reg, reg_m1, reg_m2, precision)
    potential_M = yield from _iterate(problem, tolerance, max_iterations)

    solution = (problem.kernel, potential_M)
    heads = merged_heads(
        Layout(1, layout.sizes), budget, "heaviest", (*solution, problem.logarithms)
    )
    (indices,), (masses,) = yield from heads
    queries = yield from ask_about(layout, indices, "pulled_by", *solution)
    return Ordering(indices, np.exp(masses) if problem.logarithms else masses, queries, "uot")


class _Problem(NamedTuple):
    """What is solved. With g the shards' potential, POT's log u is g + offset."""

    kernel: Kernel
    shards: range
    queries: int
    reach: float
    ratio: float
    damping: float
    offset_M: Doubles
    logarithms: bool

    @classmethod
    def of(
        cls,
        layout: Layout,
        extents: list[Extent],
        reg: float,
        reg_m1: float,
        reg_m2: float,
        precision: str,
    ) -> _Problem:
        lowest_M = np.min([lowest for lowest, _ in extents], axis=0)
        highest_M = np.max([highest for _, highest in extents], axis=0)
        rows, columns = layout.queries, layout.candidates
        reach = float((highest_M.astype(float) - lowest_M).max()) / (2 * reg)
        # By induction over the steps, v stays in [columns^-ratio, exp(ratio reach)].
        ratio = reg_m2 / reg
        moderate = ratio * (reach + math.log(columns)) <= MODERATE and reach <= REACH["float64"]
        logarithms = not (moderate and reg_m1 == math.inf)
        single = precision == "scores" and highest_M.dtype == np.float32 and not logarithms
        dtype = "float32" if single and reach <= REACH["float32"] else "float64"
        kernel = Kernel(highest_M, 2 * reg, dtype, _damping(reg_m2, reg), columns)
        offset_M = (1 - highest_M.astype(float)) / (2 * reg) + math.log(rows * columns)
        shards = range(len(layout.sizes))
        damping = _damping(reg_m1, reg)
        return cls(kernel, shards, rows, reach, ratio, damping, offset_M, logarithms)

    def potential(self, log_sums_M: Doubles) -> Doubles:
        """Return g from log sum_j kernel v: the update of u."""
        exact_M = -math.log(self.queries) - log_sums_M
        if self.damping == 1:
            return exact_M
        return self.damping * (exact_M + self.offset_M) - self.offset_M


def _iterate(
    problem: _Problem, tolerance: float, max_iterations: int
) -> Generator[list[Call], list[Any], Doubles]:
    """Return the potential at which POT stops."""
    kernel, columns, logarithms = problem.kernel, problem.kernel.candidates, problem.logarithms

    def ask(method: str, *arguments: Any) -> list[Call]:
        return [Call(shard, method, (kernel, *arguments)) for shard in problem.shards]

    totals_M = np.full(problem.queries, float(columns))
    grid = FixedPoint.bounded(1.0, totals_M, columns, levels=2 if logarithms else 1)
    sums_M = grid.value(np.sum((yield ask("row_sums", grid)), axis=0))
    if not logarithms:
        largest = 2 * math.exp(problem.ratio * problem.reach)
        grid = FixedPoint.bounded(largest, largest * sums_M, columns)
    before_M, potential_M = None, problem.potential(np.log(sums_M))
    log_u_M, log_v = np.zeros(problem.queries), 0.0

    for iteration in range(1, max_iterations + 1):
        method, rest = ("log_sweep", ()) if logarithms else ("sweep", (grid,))
        sweeps: list[Sweep] = yield ask(method, potential_M, before_M, *rest)
        before_u_M, log_u_M = log_u_M, potential_M + problem.offset_M
        before_v, log_v = log_v, max(sweep.log_largest for sweep in sweeps)
        scale_u = max(float(log_u_M.max()), float(before_u_M.max()), 0.0)
        change_u = np.abs(np.exp(log_u_M - scale_u) - np.exp(before_u_M - scale_u)).max()
        change_v = math.exp(max(s.log_change for s in sweeps) - max(log_v, before_v, 0.0))
        error = (float(change_u) + change_v) / 2
        if error < tolerance:
            break
        if iteration == max_iterations:
            _warn(iteration, error, tolerance)
            break
        if logarithms:
            highest_M = np.max([sweep.totals for sweep in sweeps], axis=0)
            counts: list[Any] = yield ask("log_row_sums", potential_M, highest_M, grid)
            log_sums_M = highest_M + np.log(grid.value(np.sum(counts, axis=0)))
        else:
            log_sums_M = np.log(grid.value(np.sum([sweep.totals for sweep in sweeps], axis=0)))
        before_M, potential_M = potential_M, problem.potential(log_sums_M)
    return potential_M


def _damping(weight: float, reg: float) -> float:
    """Return the power of a scaling step; 1 for an exact marginal."""
    return 1.0 if weight == math.inf else weight / (weight + reg)


def _warn(iterations: int, error: float, tolerance: float) -> None:
    warnings.warn(
        f"uot: not converged after {iterations} iterations (change {error:.1e}, tolerance "
        f"{tolerance:.1e}); raise max_iterations or reg, or lower reg_m1 or reg_m2",
        RuntimeWarning,
        stacklevel=2,
    )


def _check(
    reg: float, reg_m1: float, reg_m2: float, tolerance: float, max_iterations: int, precision: str
) -> None:
    """Raise InputError on a parameter that has no meaning."""
    if not 0 < reg < math.inf:
        raise InputError(f"uot: reg {reg} must be a positive number")
    for name, weight in (("reg_m1", reg_m1), ("reg_m2", reg_m2)):
        if not weight >= 0:
            raise InputError(f"uot: {name} {weight} must be 0 or more; .inf for an exact marginal")
    if not tolerance >= 0:
        raise InputError(f"uot: tolerance {tolerance} must be 0 or more")
    if max_iterations < 1:
        raise InputError(f"uot: max_iterations {max_iterations} must be at least 1")
    if precision not in ("scores", "float64"):
        raise InputError(f"uot: precision {precision!r} is unknown; known: scores, float64")
