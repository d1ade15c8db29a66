"""Unbalanced optimal transport (UOT): rank candidates by the mass the query set sends them.

The plan T minimises

    <T, C> + reg KL(T | a b') + reg_m1 KL(T 1 | a) + reg_m2 KL(T' 1 | b),    C = (1 - scores) / 2,

with b uniform over the candidates, and a over the queries or as their weights are. The paper (arXiv 2602.14696, appendix
F.2) takes reg 0.01 and reg_m = (inf, 1e-4): every query gives away all of its mass, and candidates
are hardly pressed to take equal shares. The solution is found by the scaling iteration of Chizat,
Peyré, Schmitzer and Vialard ("Scaling algorithms for unbalanced optimal transport problems", 2018)
with the stopping rule of POT's `sinkhorn_unbalanced`, so masses and iteration counts are POT's.

Three facts make it cheap and distributed. A factor of a row of the kernel is absorbed by u, so the
rows are divided by their sums and nothing underflows: the kernel is a softmax. u then depends on the
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
from numpy.typing import ArrayLike

from tis_ray.errors import InputError
from tis_ray.selectors.heads import merged_heads
from tis_ray.selectors.ordering import Ordering
from tis_ray.selectors.protocol import Call, Layout, Rounds, ask_about
from tis_ray.selectors.sums import Doubles, FixedPoint
from tis_ray.selectors.transport import Extent, Kernel, Sweep
from tis_ray.selectors.weights import checked_weights, relative

# How far the scores / (2 reg) of a row may lie apart: exponentials then are normal numbers, even
# after division by a row's sum.
REACH = {"float32": 60.0, "float64": 600.0}
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
    weights: ArrayLike | None = None,
) -> Rounds:
    """Return the `budget` candidates with the largest masses, by (mass down, index up).

    The ordering's scores are the masses; its queries are those that send the largest part of them.

    reg: weight of the entropy, > 0. reg_m1, reg_m2: weights of the marginals of queries and of
        candidates, >= 0; inf makes a marginal exact.
    tolerance, max_iterations: when to stop, as POT's stopThr and numItermax; a RuntimeWarning says
        when the limit came first.
    precision: "scores" computes the kernel of float32 scores in float32 (masses within about 1e-5
        of themselves), "float64" does not. Sums are as fine as float64 either way.
    weights: (M,) positive, a query's share of the mass; equal ones if not given.
    """
    weights_M = relative(checked_weights("uot", weights, layout.queries))
    _check(reg, reg_m1, reg_m2, tolerance, max_iterations, precision)
    extents: list[Extent] = yield [Call(s, "extent", ()) for s in range(len(layout.sizes))]
    problem = _Problem.of(layout, extents, weights_M, reg, reg_m1, reg_m2, precision)
    problem, potential_M = yield from _solve(problem, tolerance, max_iterations)

    solution, logarithms = (problem.kernel, potential_M), problem.largest is None
    heads = merged_heads(Layout(1, layout.sizes), budget, "heaviest", (*solution, logarithms))
    (indices,), (masses,) = yield from heads
    queries = yield from ask_about(layout, indices, "pulled_by", *solution)
    return Ordering(indices, np.exp(masses) if logarithms else masses, queries, "uot")


class _Problem(NamedTuple):
    """What is solved, on the scale of the shards.

    kernel: with a factor of each row divided out; offset_M: its logarithm less that of a b, so that
        POT's log u is the potential plus the offset. log_mass_M: log a.
    damping: reg_m1 / (reg_m1 + reg). largest: bound on v, or none where v needs logarithms.
    """

    kernel: Kernel
    shards: range
    offset_M: Doubles
    log_mass_M: Doubles
    damping: float
    largest: float | None

    @classmethod
    def of(
        cls,
        layout: Layout,
        extents: list[Extent],
        weights_M: Doubles,
        reg: float,
        reg_m1: float,
        reg_m2: float,
        precision: str,
    ) -> _Problem:
        lowest_M = np.min([lowest for lowest, _ in extents], axis=0)
        highest_M = np.max([highest for _, highest in extents], axis=0)
        reach = float((highest_M.astype(float) - lowest_M).max()) / (2 * reg)
        # By induction over the steps, log v stays in [-ratio log N, ratio reach].
        ratio = reg_m2 / reg
        moderate = ratio * (reach + math.log(layout.candidates)) <= MODERATE
        if not (moderate and reach <= REACH["float64"] and reg_m1 == math.inf):
            dtype, largest = "float64", None
        else:
            single = precision == "scores" and reach <= REACH[highest_M.dtype.name]
            dtype, largest = highest_M.dtype.name if single else "float64", math.exp(ratio * reach)
        kernel = Kernel(highest_M.astype(dtype), 2 * reg, _damping(reg_m2, reg), layout.candidates)
        offset_M = (1 - highest_M.astype(float)) / (2 * reg)
        log_mass_M = np.log(weights_M) - math.log(layout.queries)
        offset_M -= log_mass_M - math.log(layout.candidates)
        shards = range(len(layout.sizes))
        return cls(kernel, shards, offset_M, log_mass_M, _damping(reg_m1, reg), largest)

    def normalised(self, log_sums_M: Doubles) -> tuple[_Problem, Doubles]:
        """Divide the rows by about their sums, which u absorbs; also return what is left of those.

        Sums of kernel v are all about 1 then, and one grid is right for all rows.
        """
        before_M = self.kernel.shift_M
        shift_M = (before_M + self.kernel.width * log_sums_M).astype(before_M.dtype)
        moved_M = (shift_M.astype(float) - before_M) / self.kernel.width
        kernel = self.kernel._replace(shift_M=shift_M)
        return self._replace(kernel=kernel, offset_M=self.offset_M - moved_M), log_sums_M - moved_M

    def potential(self, log_sums_M: Doubles) -> Doubles:
        """Return g from log sum_j kernel v: the update of u."""
        exact_M = self.log_mass_M - log_sums_M
        if self.damping == 1:
            return exact_M
        return self.damping * (exact_M + self.offset_M) - self.offset_M

    def ask(self, method: str, *arguments: Any) -> list[Call]:
        """Return a call to every shard."""
        return [Call(shard, method, (self.kernel, *arguments)) for shard in self.shards]


def _solve(
    problem: _Problem, tolerance: float, max_iterations: int
) -> Generator[list[Call], list[Any], tuple[_Problem, Doubles]]:
    """Return the problem with its rows normalised, and the potential at which POT stops."""
    columns = problem.kernel.candidates
    grid = FixedPoint.bounded(1.0, float(columns), columns, levels=2)
    counts = yield problem.ask("row_sums", grid)
    problem, log_sums_M = problem.normalised(np.log(grid.value(np.sum(counts, axis=0))))
    if problem.largest is not None:
        grid = FixedPoint.bounded(2 * problem.largest, 2 * problem.largest, columns)
    before_M, potential_M = None, problem.potential(log_sums_M)
    log_u_M, log_v = np.zeros_like(potential_M), 0.0

    for iteration in range(1, max_iterations + 1):
        sweeps: list[Sweep]
        if problem.largest is None:
            sweeps = yield problem.ask("log_sweep", potential_M, before_M)
        else:
            sweeps = yield problem.ask("sweep", potential_M, before_M, grid)
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
        if problem.largest is None:
            highest_M = np.max([sweep.totals for sweep in sweeps], axis=0)
            counts = yield problem.ask("log_row_sums", potential_M, highest_M, grid)
            log_sums_M = highest_M + np.log(grid.value(np.sum(counts, axis=0)))
        else:
            log_sums_M = np.log(grid.value(np.sum([sweep.totals for sweep in sweeps], axis=0)))
        before_M, potential_M = potential_M, problem.potential(log_sums_M)
    return problem, potential_M


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
