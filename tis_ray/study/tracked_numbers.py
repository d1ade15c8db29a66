"""What a tracker records of a method and of a study, as names and numbers.

MLflow's charts make a section of all metrics with the same text before a slash, in the order of the
alphabet, and put those without a slash last. So the means stand twice: under the name that a seed's value
has, for one chart of both, and in a section that comes first.

    test_loss, mean/test_loss       mean over seeds; mean/... not of the zero-shot that is worse than the other, whose
                                    loss would make all other bars of a chart short
    range/test_loss.low, .high      its 95% interval
    spent/...                       seconds of one method: beyond random, and of training a model
    unreadable/exact_match          share of answers that could not be read
    vs_random/test_loss             mean - random's; vs_random_redrawn: of the draws; vs_zero_shot
      .low, .high, .p, .p_holm      what of that may be luck
      .verdict                      1 better, -1 worse, 0 alike or cannot tell; in words in the tag verdict.test_loss
    study_winner/..., study_bill/...  of the study's own run
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from tis_ray.analysis import Cell, Comparison, TableRow
from tis_ray.analysis.winners import gain, leading_metric, winners, wins
from tis_ray.config import Config
from tis_ray.report.gains_section import MethodCost
from tis_ray.report.headline import headline
from tis_ray.store import find_json
from tis_ray.study.bill import Line, per_second

Numbers = dict[str, float | None]
VERDICTS = {"better": 1.0, "worse": -1.0}
NO_WINNER = "none"


def method_numbers(
    row: TableRow, rows: Sequence[TableRow], cells: Sequence[Cell], cost: MethodCost | None
) -> Numbers:
    """Return the metrics of a row of the table: `cells` are its own, draws left aside."""
    found: Numbers = {name: each.value.mean for name, each in row.metrics.items()}
    for name, each in row.metrics.items():
        if not _is_worse_zero_shot(row, rows, name):
            found[f"mean/{name}"] = each.value.mean
        found[f"range/{name}.low"] = each.value.low
        found[f"range/{name}.high"] = each.value.high
        found[f"unreadable/{name}"] = each.parse_failures
        found |= _compared(f"vs_random/{name}", each.vs_random)
        found |= _compared(f"vs_random_redrawn/{name}", each.method_vs_random)
        found |= _compared(f"vs_zero_shot/{name}", each.vs_zero_shot)
    found["spent/seconds_beyond_random"] = None if cost is None else cost.seconds
    trained = [cell.seconds_train for cell in cells if cell.seconds_train and cell.train_rows]
    found["spent/seconds_train"] = fmean(trained) if trained else None
    found["range/seeds"] = float(row.n_seeds)
    return found


def method_tags(row: TableRow, rows: Sequence[TableRow]) -> dict[str, object]:
    """Return what a method's numbers say, in words."""
    tags: dict[str, object] = {
        f"verdict.{name}": each.vs_random.verdict
        for name, each in row.metrics.items()
        if each.vs_random is not None
    }
    tags |= {
        f"verdict_redrawn.{name}": each.method_vs_random.verdict
        for name, each in row.metrics.items()
        if each.method_vs_random is not None
    }
    metric = leading_metric(rows)
    if metric is not None and not row.method.is_baseline:
        tags["tis.wins"] = "yes" if wins(row, metric) else "no"
    return {**tags, "tis.flags": "; ".join(flag.message for flag in row.flags) or None}


def winner_numbers(rows: Sequence[TableRow]) -> tuple[Numbers, dict[str, object]]:
    """Return a study's winner: its metrics, and the tags that name it, "none" where there is none."""
    metric = leading_metric(rows)
    won = winners(rows, metric) if metric else []
    said = headline(rows)
    tags: dict[str, object] = {
        "tis.winner": f"{won[0].label} @ {won[0].budget}" if won else NO_WINNER,
        "tis.winner_metric": metric.name if metric else None,
        "mlflow.note.content": " ".join((said.sentence, *said.details)),
    }
    if not won or metric is None:
        return {}, tags
    best = won[0]
    numbers = {f"study_winner/{name}": each.value.mean for name, each in best.metrics.items()}
    return {
        **numbers,
        "study_winner/gain": gain(best, metric),
        "study_winner/budget": best.budget,
    }, tags


def bill_numbers(config: Config, lines: Sequence[Line]) -> Numbers:
    """Return what each stage took, and the sums; money where the config says what an hour costs."""
    found: Numbers = {f"study_bill/{line.stage} seconds": line.took for line in lines}
    seconds = sum(line.took or 0 for line in lines)
    found["study_bill/all seconds"] = seconds
    found["study_bill/all gigabytes"] = sum(line.written or 0 for line in lines)
    paid = per_second(find_json(config.run_dir / "price.json"), config)
    found[f"study_bill/all {config.price.currency}"] = None if paid is None else seconds * paid
    return found


def _is_worse_zero_shot(row: TableRow, rows: Sequence[TableRow], metric: str) -> bool:
    """Whether a row is the untrained model with the template or without it, whichever does worse by a metric."""
    compared = {each.metrics[metric].zero_shot for each in rows if metric in each.metrics}
    return row.method.is_zero_shot and bool(compared - {None, row.method})


def _compared(name: str, found: Comparison | None) -> Numbers:
    if found is None:
        return {}
    return {
        name: found.difference,
        f"{name}.low": found.low,
        f"{name}.high": found.high,
        f"{name}.p": found.p_value,
        f"{name}.p_holm": found.p_holm,
        f"{name}.verdict": VERDICTS.get(found.verdict, 0.0),
    }
