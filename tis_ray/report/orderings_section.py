"""The section on orderings: how much they agree, ties and score ranges."""

from __future__ import annotations

from tis_ray.analysis import Method
from tis_ray.analysis.agreement import weight_of_top
from tis_ray.report.record import StudyRecord
from tis_ray.report.sheets import Sheet

_TOP = 100  # ranks whose share of the weight is given


def agreement_sheet(record: StudyRecord) -> Sheet | None:
    """Return the matrix of all orderings: Jaccard below the diagonal, rank-biased overlap above."""
    found = record.agreement
    if not found:
        return None
    size = len(found["names"])
    cells = [["–"] * size for _ in range(size)]
    for pair in found["pairs"]:
        left, right = sorted((pair["left"], pair["right"]))
        cells[right][left] = f"{pair['jaccard']:.2f}"
        cells[left][right] = f"{pair['rank_biased']:.2f}"
    names = [record.legend.method(method) for method in found["names"]]
    top = min(_TOP, found["rows"])
    return Sheet(
        "agreement",
        "Agreement",
        f"The first {found['rows']:,} rows of each. Below the diagonal: Jaccard index, the rows in both over"
        f" the rows in either; two random subsets of {found['candidates']:,} rows would have"
        f" {found['random']:.3f}. Above it: rank-biased overlap, in which the top counts most (with p ="
        f" {found['p']:g} the first {top} ranks have {weight_of_top(top, found['p']):.0%} of the weight).",
        ("Ordering", *names),
        [(name, *line) for name, line in zip(names, cells, strict=True)],
        frozenset(names),
    )


def score_lines(record: StudyRecord) -> list[dict[str, str]]:
    """Return ties and range of each ordering's scores, as texts."""
    return [
        {
            "name": record.legend.method(Method.from_json(ordering)),
            "rows": f"{scores['rows']:,}",
            "tied": f"{scores['tied']:,}",
            "outside": f"{scores['tied_outside']:,}",
            **{name: f"{scores[name]:.4g}" for name in ("lowest", "median", "highest")},
        }
        for ordering in record.orderings
        if (scores := ordering.get("scores"))
    ]
