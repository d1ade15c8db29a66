"""The section on the search for fine-tuning settings: a line for each trial."""

from __future__ import annotations

from tis_ray.analysis.recorded import Settings, Trial
from tis_ray.metrics.description import describe
from tis_ray.report.formatting import number
from tis_ray.report.record import StudyRecord


def search_table(record: StudyRecord) -> list[dict[str, str]]:
    """Return a line for each trial: the chosen one, others that ended by loss, then the rest."""
    found = record.search
    if found is None:
        return []
    ordered = sorted(found["trials"], key=lambda trial: _place(trial, found["best"]))
    return [
        {
            "settings": ", ".join(f"{key} {value}" for key, value in trial["settings"].items()),
            "epochs": f"{len(trial['query_loss'])} of {found['epochs']}",
            "loss": _last(trial),
            "outcome": _outcome(trial, found["best"], found["epochs"]),
        }
        for trial in ordered
    ]


def _place(trial: Trial, best: Settings) -> tuple[bool, int, float]:
    losses = trial["query_loss"]
    last = losses[-1] if losses and losses[-1] is not None else float("inf")
    return trial["settings"] != best, -len(losses), last


def _last(trial: Trial) -> str:
    losses = trial["query_loss"]
    return (
        number(describe("query_loss"), losses[-1], 3)
        if losses and losses[-1] is not None
        else "none"
    )


def _outcome(trial: Trial, best: Settings, epochs: int) -> str:
    if trial["settings"] == best:
        return "chosen"
    if trial["diverged"]:
        return "diverged"
    return "ended" if len(trial["query_loss"]) == epochs else "stopped early"
