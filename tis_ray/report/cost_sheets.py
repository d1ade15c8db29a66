"""Tables of what a study cost, by stage and by artifact."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from tis_ray.analysis import StageCost
from tis_ray.report.formatting import duration
from tis_ray.report.sheets import Sheet, Value, sheet


def costs_sheet(stages: Iterable[StageCost]) -> Sheet:
    """Return one line a stage: its artifacts added up."""
    groups: dict[str, list[StageCost]] = defaultdict(list)
    for stage in stages:
        groups[stage.stage].append(stage)
    lines: list[dict[str, Value]] = []
    for name, parts in groups.items():
        seconds = spent(parts)
        peak = max(p.peak_mb for p in parts)
        lines.append(
            {
                "stage": name,
                "artifacts": len(parts),
                "reused": sum(p.reused for p in parts),
                "computed": duration(seconds["computed"]),
                "saved": duration(seconds["saved"]),
                "rows": sum(p.rows for p in parts),
                "quarantined": sum(p.quarantined for p in parts),
                "device": ", ".join(sorted({p.device for p in parts} - {""})),
                "peak": f"{peak:,.0f} MB" if peak else "–",
            }
        )
    heads = {
        "stage": "Stage",
        "artifacts": "Artifacts",
        "reused": "Reused",
        "computed": "Computed",
        "saved": "Saved by reuse",
        "rows": "Rows",
        "quarantined": "Quarantined",
        "device": "Device",
        "peak": "Peak memory",
    }
    right = ("computed", "saved", "peak")
    return sheet("costs", "Cost by stage", "Wall time, rows and peak memory.", heads, lines, right)


def artifacts_sheet(stages: Iterable[StageCost]) -> Sheet:
    """Return one line an artifact."""
    return Sheet(
        "artifacts",
        "Every artifact",
        "In the order they were made or found.",
        ("Artifact", "Stage", "Status", "Seconds", "Rows", "Quarantined", "Device"),
        [
            (
                stage.artifact,
                stage.stage,
                "reused" if stage.reused else "computed",
                f"{stage.seconds:.1f}",
                stage.rows,
                stage.quarantined,
                stage.device,
            )
            for stage in stages
        ],
        frozenset({"Seconds"}),
    )


def spent(stages: Iterable[StageCost]) -> Mapping[str, float]:
    """Return seconds spent now, and seconds saved by reuse."""
    seconds = {"computed": 0.0, "saved": 0.0}
    for stage in stages:
        seconds["saved" if stage.reused else "computed"] += stage.seconds
    return seconds
