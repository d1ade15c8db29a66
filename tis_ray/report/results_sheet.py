"""The table of one metric as files hold it: in CSV a number a column, for LaTeX each with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tis_ray.analysis import TableRow
from tis_ray.analysis.comparison import Pairs
from tis_ray.metrics.description import MetricDescription
from tis_ray.report.formatting import decimals, number, probability, sentence
from tis_ray.report.results_section import over_rows
from tis_ray.report.sheets import Sheet, sheet


def results_sheet(
    rows: Sequence[TableRow], metric: MetricDescription, name: str, pairs: Pairs = "seeds"
) -> Sheet:
    """Return one metric's table for files: each number in a column of its own."""
    places, unit = decimals(rows, metric), ", %" if metric.share else ""
    points = ", points" if metric.share else ""

    def bare(value: float | None, *, signed: bool = False) -> str:
        if value is None:
            return ""
        return (
            number(metric, value, places, signed=signed).removesuffix("%").removesuffix(" points")
        )

    lines = []
    for row in rows:
        found = row.metrics.get(metric.name)
        line: dict[str, str | int] = {"method": row.label, "budget": row.budget or ""}
        if found is None:
            lines.append({**line, "mean": "no result", "over": 0})
            continue
        line |= {"over": found.value.n, "mean": bare(found.value.mean)}
        line |= {"low": bare(found.value.low), "high": bare(found.value.high)}
        for other, versus in (
            ("random", found.vs_random),
            ("drawn", found.method_vs_random),
            ("zero", found.vs_zero_shot),
        ):
            if versus is not None:
                line |= {
                    other: bare(versus.difference, signed=True),
                    f"{other}_low": bare(versus.low, signed=True),
                    f"{other}_high": bare(versus.high, signed=True),
                    f"{other}_p": probability(versus.p_value),
                    f"{other}_p_holm": probability(versus.p_holm),
                    f"{other}_verdict": versus.verdict,
                }
        lines.append(line)
    heads = {
        "method": "Method",
        "budget": "Budget",
        "over": pairs.capitalize(),
        "mean": f"Mean{unit}",
        "low": "Low",
        "high": "High",
    }
    compared = {"random": "random", "drawn": "random, method", "zero": "zero-shot"}
    known = {key for line in lines for key in line}
    for other, words in compared.items():
        if other not in known:
            continue
        heads |= {
            other: f"Minus {words}{points}",
            f"{other}_low": f"Low of difference to {words}",
            f"{other}_high": f"High of difference to {words}",
            f"{other}_p": f"p against {words}",
            **({f"{other}_p_holm": f"Corrected p against {words}"} if other != "zero" else {}),
            f"{other}_verdict": f"Against {words}",
        }
    texts = ("method", "budget", "random_verdict", "drawn_verdict", "zero_verdict")
    title = sentence(metric.words)
    note = f"{'Lower' if metric.lower_is_better else 'Higher'} is better. "
    if pairs == "seeds":
        shown = [row.metrics[metric.name] for row in rows if metric.name in row.metrics]
        note += f"Mean [95% interval] over seeds{' and test rows' if over_rows(shown) else ''}. "
        note += "Differences: mean less that of random [what of it may be luck]"
    else:
        note += "Means over cells; differences are paired by cell, with 95% intervals"
    note += "; corrected p: Holm's, over the table."
    whole = sheet(name, title, note, heads, lines, [key for key in heads if key not in texts])
    narrow = {"method": "Method", "budget": "Budget", "mean": heads["mean"]}
    narrow |= {"random": heads["random"], "random_p": "p", "random_p_holm": "Corrected p"}
    narrow |= {"zero": heads["zero"]}
    joined = [
        {
            **line,
            **{
                key: f"{line[key]} [{line[low]}, {line[high]}]"
                for key, low, high in (
                    ("mean", "low", "high"),
                    ("random", "random_low", "random_high"),
                    ("zero", "zero_low", "zero_high"),
                )
                if line.get(low)
            },
        }
        for line in lines
    ]
    right = ("budget", "mean", "random", "random_p", "random_p_holm", "zero")
    return replace(whole, paper=sheet(name, title, note, narrow, joined, right))
