"""A cell trains on the rows that were ordered or fails by name, and leaves its process as it was."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from tests.memory_kill import error_without_memory
from tests.small import small_study
from tests.stages.here import context_here
from tis_ray.distributed.lost import killed_for_memory
from tis_ray.models.builtin import PATH
from tis_ray.stages.cell_evaluation import Evaluation
from tis_ray.stages.cell_training import CellOrder, cell_loop
from tis_ray.stages.cells import CellPlan, CellRows, _order, cell_artifact, plan_cells
from tis_ray.stages.tokens import prepare_side, read_side
from tis_ray.stages.training_rows import LostRowsError
from tis_ray.store.sides import SIDES
from tis_ray.study.run import run
from tis_ray.training.loop import UnmovedError


def orders_of(folder: Path, **changes: Any) -> list[CellOrder]:
    """Return what the cells of a small study are ordered to do: zero-shot twice, then random."""
    context = context_here(small_study(folder, evaluation__metrics=[], **changes), folder)
    config = context.config
    pool, query, test = (prepare_side(context, side, read_side(config, side)) for side in SIDES)
    evaluation = Evaluation.of(config, query, test)
    cells = plan_cells(config, pool, [])
    rows = CellRows(pool, cells)
    return [
        _order(cell, cell_artifact(cell, config, pool, evaluation), context, pool, rows, evaluation)
        for cell in cells
    ]


def metrics(order: CellOrder) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((order.folder / "metrics.json").read_text())
    return found


def lost(file: Path, other: Path) -> None:
    file.unlink()


def cut(file: Path, other: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def swapped(file: Path, other: Path) -> None:
    shutil.copy(other, file)


@pytest.mark.parametrize(
    ("spoil", "what"),
    [(lost, "is missing"), (cut, "was changed or cut"), (swapped, "was changed or cut")],
)
def test_a_cell_without_its_rows_is_an_error_that_names_it(
    tmp_path: Path, spoil: Any, what: str
) -> None:
    """Not zero-shot under the method's name; and not another cell's rows, as many as they are."""
    *_, order, other = orders_of(tmp_path, seed=[0, 1])
    assert order.subset is not None
    assert other.subset is not None
    assert order.subset.rows == other.subset.rows == 12
    spoil(order.subset.file, other.subset.file)
    message = rf"random B=12 seed 0: .*examples\.parquet {what}, so the 12 rows to train on"
    with pytest.raises(LostRowsError, match=message):
        cell_loop(order)
    assert not (order.folder / "metrics.json").exists()


def test_an_order_is_small_and_survives_pickling(tmp_path: Path) -> None:
    for order in orders_of(tmp_path):
        content = pickle.dumps(order)
        assert len(content) < 20_000
        assert pickle.loads(content).subset == order.subset


def test_zero_shot_is_ordered_and_no_method_has_no_rows(tmp_path: Path) -> None:
    zero, plain, random = orders_of(tmp_path)
    assert zero.subset is None
    assert plain.subset is None
    assert random.subset is not None
    with pytest.raises(ValueError, match="rds uot B=12 seed 0 has no rows to train on"):
        CellPlan("rds", "uot", 12, 0, np.array([], dtype=np.int64))


ONE_STEP = {"finetune__batch_size": 128, "finetune__epochs": 1}


def test_one_step_trains_and_a_cell_that_did_not_move_is_an_error(tmp_path: Path) -> None:
    zero, _, order = orders_of(tmp_path / "a", **ONE_STEP)
    cell_loop(zero)
    cell_loop(order)
    found = metrics(order)
    assert found["optimizer_steps"] == 1
    assert found["test_loss"] != metrics(zero)["test_loss"]
    *_, order = orders_of(tmp_path / "b", **ONE_STEP, finetune__learning_rate=1e-37)
    order = CellOrder(
        **{**vars(order), "training": order.training.model_copy(update={"learning_rate": 1e-60})}
    )
    with pytest.raises(UnmovedError, match="no weight moved"):
        cell_loop(order)


def test_a_cell_leaves_torchs_threads_as_they_were(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        for order in orders_of(tmp_path):
            cell_loop(order)
            assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


# ---- memory ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model_of_26m(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model of 26M random weights (the shipped one is too small to show a leak)."""
    folder = tmp_path_factory.mktemp("model")
    for file in PATH.glob("token*"):
        shutil.copy(file, folder)
    torch.manual_seed(0)
    LlamaForCausalLM(
        LlamaConfig(
            vocab_size=32_000,
            hidden_size=384,
            intermediate_size=1024,
            num_hidden_layers=8,
            num_attention_heads=6,
            num_key_value_heads=2,
            tie_word_embeddings=True,
        )
    ).save_pretrained(folder)
    return folder


def peaks(artifacts: Path) -> Iterator[float]:
    """Yield the peak memory in MB of the process that trained the cells, after each."""
    files = artifacts.glob("cell-*/manifest.json")
    for file in sorted(files, key=lambda path: path.stat().st_mtime):
        yield json.loads(file.read_text())["peak_mb"]


@pytest.mark.ray
@pytest.mark.slow
def test_a_process_that_trains_many_cells_stays_as_large_as_it_is(
    ray_cluster: Any, tmp_path: Path, model_of_26m: Path
) -> None:
    """Flat from the second cell on; it grew by 40 MB a cell, the more the larger the model."""
    run(
        small_study(
            tmp_path,
            model__name=str(model_of_26m),
            representation="bm25",
            seed=[0, 1, 2],
            budget=32,
            finetune__epochs=1,
            evaluation__metrics=[],
            compute__actors=1,
        ),
        until="evaluate",
    )
    found = list(peaks(tmp_path / "artifacts"))
    assert len(found) == 1 + 3 + 3  # zero-shot, random, BM25
    assert found[-1] - found[1] < 60, found


KILLED = """
import sys
from pathlib import Path
from tis_ray.distributed.starting import start_here
from tis_ray.distributed.trials import run_trials

def work(size):
    import time
    rows = bytearray(size)
    time.sleep(120)

if __name__ == "__main__":
    start_here(num_cpus=2, log_to_driver=False)
    errors = run_trials("killed", work, {"one": 2**28}, Path(sys.argv[1]), resources={"CPU": 1}, at_once=1)
    Path(sys.argv[1], "error.txt").write_text(errors["one"])
"""


@pytest.mark.ray
@pytest.mark.slow
def test_a_trial_that_is_killed_for_memory_is_told_in_a_line(tmp_path: Path) -> None:
    """By a Ray that allows no more memory than is already used."""
    error = error_without_memory(KILLED, tmp_path)
    line = killed_for_memory(error)
    assert line is not None, error
    assert "\n" not in line
    assert "was killed by Ray's memory monitor: it held 0." in line
    assert "compute.actors: 1" in line
    assert "finetune.micro_tokens" in line
    assert killed_for_memory("ValueError: another matter") is None
