"""What `tis-ray recommend` prints: the method of `tis_ray.analysis.recommend`, and its cost."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from tis_ray.analysis import Legend, Method
from tis_ray.analysis.recommend import Gain, Preferred, Recommendation, recommend
from tis_ray.analysis.study_values import Kind
from tis_ray.errors import InputError
from tis_ray.metrics.description import MetricDescription
from tis_ray.report.formatting import counted, decimals, duration, margin, number
from tis_ray.report.gains_section import MethodCost, method_costs
from tis_ray.report.record import StudyRecord
from tis_ray.report.study_results import merged_legend, studies_together
from tis_ray.representations import REPRESENTATIONS
from tis_ray.selectors import SELECTORS
from tis_ray.storage import Place

_PER_POOL_ROW: set[Kind] = {"features", "scores", "kept", "warm-up"}
"""Stages whose work grows with the pool (the warm-up takes a share of it).

Reading the pool and screening it are not among them: random pays those too.
"""


def preferred() -> Preferred:
    """Return the methods that the paper prefers for small and for large budgets, by their specs."""
    representations = [found.name for found in REPRESENTATIONS.usable() if found.prior]

    def by_place(i: int) -> list[Method]:
        placed = [(place, s.name) for s in SELECTORS.usable() if (place := s.prior[i]) is not None]
        return [Method(r, name) for _, name in sorted(placed) for r in representations]

    return Preferred(by_place(0), by_place(1))


def advice(
    folders: Sequence[Place], budget: int, pool_rows: int | None, metric: str
) -> Iterator[str]:
    """Yield the recommendation line by line, from the run folders of a pilot (a task each).

    pool_rows: of the pool that is meant; None takes the pilot's own. Raises InputError where a
    folder holds no finished study.
    """
    records = studies_together(folders)
    (first, *_), models = records.values(), {model for model, _ in records}
    if first.budget_unit != "examples":
        raise InputError(f"{folders[0]}: recommend reads pilots whose budgets count examples")
    if len(models) > 1:
        raise InputError(
            f"recommend: the pilots trained {', '.join(sorted(models))}; give those of one model"
        )
    _require_other_runs(records.values())
    legend, pilot_rows = merged_legend(records.values()), first.pool_rows
    about = legend.metric(metric)
    pool_rows = pool_rows or pilot_rows
    if budget > pool_rows:
        raise InputError(
            f"--budget: {budget:,} exceeds the pool of {pool_rows:,} rows; give the pool that is "
            "meant with --pool-rows"
        )
    found = recommend(
        {task: record.cells for (_, task), record in records.items()},
        budget,
        pool_rows=pool_rows,
        metric=about,
        preferred=preferred(),
        legend=legend,
        apart=first.draws_apart,
    )
    # As many as the pilots' own pages show.
    places = max(decimals(record.table(), about) for record in records.values())
    yield from _words(found, legend, places)
    yield _price_words(first, found, pool_rows, pilot_rows)
    yield ""
    yield f"expected {about.words} gained over random at {budget:,}, positive is better:"
    for gain in found.gains:
        yield f"  {legend.method(gain.method):<28} {_gain(gain, about, places)}   {gain.runs} runs"


def _require_other_runs(records: Iterable[StudyRecord]) -> None:
    """Raise InputError where two studies share all trained runs: copies, which would count as two tasks."""
    names: dict[frozenset[str], str] = {}
    for record in records:
        trained = (cell for cell in record.cells if not cell.method.is_baseline)
        runs = frozenset(cell.fingerprint for cell in trained if cell.fingerprint)
        if runs and (other := names.setdefault(runs, record.name)) != record.name:
            raise InputError(
                f"recommend: `{other}` and `{record.name}` hold the same runs, which are one task; give one"
            )


def _words(found: Recommendation, legend: Legend, places: int) -> Iterator[str]:
    scope = f"{counted(found.seeds, 'seed')}, budgets {', '.join(f'{b:,}' for b in found.budgets)}"
    scope += f", {found.tasks} tasks" if found.tasks > 1 else ""
    expected = _gain(found.best, found.metric, places)
    best = f"{legend.method(found.best.method)} is expected to gain {expected}"
    if found.choice is not None:
        yield (
            f"use {legend.method(found.choice.method)} at {found.budget:,}: expected gain over random "
            f"{_gain(found.choice, found.metric, places)} {found.metric.words} ({scope})"
        )
    elif found.says == "random is as good":
        yield (
            f"random is as good at {found.budget:,}: every gain is shown to be smaller than "
            f"{margin(found.metric)}; the best method, {best} ({scope})"
        )
    elif found.says == "worse":
        yield f"use random at {found.budget:,}: every method is worse; the least bad, {best} ({scope})"
    else:
        yield f"cannot tell at {found.budget:,}: the best method, {best} ({scope})"
        yield _what_would_tell(found)
    chosen = (found.choice or found.best).method
    others = [method for method in (found.best.method, *found.alike) if method != chosen]
    if others and found.choice is not None:
        decides = (
            "; the paper's finding decides: gradients with round robin for small budgets, with "
            "optimal transport for large ones"
        )
        yield (
            f"the pilot cannot tell it from {', '.join(map(legend.method, others))}"
            + (decides if found.by_prior else "")
        )
    if found.extrapolated:
        yield (
            f"{found.budget:,} lies outside the pilot's budgets: the gain is read off a line in "
            "log(budget), and its interval does not say how wrong the line may be"
        )


def _what_would_tell(found: Recommendation) -> str:
    """Say which pilot would show the best gain, if it is what it seems to be."""
    told = found.would_tell
    if found.best.expected == 0:
        return "no pilot would tell: there is no gain to be told"
    if told is not None and told.luck == "one seed":
        return f"one seed says nothing of the luck of a subset; a pilot of {told.seeds} seeds would"
    if told is not None and told.luck == "no spread":
        return (
            f"random came to the same {found.metric.words} in all seeds, which says nothing of the luck "
            "of a subset; more test rows would, or another --metric"
        )
    ways = []
    if told is not None and told.seeds is not None:
        ways.append(f"{told.seeds} seeds")
    if told is not None and told.tasks is not None:
        ways.append(f"{told.tasks} tasks like this one")
    if found.extrapolated:
        ways.append(f"budgets nearer to {found.budget:,}")
    if not ways:
        return (
            "no larger pilot of this kind would tell: the luck of a single subset is larger than the gain; "
            "larger budgets have less of it"
        )
    return f"a pilot of {', or of '.join(ways)} would tell, if the gain is as large as it seems"


def _gain(gain: Gain, metric: MetricDescription, places: int) -> str:
    words = number(metric, gain.expected, places, signed=True)
    if gain.low is None or gain.high is None:
        return f"{words} (no interval)"
    ends = (number(metric, end, places, signed=True) for end in (gain.low, gain.high))
    return f"{words} [{', '.join(end.removesuffix(' points') for end in ends)}]"


def _price_words(
    record: StudyRecord, found: Recommendation, pool_rows: int, pilot_rows: int
) -> str:
    """Say what selecting and training would take on the machine of the pilot."""
    scale = pool_rows / max(pilot_rows, 1)
    cost = method_costs(record).get((found.choice or found.best).method, MethodCost(()))
    grows = [stage.seconds for stage in cost.stages if stage.kind in _PER_POOL_ROW]
    selecting = ("at least " if cost.lacking else "") + duration(scale * sum(grows))
    times = [
        (cell.seconds_train or 0.0) / cell.train_rows for cell in record.cells if cell.train_rows
    ]
    training = found.budget * sum(times) / max(len(times), 1)
    return (
        f"price, at the pilot's speed: {selecting} of stage time to select from {pool_rows:,} "
        f"rows, {duration(training)} to train on {found.budget:,} once; random pays the training alone"
    )
