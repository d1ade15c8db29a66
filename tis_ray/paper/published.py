"""Reading the results that the paper published: a folder of CSV files for each model.

    <model>/binning_ce_loss_quantile.csv        dataset, method, bin, dev, test
    <model>/binning_true_metric_quantile.csv    dataset, method, bin, true_metric
    <model>/sub_bin0_focus_{...}_quantile.csv   the same of the first bin cut again; may be absent
    <model>/budget_ce_loss_budget.csv           dataset, method, num_samples, seed, dev, test
    <model>/budget_true_metric_budget.csv       dataset, method, num_samples, seed, true_metric
    <model>/budget_ce_loss_zero_shot.csv        dataset, dev, test
    <model>/budget_true_metric_zero_shot.csv    dataset, true_metric

`dev` is the mean loss on the query set, `test` the same on the test split (which the paper never
plots: prompts and labels of some tasks have another format there), `true_metric` the task's own
metric from 0 to 100. `bin` counts from 0, nearest to the queries first; the script draws it from 1.

What its plotting script (`plot_quantile_budget.py`) does, and what decides numbers:

- A budget line is the mean over the seeds 0, 1, 2, its band one standard error: the standard
  deviation with n - 1, over √n. Files need not be sorted by seed; here seeds are sorted.
- Random's seed draws the subset too; of the others it varies the training alone.
- Nothing is averaged over tasks or models, smoothed or normalised. The sums over cells in our
  tables are ours.
- The zero-shot line is one number without a seed. The files of both pools repeat it.
- A cell of the heatmap is pandas' Spearman (average ranks) between `bin` and the value over the ten
  runs of one seed, blank below two runs. It draws no p-values and no intervals.
- It drops no row: the files hold no NaN and no duplicate. So neither is accepted here, nor is a row
  missing: a grid with holes would pair and rank methods over different cells.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from tis_ray.analysis import Method
from tis_ray.analysis.result_arrays import RANDOM, Labelled, Results, scopes_of
from tis_ray.analysis.study_values import RANDOM_METHOD
from tis_ray.errors import InputError
from tis_ray.metrics.description import MetricDescription
from tis_ray.store import read_text

MODELS = ("llama2-7b", "llama3.2-3b", "smollm3-3b-base", "qwen3-4b-base", "olmo3-7b")
TASKS = ("bbh", "codex", "gsm8k", "tydiqa", "mmlu_pro")
METHODS = (
    RANDOM,
    "RDS+ (RR)",
    "EMBED (RR)",
    "LESS (RR)",
    "LESS (DG)",
    "LESS (KNN-Unif.)",
    "LESS (KNN-KDE)",
    "LESS (UOT)",
)
"""The paper's orders. Other models, tasks and methods follow them, in the order of the files."""

REFERENCE = Method("LESS", "RR")

METRICS = {
    "bbh": "Average Exact Match",
    "codex": "Pass@10",
    "gsm8k": "Exact Match",
    "tydiqa": "Average F1",
    "mmlu_pro": "Exact Match",
}
PUBLISHED = (
    MetricDescription("dev", "query loss", lower_is_better=True, share=False),
    MetricDescription("test", "test loss", lower_is_better=True, share=False),
    MetricDescription("true_metric", "test metric", lower_is_better=False, share=False),
)
FIGURE_NAMES = {"dev": "ce_loss_dev", "true_metric": "true_metric"}
QUANTILE_FIGURE_NAMES = {"dev": "ce_loss", "true_metric": "true_metric"}
"""How the plotting script names its files; it draws no test loss."""
FILES = {"ce_loss": ("dev", "test"), "true_metric": ("true_metric",)}
"""Which metrics are columns of which files."""

Rows = list[dict[str, Any]]


def is_published(folder: Path) -> bool:
    """Whether a folder, or a folder in it, looks like the paper's results of a model."""
    return bool(_model_folders(folder))


def read_published(folder: str | Path) -> Results:
    """Read the published files below `folder`: one of several models' folders, or of one model.

    Raises InputError that names the file, and the column or row, where one is missing, given
    twice or not a number, or where files and models do not hold the same grid.
    """
    folder = Path(folder)
    found = _model_folders(folder)
    if not found:
        raise InputError(
            f"{folder}: no model's folder with budget_ce_loss_budget.csv in it; give the folder of"
            " the paper's published results, such as plot_data_tulu"
        )
    models = _ordered(found, MODELS)
    folders = [found[model] for model in models]
    budget = _rows(
        folders[0] / "budget_ce_loss_budget.csv",
        {"dataset": str, "method": str, "num_samples": int, "seed": int},
    )
    quantile = _rows(
        folders[0] / "binning_ce_loss_quantile.csv", {"dataset": str, "method": str, "bin": int}
    )
    tasks = _ordered((row["dataset"] for row in budget), TASKS)
    names = _ordered((row["method"] for row in budget), METHODS)
    if names[0] != RANDOM:
        raise InputError(
            f"{folders[0] / 'budget_ce_loss_budget.csv'}: column `method`: no `{RANDOM}`, found"
            f" {', '.join(names)}; nothing can be compared without it"
        )
    axes: dict[str, Sequence[Any]] = {"dataset": tasks, "method": names}
    axes |= {axis: sorted({row[axis] for row in budget}) for axis in ("num_samples", "seed")}
    representations = _ordered((row["method"] for row in quantile), METHODS)
    bins: dict[str, Sequence[Any]] = {"dataset": tasks, "method": representations}
    bins["bin"] = sorted({row["bin"] for row in quantile})
    scopes = scopes_of(models)
    if tuple(models) == MODELS:
        scopes["four_newer_models"] = (1, 2, 3, 4)
    return Results(
        name=folder.resolve().name,
        models=tuple(models),
        tasks=tuple(tasks),
        methods=tuple(_method(name) for name in names),
        budgets=tuple(axes["num_samples"]),
        seeds=tuple(axes["seed"]),
        metrics=PUBLISHED,
        figure_names=FIGURE_NAMES,
        quantile_figure_names=QUANTILE_FIGURE_NAMES,
        reference=REFERENCE,
        loss="dev",
        metric="true_metric",
        runs=_stacked(folders, "budget_{}_budget.csv", axes),
        zero_shot=_stacked(folders, "budget_{}_zero_shot.csv", {"dataset": tasks}),
        representations=tuple(representations),
        quantiles=_stacked(folders, "binning_{}_quantile.csv", bins),
        first_quantile_repeats=True,
        subquantiles={
            model: {
                measure: values_1JRQ[0]
                for measure, values_1JRQ in _stacked(
                    [found[model]], "sub_bin0_focus_{}_quantile.csv", bins
                ).items()
            }
            for model in models
            if any(found[model].glob("sub_bin0_focus_*_quantile.csv"))
        },
        metric_words=METRICS,
        scopes=scopes,
        # Scored zero-shot, some fine-tuned models get 0: they no longer answer in its format.
        doubtful_tasks=("mmlu_pro",) if "mmlu_pro" in tasks else (),
    )


def _model_folders(folder: Path) -> dict[str, Path]:
    """Return model name → folder: of those inside, or the folder itself."""
    marks = ("budget_*_budget.csv", "binning_*_quantile.csv")
    inside = [folder, *sorted(path for path in folder.glob("*") if path.is_dir())]
    found = [path for path in inside if any(any(path.glob(mark)) for mark in marks)]
    return {path.resolve().name: path for path in found}


def _method(name: str) -> Labelled:
    """Split a name such as "LESS (KNN-KDE)" into representation and selector, as the files call them."""
    if name == RANDOM:
        return Labelled(RANDOM_METHOD, RANDOM, RANDOM)
    representation, _, selector = name.partition(" (")
    return Labelled(
        Method(representation, selector.removesuffix(")") or None), name, representation
    )


def _ordered(values: Any, known: Sequence[str]) -> list[str]:
    """Return the distinct values, the known ones first and in their order."""
    distinct = list(dict.fromkeys(values))
    return [v for v in known if v in distinct] + [v for v in distinct if v not in known]


def _stacked(
    folders: Sequence[Path], pattern: str, axes: dict[str, Sequence[Any]]
) -> dict[str, np.ndarray]:
    """Return measure → values (models, *axes) from the files of this pattern in each folder."""
    found: dict[str, list[np.ndarray]] = {}
    for folder in folders:
        for kind, columns in FILES.items():
            path = folder / pattern.format(kind)
            kinds = {axis: int if axis in ("num_samples", "seed", "bin") else str for axis in axes}
            rows = _rows(path, kinds | dict.fromkeys(columns, float))
            for column in columns:
                found.setdefault(column, []).append(_filled(path, rows, axes, column))
    return {column: np.stack(arrays) for column, arrays in found.items()}


def _filled(path: Path, rows: Rows, axes: dict[str, Sequence[Any]], column: str) -> np.ndarray:
    """Return one column as an array over the axes; every place must be given exactly once."""
    places = {name: {value: i for i, value in enumerate(axis)} for name, axis in axes.items()}
    array = np.full([len(axis) for axis in axes.values()], np.nan)
    for row in rows:
        for name, known in places.items():
            if row[name] not in known:
                listed = ", ".join(map(str, known))
                raise InputError(
                    f"{path}: line {row['line']}, column `{name}`: found {row[name]!r};"
                    f" the first model's files have {listed}"
                )
        place = tuple(known[row[name]] for name, known in places.items())
        if not math.isnan(array[place]):
            raise InputError(f"{path}: line {row['line']}: {_place(axes, place)} is given twice")
        array[place] = row[column]
    missing = np.argwhere(np.isnan(array))
    if len(missing):
        raise InputError(
            f"{path}: no row with {_place(axes, tuple(missing[0]))}"
            f" ({len(missing)} of {array.size} are missing)"
        )
    return array


def _place(axes: dict[str, Sequence[Any]], place: tuple[int, ...]) -> str:
    return ", ".join(f"{n} {axis[i]}" for (n, axis), i in zip(axes.items(), place, strict=True))


def _rows(path: Path, columns: dict[str, type]) -> Rows:
    """Return the rows of a CSV file, its columns as the types asked for, with their lines."""
    try:
        reader = csv.DictReader(StringIO(read_text(path).removeprefix("\ufeff")))
        given = reader.fieldnames or []
        raw = [(reader.line_num, row) for row in reader]
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; each model's folder must have it") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as CSV ({error})") from None
    for column in columns:
        if given.count(column) != 1:
            many = "more than one" if column in given else "no"
            listed = ", ".join(given) or "nothing"
            raise InputError(f"{path}: {many} column `{column}`; found {listed}")
    if not raw:
        raise InputError(f"{path}: no rows below the header")
    rows: Rows = []
    for line, row in raw:
        if None in row:  # where the csv module puts what no column is left for
            raise InputError(
                f"{path}: line {line}: more values than columns; put values with a comma in quotes"
            )
        rows.append({"line": line})
        for column, kind in columns.items():
            text = (row[column] or "").strip()
            try:
                value = kind(text)
            except ValueError:
                value = None
            if not text or value is None or (kind is float and not math.isfinite(value)):
                words = {str: "a name", int: "a whole number", float: "a finite number"}[kind]
                raise InputError(
                    f"{path}: line {line}, column `{column}`: found {text!r}, expected {words}"
                )
            rows[-1][column] = value
    return rows
