"""Reading published results: the grid, and what is told when it has holes."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from tests.paper.published import BASE, loss_of, write_published
from tis_ray.errors import InputError
from tis_ray.paper.published import is_published, read_published


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_published(tmp_path / "plot_data", sub=True)


def test_every_run_is_in_its_place_whatever_the_order_of_the_file(folder: Path) -> None:
    results = read_published(folder)
    assert results.models == ("llama2-7b", "olmo3-7b")
    assert results.tasks == ("bbh", "codex")
    assert [m.name for m in results.methods] == list(BASE)  # the paper's order
    assert (results.budgets, results.seeds) == ((500, 1000), (0, 1, 2))
    for place in np.ndindex(results.runs["dev"].shape):
        i, j, a, b, s = place
        expected = loss_of(i, j, list(BASE)[a], results.budgets[b], s)
        assert results.runs["dev"][place] == expected
        assert results.runs["true_metric"][place] == 100 * (1 - expected)
    assert results.quantiles["dev"].shape == (2, 2, 2, 10)
    assert results.representations == ("EMBED (RR)", "LESS (RR)")
    assert list(results.subquantiles) == ["llama2-7b"]


def test_methods_fall_into_the_papers_two_families(folder: Path) -> None:
    results = read_published(folder)
    found = [
        (f.name, [results.methods[a].name for a in f.methods], results.methods[f.reference].name)
        for f in results.families()
        if f.reference is not None
    ]
    assert found == [
        ("data_representation", ["Random", "EMBED (RR)", "LESS (RR)"], "LESS (RR)"),
        ("sel_alg", ["Random", "LESS (RR)", "LESS (UOT)"], "LESS (RR)"),
    ]


def test_one_models_folder_is_enough(folder: Path) -> None:
    results = read_published(folder / "olmo3-7b")
    assert results.models == ("olmo3-7b",)
    assert list(results.scopes) == ["olmo3-7b"]


def test_other_folders_are_not_published_results(folder: Path, tmp_path: Path) -> None:
    assert is_published(folder)
    assert not is_published(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="no model's folder with budget_ce_loss"):
        read_published(tmp_path / "elsewhere")


def edited(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


BUDGET = "budget_ce_loss_budget.csv"


@pytest.mark.parametrize(
    ("file", "old", "new", "told"),
    [
        (
            BUDGET,
            "num_samples",
            "samples",
            "no column `num_samples`; found dataset, method, samples",
        ),
        (BUDGET, "dataset,method,num_samples,seed,dev", "", "no column `dataset`"),
        (
            BUDGET,
            "LESS (UOT),500,2,0.64",
            "LESS (UOT),500,2,?",
            "line 2, column `dev`: found '?', exp",
        ),
        (
            BUDGET,
            ",500,2,",
            ",,2,",
            "line 2, column `num_samples`: found '', expected a whole number",
        ),
        (BUDGET, "LESS (UOT),500,0,0.59", "LESS (UOT),500,0,nan#", "column `dev`: found 'nan#"),
        (
            BUDGET,
            "bbh,LESS (UOT),500,0",
            "bbh,LESS (UOT),500,1",
            "line 4: dataset bbh, method LESS",
        ),
        (
            "budget_true_metric_budget.csv",
            ",500,2,",
            ",700,2,",
            "column `num_samples`: found 700; ",
        ),
        (
            "budget_ce_loss_zero_shot.csv",
            "codex",
            "humaneval",
            "column `dataset`: found 'humaneval'",
        ),
        (
            BUDGET,
            "seed,dev",
            "dev,dev",
            "no column `seed`; found dataset, method, num_samples, dev, dev",
        ),
        (BUDGET, "seed,dev,test", "seed,dev,test,dev", "more than one column `dev`"),
        (
            BUDGET,
            "bbh,LESS (UOT),500,0,",
            "\n\nbbh,LESS (UOT),500,0,1,",
            "more values than columns",
        ),
        (
            BUDGET,
            "bbh,LESS (UOT),1000,2,",
            "\n\nbbh,LESS (UOT),1000,x,",
            "line 7, column `seed`: found 'x'",
        ),
        ("binning_true_metric_quantile.csv", "(RR),9,", "(RR),10,", "column `bin`: found 10"),
    ],
)
def test_a_bad_file_is_named_with_its_line_and_column(
    folder: Path, file: str, old: str, new: str, told: str
) -> None:
    edited(folder / "llama2-7b" / file, old, new)
    with pytest.raises(InputError) as caught:
        read_published(folder)
    assert str(caught.value).startswith(f"{folder / 'llama2-7b' / file}: ")
    assert told in str(caught.value)


def test_infinite_and_empty_numbers_are_refused(folder: Path) -> None:
    path = folder / "olmo3-7b" / "budget_true_metric_zero_shot.csv"
    path.write_text("dataset,true_metric\nbbh,inf\ncodex,1\n")
    with pytest.raises(
        InputError, match="line 2, column `true_metric`: found 'inf', expected a fin"
    ):
        read_published(folder)
    path.write_text("dataset,true_metric\n")
    with pytest.raises(InputError, match="no rows below the header"):
        read_published(folder)


def test_a_missing_row_and_a_missing_file_are_told(folder: Path) -> None:
    path = folder / "olmo3-7b" / BUDGET
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-1]))
    with pytest.raises(
        InputError,
        match=r"no row with dataset codex, method Random, num_samples 1000, seed 1 \(1 of 48",
    ):
        read_published(folder)
    path.unlink()
    with pytest.raises(InputError, match="no such file; each model"):
        read_published(folder)


def test_without_random_nothing_can_be_compared(folder: Path) -> None:
    for model in ("llama2-7b", "olmo3-7b"):
        for kind in ("ce_loss", "true_metric"):
            path = folder / model / f"budget_{kind}_budget.csv"
            path.write_text(path.read_text().replace("Random", "Chance"))
    with pytest.raises(InputError, match="column `method`: no `Random`"):
        read_published(folder)


def test_values_are_finite(folder: Path) -> None:
    results = read_published(folder)
    assert all(math.isfinite(v) for array in results.runs.values() for v in array.ravel())
