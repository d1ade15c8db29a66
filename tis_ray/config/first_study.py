"""The first study of a file of several, by which the file is checked: `tis_ray.config.plan` makes all."""

from __future__ import annotations

from tis_ray.settings.grid import placed


def written_at(raw: object) -> dict[str, str]:
    """Return where the file has what is filled in, by the key that it is filled in for."""
    values = raw if isinstance(raw, dict) else {}
    grid, tasks = values.get("grid"), values.get("tasks")
    written = {key: f"grid.{key}" for key in grid} if isinstance(grid, dict) else {}
    if isinstance(tasks, dict) and tasks:
        task = values.get("task") or next(iter(tasks))
        written |= {f"data.{side}": f"tasks.{task}.{side}" for side in ("query", "test")}
    return written


def with_task(values: dict[str, object]) -> dict[str, object]:
    """Return raw values with `data.query` and `data.test` of the task that runs, or of the first."""
    tasks, data = values.get("tasks"), values.get("data")
    if not tasks or not isinstance(tasks, dict) or not isinstance(data, dict):
        return values  # the schema's own error is better
    task = values.get("task")
    if task is not None and task not in [*tasks]:
        raise ValueError(f"task: {task!r} is not one of tasks ({', '.join(map(str, tasks))})")
    chosen = next(iter(tasks.values())) if task is None else tasks[task]
    if not isinstance(chosen, dict):
        return values
    for side in ("query", "test"):
        own = [sides.get(side) for sides in tasks.values() if isinstance(sides, dict)]
        if side in data and data[side] not in own:
            raise ValueError(f"data.{side}: each of `tasks` has its own; leave this one out")
    sides = {side: chosen[side] for side in ("query", "test") if side in chosen}
    return {**values, "data": {**data, **sides}}


def with_point(values: dict[str, object]) -> dict[str, object]:
    """Return raw values with the first value of each axis of `grid` in its place."""
    grid = values.get("grid")
    if not isinstance(grid, dict) or not all(isinstance(v, list) and v for v in grid.values()):
        return values  # the schema's own error is better
    for key, axis in grid.items():
        section, _, setting = str(key).partition(".")
        if not setting or section in ("tasks", "grid"):
            raise ValueError(
                f"`grid.{key}`: give a setting of a section, such as `finetune.learning_rate`"
            )
        if any(value in axis[:place] for place, value in enumerate(axis)):
            raise ValueError(f"`grid.{key}`: a value is given twice; keep one")
    try:
        return placed(values, {str(key): axis[0] for key, axis in grid.items()})
    except ValueError as error:
        raise ValueError(f"grid: {error}") from None
