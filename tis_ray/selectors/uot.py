"""Unbalanced optimal transport (UOT): rank candidates by the mass the query set sends them.

The plan T minimises

    <T, C> + reg KL(T | a b') + reg_m1 KL(T 1 | a) + reg_m2 KL(T' 1 | b),    C = (1 - scores) / 2,

with b uniform over the candidates, and a uniform over the queries or proportional to their weights.
The paper (arXiv 2602.14696, appendix F.2) takes reg 0.01 and reg_m = (inf, 1e-4): every query gives
away all of its mass, and candidates are hardly pressed to take equal shares. The solution is found by
the scaling iteration of Chizat, Peyré, Schmitzer and Vialard ("Scaling algorithms for unbalanced
optimal transport problems", 2018) with the stopping rule of POT's `sinkhorn_unbalanced`: in float64,
masses and numbers of steps are POT's.

Three facts make it cheap and distributed. A factor of a row of the kernel is absorbed by u, so the
rows are divided by their maxima or sums and nothing underflows. u then depends on the shards by M
sums only; and within one pass over a block of columns v follows from u, and the sums for the next u
from v. With the paper's values v is raised to the power 0.0099 at each step, which is why four
passes are enough. The plan itself is never formed.

Where v can be far from 1 (a finite reg_m1, a large reg_m2, a tiny reg), the same iteration runs in
logarithms, with two passes a step.

For scores in float32 the kernel is computed in float32, and u has 28 bits; otherwise everything is
in float64. Masses in float32 are not worth POT's last pass over all candidates, and it is known when
that comes. If log v has just moved by at most d, log u moves next by at most d (a mean moves no
further than its terms), log v by damping d, and so on: no mass is further than a relative d from its
final value. So once damping d is SETTLED, one more u is the last, and the masses it leads to are
computed only for those candidates that d does not rule out.
"""

from __future__ import annotations

import math
import warnings
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from pydantic import Field

from tis_ray.errors import InputError
from tis_ray.section import Section
from tis_ray.selectors import transport
from tis_ray.selectors.heads import merged_heads
from tis_ray.selectors.kernel import Kernel
from tis_ray.selectors.ordering import Ordering
from tis_ray.selectors.protocol import Call, Exchange, Layout, Replies, Rounds, ask_about
from tis_ray.selectors.query_weights import checked_weights, relative
from tis_ray.selectors.spec import Selector
from tis_ray.selectors.sums import Doubles, FixedPoint, rounded, settled
from tis_ray.selectors.transport import Near

# How far apart the scores / (2 reg) of a row may be: exponentials are then normal numbers, even
# after division by a row's sum.
REACH = {"float32": 60.0, "float64": 600.0}
# Steps take one pass each while log v stays within this of 0.
MODERATE = 8 * math.log(2)
# Below this tolerance, 28 bits of u are too few.
FINEST = 1e-7
# Masses in float32 are settled when they are at most this many tolerances from their final values.
SETTLED = 5
# Shards keep their kernels if all of them together take no more bytes.
KEPT_BYTES = 2**28


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
    tolerance, max_iterations: when to stop, like POT's stopThr and numItermax; a RuntimeWarning says
        if the limit was reached first.
    precision: "scores" computes the kernel of float32 scores in float32 (masses have a relative error
        of about 1e-5), "float64" does not.
    weights: (M,) positive, a query's share of the mass; equal if not given.
    """
    weights_M = relative(checked_weights("uot", weights, layout.queries))
    _check(reg, reg_m1, reg_m2, tolerance, max_iterations, precision)
    if tolerance < FINEST:
        precision = "float64"
    problem = _Problem.of(layout, weights_M, reg, reg_m1, reg_m2, precision)
    problem, potential_M, near = yield from _solve(problem, tolerance, max_iterations)

    solution, logarithms = (problem.kernel, potential_M), problem.largest is None
    arguments = (*solution, logarithms, near)
    heads = merged_heads(Layout(1, layout.sizes), budget, "heaviest", arguments)
    (indices,), (masses,) = yield from heads
    queries = yield from ask_about(layout, indices, "pulled_by", *solution)
    return Ordering(indices, np.exp(masses) if logarithms else masses, queries, "uot")


class _Problem(NamedTuple):
    """The transport problem, scaled as the shards compute it.

    kernel: with a factor of each row divided out; offset_M: the factor's logarithm less that of a b,
        so that POT's log u is the potential plus the offset. log_mass_M: log a.
    damping: reg_m1 / (reg_m1 + reg). smallest, largest: bounds on v; no largest one if v needs
        logarithms.
    grid: what sums over candidates are counted on; without one they are floating, and settled.
    """

    kernel: Kernel
    shards: range
    offset_M: Doubles
    log_mass_M: Doubles
    damping: float
    smallest: float
    largest: float | None
    grid: FixedPoint | None

    @classmethod
    def of(
        cls,
        layout: Layout,
        weights_M: Doubles,
        reg: float,
        reg_m1: float,
        reg_m2: float,
        precision: str,
    ) -> _Problem:
        if layout.extent is None:
            raise ValueError("uot: the layout must have the scores' extent")
        lowest_M, highest_M = layout.extent
        reach = float((highest_M.astype(float) - lowest_M).max()) / (2 * reg)
        # By induction over the steps, log v stays in [-ratio log N, ratio reach].
        ratio = reg_m2 / reg
        moderate = ratio * (reach + math.log(layout.candidates)) <= MODERATE
        smallest, largest, single = layout.candidates**-ratio, None, False
        if moderate and reach <= REACH["float64"] and reg_m1 == math.inf:
            largest = math.exp(ratio * reach)
            single = precision == "scores" and highest_M.dtype == np.float32
            single = single and reach <= REACH["float32"]
        dtype = np.dtype(np.float32 if single else np.float64)
        columns = layout.candidates
        kept = layout.queries * columns * dtype.itemsize <= KEPT_BYTES
        kernel = Kernel(
            highest_M.astype(dtype), 2 * reg, _damping(reg_m2, reg), columns, kept and single
        )
        offset_M = (1 - highest_M.astype(float)) / (2 * reg)
        log_mass_M = np.log(weights_M) - math.log(layout.queries)
        offset_M -= log_mass_M - math.log(columns)
        shards = range(len(layout.sizes))
        grid = None if single else FixedPoint.bounded(1.0, float(columns), columns, levels=2)
        damping = _damping(reg_m1, reg)
        return cls(kernel, shards, offset_M, log_mass_M, damping, smallest, largest, grid)

    def normalised(self, log_sums_M: Doubles) -> tuple[_Problem, Doubles]:
        """Divide the rows by approximately their sums, which u absorbs; also return the rest of those.

        Sums of kernel v are then all about 1, so that one grid suits all rows.
        """
        before_M, columns = self.kernel.shift_M, self.kernel.candidates
        shift_M = (before_M + self.kernel.width * log_sums_M).astype(before_M.dtype)
        moved_M = (shift_M.astype(float) - before_M) / self.kernel.width
        kept = self.largest is not None and before_M.nbytes * columns <= KEPT_BYTES
        problem = self._replace(
            kernel=self.kernel._replace(shift_M=shift_M, kept=kept),
            offset_M=self.offset_M - moved_M,
        )
        if self.largest is not None:
            grid = FixedPoint.bounded(2 * self.largest, 2 * self.largest, columns)
            problem = problem._replace(grid=grid)
        return problem, log_sums_M - moved_M

    def potential(self, log_sums_M: Doubles) -> Doubles:
        """Return g from log sum_j kernel v: the update of u."""
        exact_M = self.log_mass_M - log_sums_M
        if self.damping == 1:
            return exact_M
        return self.damping * (exact_M + self.offset_M) - self.offset_M

    def log_sums(self, totals: Replies, potential_M: Doubles | None) -> Exchange[Doubles]:
        """Return log sum_j kernel v from the replies of `row_sums` or `sweep` for this potential."""
        if self.grid is not None:
            return np.log(self.grid.value(np.sum(totals, axis=0)))
        sums_M, sure_M = settled(totals)
        unsure = np.flatnonzero(~sure_M)
        if unsure.size:
            columns, largest = self.kernel.candidates, self.largest or 1.0
            grid = FixedPoint.bounded(largest, largest * columns, columns, levels=3)
            counts = yield self.calls("row_sums", potential_M, grid, unsure)
            sums_M[unsure] = rounded(grid.value(np.sum(counts, axis=0)))
        return np.log(sums_M)

    def calls(self, method: str, *arguments: object) -> list[Call]:
        """Return a call of this method to every shard."""
        return [Call(shard, method, (self.kernel, *arguments)) for shard in self.shards]


def _solve(
    problem: _Problem, tolerance: float, max_iterations: int
) -> Exchange[tuple[_Problem, Doubles, Near | None]]:
    """Return the problem as it was solved, the potential at which POT stops, and one near it.

    In float32 the potential may be POT's last but one, and the near one that before it.
    """
    totals = yield problem.calls("row_sums", None, problem.grid)
    log_sums_M = yield from problem.log_sums(totals, None)
    if problem.grid is not None:
        problem, log_sums_M = problem.normalised(log_sums_M)
    before_M, potential_M = None, problem.potential(log_sums_M)
    log_u_M, log_v = np.zeros_like(potential_M), 0.0
    error, next_error = math.inf, math.inf

    for iteration in range(1, max_iterations + 1):
        # Sums for the next step are made on the way, unless this step is likely to be the last.
        wanted = next_error >= tolerance and iteration < max_iterations
        if problem.largest is None:
            sweeps = yield problem.calls("log_sweep", potential_M, before_M)
        else:
            sweeps = yield problem.calls("sweep", potential_M, before_M, problem.grid, wanted)
        before_u_M, log_u_M = log_u_M, potential_M + problem.offset_M
        before_v, log_v = log_v, max(sweep.log_largest for sweep in sweeps)
        scale_u = max(float(log_u_M.max()), float(before_u_M.max()), 0.0)
        change_u = np.abs(np.exp(log_u_M - scale_u) - np.exp(before_u_M - scale_u)).max()
        log_change = max(sweep.log_change for sweep in sweeps)
        change_v = math.exp(log_change - max(log_v, before_v, 0.0))
        before_error, error = error, (float(change_u) + change_v) / 2
        next_error = _guess(error, before_error)
        if error < tolerance:
            break
        if iteration == max_iterations:
            _warn(iteration, error, tolerance)
            break
        if problem.largest is None:
            highest_M = np.max([sweep.highest_M for sweep in sweeps], axis=0)
            totals = yield problem.calls("log_row_sums", potential_M, highest_M, problem.grid)
            log_sums_M = highest_M + (yield from problem.log_sums(totals, potential_M))
        else:
            totals = [sweep.totals for sweep in sweeps]
            if not wanted:
                totals = yield problem.calls("row_sums", potential_M, problem.grid)
            log_sums_M = yield from problem.log_sums(totals, potential_M)
        before_M, potential_M = potential_M, problem.potential(log_sums_M)
        if problem.grid is None:
            moved = math.exp(log_change) / problem.smallest
            if problem.kernel.damping * moved <= SETTLED * tolerance:
                return problem, potential_M, Near(before_M, moved)
    return problem, potential_M, None


def _guess(error: float, before: float) -> float:
    """Return the next error if it falls as it last did; the first error stays as it is."""
    return error * (error / before) if before < math.inf else error


def _damping(weight: float, reg: float) -> float:
    """Return the power of a scaling step; 1 for an exact marginal."""
    return 1.0 if weight == math.inf else weight / (weight + reg)


def _warn(iterations: int, error: float, tolerance: float) -> None:
    warnings.warn(
        f"uot: did not converge in {iterations} iterations (change {error:.1e}, tolerance "
        f"{tolerance:.1e}); raise max_iterations or reg, or lower reg_m1 or reg_m2",
        RuntimeWarning,
        stacklevel=2,
    )


def _check(
    reg: float, reg_m1: float, reg_m2: float, tolerance: float, max_iterations: int, precision: str
) -> None:
    """Raise InputError for a parameter outside its range."""
    if not 0 < reg < math.inf:
        raise InputError(f"uot: reg {reg} must be a positive number")
    for name, weight in (("reg_m1", reg_m1), ("reg_m2", reg_m2)):
        if not weight >= 0:
            raise InputError(f"uot: {name} {weight} must be at least 0; .inf for an exact marginal")
    if not tolerance >= 0:
        raise InputError(f"uot: tolerance {tolerance} must be at least 0")
    if max_iterations < 1:
        raise InputError(f"uot: max_iterations {max_iterations} must be at least 1")
    if precision not in ("scores", "float64"):
        raise InputError(f"uot: precision {precision!r} is not one of scores, float64")


class UotSettings(Section):
    """UOT: unbalanced optimal transport from queries to candidates (paper section 3)."""

    reg: float = Field(0.01, gt=0)
    """Weight of the entropy."""
    reg_m1: float | None = Field(None, ge=0)
    """Weight of the queries' marginal; null makes it exact."""
    reg_m2: float | None = Field(1e-4, ge=0)
    """Weight of the candidates' marginal; null makes it exact."""


def _parameters(settings: UotSettings) -> dict[str, object]:
    """Return what `coordinate` takes, where an exact marginal has infinite weight."""
    marginals = {"reg_m1": settings.reg_m1, "reg_m2": settings.reg_m2}
    finite = {name: math.inf if value is None else value for name, value in marginals.items()}
    return {"reg": settings.reg, **finite}


SELECTOR = Selector(
    name="uot",
    label="UOT",
    summary="unbalanced optimal transport from queries to candidates",
    Settings=UotSettings,
    coordinate=coordinate,
    shard=transport.Shard,
    arguments=_parameters,
    prior=(1, 0),
)
