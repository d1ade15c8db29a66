"""The section on orderings: how much they agree, ties and score ranges, and each row's margin."""

from __future__ import annotations

from tis_ray.analysis import Method
from tis_ray.analysis.agreement import weight_of_top
from tis_ray.analysis.margins import NEAR
from tis_ray.analysis.recorded import SelectedRow
from tis_ray.report.formatting import MINUS
from tis_ray.report.record import StudyRecord

_TOP = 100  # ranks whose share of the weight is given


def agreement_table(record: StudyRecord) -> dict[str, object] | None:
    """Return the matrix of all orderings: Jaccard below the diagonal, rank-biased overlap above."""
    found = record.agreement
    if not found:
        return None
    size = len(found["names"])
    cells = [[""] * size for _ in range(size)]
    for pair in found["pairs"]:
        left, right = sorted((pair["left"], pair["right"]))
        cells[right][left] = f"{pair['jaccard']:.2f}"
        cells[left][right] = f"{pair['rank_biased']:.2f}"
    names = [record.legend.method(method) for method in found["names"]]
    top = min(_TOP, found["rows"])
    return {
        "names": names,
        "rows": list(zip(names, cells, strict=True)),
        "budget": f"{found['rows']:,}",
        "candidates": f"{found['candidates']:,}",
        "random": f"{found['random']:.3f}",
        "top": f"with p = {found['p']:g} the first {top} ranks have "
        f"{weight_of_top(top, found['p']):.0%} of the weight",
    }


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


def clarity(row: SelectedRow, rows: int) -> list[str]:
    """Return in words how clear the choice of a row was; nothing where nothing is known."""
    words = []
    margin = row.get("margin")
    if margin is not None:
        words.append(f"margin {margin:.4f}".replace("-", MINUS))
    count, nearest = row.get("duplicates"), row.get("nearest_rank")
    if count and nearest is not None:
        some = "a near-duplicate" if count == 1 else f"{count} near-duplicates"
        words.append(f"{some} in the first {rows} (cosine ≥ {NEAR:g}), nearest #{nearest + 1}")
    return words
