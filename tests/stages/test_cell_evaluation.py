"""Tasks in a study: measured on every model, kept by row, refused before anything is trained."""

from __future__ import annotations

import importlib.util
import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from tests.small import small_study
from tis_ray.data import builtin
from tis_ray.errors import InputError
from tis_ray.study.run import run

pytestmark = pytest.mark.ray

CODE = {
    "prompt": "def one():\n",
    "test": "def check(one):\n    assert one() == 1\n",
    "entry_point": "one",
}


def task_file(folder, name, rows, **task):
    (folder / f"{name}.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump({"rows": f"{name}.jsonl", "max_new_tokens": 6, **task}))
    return str(path)


def test_tasks_are_measured_on_every_model_with_and_without_template(ray_cluster, tmp_path):
    upper = task_file(tmp_path, "upper", builtin.test_rows("upper_case", 5, 0), metric="f1")
    sums = [{"prompt": f"{n} plus 1", "answer": n + 1} for n in range(4)]
    tasks = [
        upper,
        task_file(tmp_path, "sums", sums, metric="numeric_match"),
        task_file(tmp_path, "code", [CODE], timeout=1),
    ]
    study = small_study(
        tmp_path, evaluation__tasks=tasks, evaluation__run_code=True, representation="bm25"
    )
    result = run(study)
    names = ("upper/f1", "sums/numeric_match", "code/pass_at_1")
    for cell in result.cells:
        folder = tmp_path / "artifacts" / f"cell-{cell.fingerprint}"
        if cell.method.representation == "zero_shot (no template)":
            folder = folder / "no_template"
        for name in names:
            task, _, metric = name.partition("/")
            rows = pq.read_table(folder / "tasks" / f"{task}.parquet").to_pydict()
            if metric in rows:
                assert cell.metrics[name] == np.mean(rows[metric])
            assert 0 <= cell.metrics[f"{name}_parse_failures"] <= 1
            assert cell.metrics[f"{task}/cut_prompts"] == 0
    zero, plain = (
        pq.read_table(folder / "tasks" / "upper.parquet")["answer"].to_pylist()
        for folder in (
            tmp_path / "artifacts" / f"cell-{result.cells[0].fingerprint}",
            tmp_path / "artifacts" / f"cell-{result.cells[0].fingerprint}" / "no_template",
        )
    )
    assert zero != plain
    page = result.report.read_text()
    for words in ("upper: F1", "sums: numeric match", "code: pass@1"):
        assert words in page
    # Another task is another evaluation; the same task, wherever its file is, is not.
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    again = [task_file(moved, "upper", builtin.test_rows("upper_case", 5, 0), metric="f1")]
    same = run({**study, "evaluation": {**study["evaluation"], "tasks": [again[0], *tasks[1:]]}})
    assert same.record.stages[-2].reused or same.record.stages[-1].reused
    assert [c.fingerprint for c in same.cells] == [c.fingerprint for c in result.cells]


def test_code_tasks_are_refused_before_anything_is_trained(ray_cluster, tmp_path):
    study = small_study(tmp_path, evaluation__tasks=[task_file(tmp_path, "code", [CODE])])
    with pytest.raises(InputError, match=r"evaluation.tasks: code: .* `evaluation.run_code: true`"):
        run(study)
    assert {path.name.partition("-")[0] for path in (tmp_path / "artifacts").iterdir()} == {"rows"}


def test_prompts_that_will_be_cut_are_said(ray_cluster, tmp_path):
    from tis_ray.config import parse_config
    from tis_ray.stages.cell_evaluation import check_evaluation
    from tis_ray.stages.tokens import read_side

    rows = [{"prompt": "word " * 300, "answer": "a"}, {"prompt": "q", "answer": "a"}]
    tasks = [task_file(tmp_path, "long", rows)]
    config = parse_config(small_study(tmp_path, evaluation__tasks=tasks))
    lines = []

    class Log:
        """Keeps what is said."""

        def say(self, *parts):
            lines.append("".join(part if isinstance(part, str) else part[0] for part in parts))

    check_evaluation(config, read_side(config, "test"), Log())
    (line,) = lines
    assert "long:" in line
    assert "1 of 2 prompts are longer than data.max_length 128" in line


@pytest.mark.skipif(
    importlib.util.find_spec("lm_eval") is None, reason="lm-eval (extra `eval`) is not installed"
)
def test_benchmarks_of_lm_eval_are_measured_on_every_model(ray_cluster, tmp_path):
    from tests.evaluation.test_harness import upper

    study = small_study(
        tmp_path, evaluation__lm_eval=[upper(tmp_path)], representation="bm25", seed=[0]
    )
    result = run(study)
    for cell in result.cells:
        assert 0 <= cell.metrics["upper/exact_match"] <= 1
        assert 0 <= cell.metrics["upper/exact_match_parse_failures"] <= 1
    folder = tmp_path / "artifacts" / f"cell-{result.cells[0].fingerprint}"
    for place in (folder, folder / "no_template"):
        assert pq.read_table(place / "tasks" / "upper.parquet").num_rows == 12
    assert "upper: exact match" in result.report.read_text()
