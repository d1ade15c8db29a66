"""The command line: exit code 0 done, 1 failed, 2 bad input, and one line for what went wrong."""

from __future__ import annotations

import errno
import json
import os
import re
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.paper.published import write_published
from tests.report.conftest import make_record
from tis_ray import cli
from tis_ray.cli.answer import answer
from tis_ray.errors import FailedError, InputError
from tis_ray.version import __version__

VERBS = sorted(str(command.callback.__name__) for command in cli.app.registered_commands)  # type: ignore[union-attr]
STUDY = """
name: tiny
data: {pool: pool.jsonl, query: query.jsonl, test: test.jsonl}
budget: 5
"""


class Done(NamedTuple):
    code: int
    out: str
    err: str


Tis = Callable[..., Done]


@pytest.fixture
def tis(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Tis:
    """Run `tis-ray ARGUMENTS` in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> Done:
        monkeypatch.setattr("sys.argv", ["tis-ray", *map(str, arguments)])
        capsys.readouterr()
        code = answer()
        # On some build servers typer colours even what goes to a file.
        out, err = (re.sub(r"\x1b\[[0-9;]*m", "", text) for text in capsys.readouterr())
        return Done(code, out, err)

    return run


@pytest.fixture
def scores(tmp_path: Path) -> Path:
    matrix = np.random.default_rng(0).standard_normal((3, 20)).astype(np.float32)
    np.save(tmp_path / "S.npy", matrix)
    return tmp_path / "S.npy"


@pytest.fixture
def study(tmp_path: Path) -> Path:
    (tmp_path / "study.yaml").write_text(STUDY)
    return tmp_path / "study.yaml"


def refused(done: Done) -> str:
    """Check that `done` is bad input told in one line without a traceback; return the line."""
    assert done.code == 2
    assert done.out == ""
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1
    return done.err


# ---- help ------------------------------------------------------------------------------------


def test_there_is_a_verb_for_each_job() -> None:
    jobs = {"run", "featurize", "score", "select", "finetune", "evaluate", "report", "explain"}
    jobs |= {"analyze", "export", "recommend", "status", "doctor", "submit", "methods", "preview"}
    assert {*VERBS} == jobs | {"subset", "version"}


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_each_verb_shows_an_example(tis: Tis, verb: str) -> None:
    done = tis(verb, "--help")
    assert done.code == 0
    assert f"Example: tis-ray {verb}" in done.out


def test_no_arguments_show_the_verbs(tis: Tis) -> None:
    done = tis()
    assert done.code == 2
    assert "error" not in done.err
    assert all(verb in done.out + done.err for verb in VERBS)


def test_answers_go_to_stdout(tis: Tis) -> None:
    assert tis("version") == Done(0, f"{__version__}\n", "")


# ---- analyze ---------------------------------------------------------------------------------


def test_analyze_draws_published_results(tis: Tis, tmp_path: Path) -> None:
    write_published(tmp_path / "plot_data")
    done = tis("analyze", "plot_data", "--out", "deep/out", "--to", "deep/paper")
    assert (done.code, done.out) == (0, "")
    assert done.err == (
        "analysis: deep/out/index.html\ntables: deep/out/tables.json\nfiles: deep/paper\n"
    )
    tables = json.loads(Path("deep/out/tables.json").read_text())
    found = tables["quantile_heatmap_spearman"]["olmo3-7b"]["true_metric"]["EMBED (RR)"]["codex"]
    assert found == pytest.approx(1.0)
    assert {path.name for path in Path("deep/out").iterdir()} == {"index.html", "tables.json"}
    for kind in ("svg", "pdf", "png"):
        assert len(list(Path("deep/paper/figures").glob(f"olmo3-7b-*.{kind}"))) == 6
    assert Path("deep/paper/tables/results_true_metric.tex").exists()


def test_analyze_names_what_is_wrong_with_a_file(tis: Tis, tmp_path: Path) -> None:
    folder = write_published(tmp_path / "plot_data")
    path = folder / "olmo3-7b" / "budget_ce_loss_zero_shot.csv"
    path.write_text("dataset,dev,test\nbbh,1,2\ncodex,,2\n")
    line = refused(tis("analyze", folder, "--out", "out"))
    assert f"{path}: line 3, column `dev`: found '', expected a finite number" in line
    assert "nowhere: no such folder" in refused(tis("analyze", "nowhere", "--out", "out"))
    assert not Path("out").exists()
    assert tis("analyze", folder).code == 2  # no --out


# ---- select --scores -------------------------------------------------------------------------


def test_select_ranks_a_bare_matrix(tis: Tis, scores: Path) -> None:
    done = tis("select", "--scores", scores, "--budget", 7, "--out", "picked/deep")
    assert done.code == 0
    table = pq.read_table("picked/deep/ordering.parquet")
    assert table.column_names == ["index", "rank", "score", "query"]
    assert table["rank"].to_pylist() == list(range(7))
    matrix = np.load(scores)
    assert len(set(table["index"].to_pylist())) == 7
    for row in table.to_pylist():
        assert row["score"] == matrix[row["query"], row["index"]]
    assert [path.name for path in Path("picked/deep").iterdir()] == ["ordering.parquet"]


@pytest.mark.parametrize("selector", ["round_robin", "doubly_greedy", "random"])
def test_a_smaller_budget_is_a_prefix(tis: Tis, scores: Path, selector: str) -> None:
    for budget in (4, 20):
        arguments = ("--scores", scores, "--selector", selector, "--budget", budget, "--seed", 3)
        assert tis("select", *arguments, "--out", f"b{budget}").code == 0
    few, all_ = (pq.read_table(f"b{budget}/ordering.parquet") for budget in (4, 20))
    assert few.drop_columns(["score"]).equals(all_.slice(0, 4).drop_columns(["score"]))


def test_the_seed_decides_a_random_ordering(tis: Tis, scores: Path) -> None:
    found = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        arguments = ("--scores", scores, "--selector", "random", "--budget", 9, "--seed", seed)
        tis("select", *arguments, "--out", name)
        found.append(Path(name, "ordering.parquet").read_bytes())
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--scores S.npy --budget 21 --out o", "budget 21 exceeds the pool of 20 usable candid"),
        ("--scores S.npy --budget 0 --out o", "budget 0 is too small; give at least 1 example"),
        ("--scores S.npy --budget 5", "select --scores: --budget and --out are needed too"),
        ("--scores S.npy --out o", "select --scores: --budget and --out are needed too"),
        (
            "--scores none.npy --budget 5 --out o",
            "scores: none.npy does not exist; give a file of one of .npy",
        ),
        (
            "--scores study.yaml --budget 5 --out o",
            "study.yaml is not of a known kind; give one of .npy",
        ),
        ("--scores . --budget 5 --out o", "is a folder; give a file of one of .npy"),
        (
            "--scores S.npy --selector round_robbin --budget 5 --out o",
            "selector 'round_robbin' is unknown (did you mean 'round_robin'?)",
        ),
        ("", "select: give either --config FILE or --scores FILE.npy"),
        ("--config study.yaml --scores S.npy", "select: give either --config FILE or --scores"),
        ("--scores S.npy --budget five --out o", "Invalid value for '--budget'"),
        ("--scores S.npy --budgets 5 --out o", "No such option: --budgets"),
    ],
)
def test_bad_arguments_of_select_are_one_line(
    tis: Tis, scores: Path, study: Path, arguments: str, message: str
) -> None:
    assert message in refused(tis("select", *arguments.split()))
    assert not Path("o").exists()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_score_that_is_no_number_is_named(tis: Tis, scores: Path, bad: float) -> None:
    matrix = np.load(scores)
    matrix[1, 13] = bad
    np.save(scores, matrix)
    line = refused(tis("select", "--scores", scores, "--budget", 5, "--out", "o"))
    assert "query 1, candidate 13: every score must be finite" in line
    assert not Path("o").exists()


# ---- preview ---------------------------------------------------------------------------------


@pytest.fixture
def talks(study: Path) -> Path:
    """A study whose rows are talks; the first of the pool tries to act on what shows it."""
    sides = {"pool": 4, "query": 2, "test": 2}
    evil = "<script>alert(1)</script> \x1b[31mred \u202egnp.exe"
    for side, count in sides.items():
        rows: list[dict[str, object]] = [
            {"id": f"{side}{n}", "prompt": evil if not n else f"word {n}", "completion": f"yes {n}"}
            for n in range(count)
        ]
        lines = [*map(json.dumps, rows), "{"] if side == "pool" else [*map(json.dumps, rows)]
        study.with_name(f"{side}.jsonl").write_text("\n".join(lines))
    return study


def test_preview_shows_rows_and_counts_and_writes_nothing(tis: Tis, talks: Path) -> None:
    before = sorted(talks.parent.rglob("*"))
    done = tis("preview", "--config", talks, "--rows", 2)
    assert (done.code, done.err) == (0, "")
    assert "5 rows read = 4 used + 1 refused" in done.out
    assert "1 bad_json (pool.jsonl line 5)" in done.out
    assert "pool1 · pool.jsonl line 2 · source pool · prompt/completion" in done.out
    assert "⟦yes 1</s>⟧" in done.out
    assert "pool2" not in done.out
    assert not {"\x1b", "\u202e"} & {*done.out}
    assert sorted(talks.parent.rglob("*")) == before


def test_preview_of_one_side_as_a_page(tis: Tis, talks: Path) -> None:
    done = tis("preview", "-c", talks, "--side", "pool", "--all", "--html", "out/page.html")
    assert (done.code, done.err) == (0, "preview: out/page.html\n")
    assert "query" not in done.out
    page = Path("out/page.html").read_text()
    assert "default-src 'none'" in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt; \\x1b[31mred \\u202egnp.exe" in page
    assert "<script" not in page


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--task", "add"), "--task: add is not one of the file's tasks (none)"),
        (("--side", "pol"), "Invalid value for '--side'"),
        (("--rows", -1), "Invalid value for '--rows'"),
        (("--set", "data.pool=none.jsonl"), "none.jsonl"),
        (("--html", "."), "--html: . is a folder; give a file"),
        (("--set", "data.template=chat"), "the tokenizer has no chat template"),
    ],
)
def test_bad_arguments_of_preview_are_one_line(
    tis: Tis, talks: Path, arguments: tuple[object, ...], message: str
) -> None:
    assert message in refused(tis("preview", "-c", talks, *arguments))


# ---- configs ---------------------------------------------------------------------------------

WITHOUT = ("analyze", "doctor", "version", "score", "recommend", "methods")
WITH_CONFIG = [verb for verb in VERBS if verb not in WITHOUT]


@pytest.mark.parametrize("verb", WITH_CONFIG)
def test_each_verb_refuses_a_bad_config_before_it_imports_ray(
    tis: Tis, study: Path, verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for slow in (
        "tis_ray.study.run",
        "tis_ray.study.preview",
        "tis_ray.distributed.submit",
        "tis_ray.report",
    ):
        monkeypatch.setitem(sys.modules, slow, None)  # importing it would be an ImportError
    needed = {"export": ("--adapter", "a", "--out", "b"), "subset": ("--to", "rows.jsonl")}
    others = needed.get(verb, ())
    line = refused(tis(verb, "--config", study, "--set", "budgett=3", *others))
    assert "study.yaml: `budgett` is not a known key; did you mean `budget`?" in line
    assert "no such config file" in refused(tis(verb, "--config", "nowhere.yaml", *others))


def test_a_missing_or_unknown_argument_is_one_line(tis: Tis) -> None:
    assert "Missing option '--config' / '-c'; give a study's YAML file or a run's" in refused(
        tis("run")
    )
    assert "No such command 'rnu'. Did you mean 'run'" in refused(tis("rnu"))


def test_square_brackets_reach_the_user(tis: Tis, study: Path) -> None:
    """The console reads [words] in brackets as colours."""
    assert "--set budget=[red]1[/x]" in refused(
        tis("run", "--config", study, "--set", "budget=[red]1[/x]")
    )


def test_a_report_without_a_record_says_what_to_run(tis: Tis, study: Path) -> None:
    assert "tis-ray run" in refused(tis("report", "--config", study))


def test_explain_and_status_of_a_study_that_never_ran(tis: Tis, study: Path) -> None:
    assert "no ordering yet; `tis-ray select`, or" in refused(
        tis("explain", "--config", study, "row-1")
    )
    assert "no ordering yet; `tis-ray select`, or" in refused(tis("explain", "-c", study))
    done = tis("status", "--config", study)
    assert done.code == 0
    assert "not started; `tis-ray run`, or" in done.out


def test_reports_of_several_studies_are_drawn_and_the_page_of_all(tis: Tis, study: Path) -> None:
    study.write_text(f"{STUDY}grid: {{finetune.epochs: [1, 2]}}\n")
    names = ["tiny-finetune.epochs-1", "tiny-finetune.epochs-2"]
    for name, epochs in zip(names, (1, 2), strict=True):
        record = make_record(budgets=(100,), methods=[("less", "round_robin")])
        record.name, record.setting = name, {"finetune.epochs": epochs}
        record.save(Path("runs", name, "report", "record.json"))
    done = tis("report", "--config", study)
    pages = [Path("runs", name, "report", "index.html").absolute() for name in [*names, "tiny"]]
    assert done == Done(0, "", "".join(f"report: {page}\n" for page in pages))
    assert all(name in pages[-1].read_text() for name in names)
    part = tis("report", "--config", study, "--set", "grid.finetune.epochs=[2]")
    assert f"report: {pages[1]}\n" in part.err


# ---- failures --------------------------------------------------------------------------------


def ending(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Let `tis-ray status` end with this error."""

    def fail(*_: Any) -> Iterator[str]:
        raise error

    monkeypatch.setattr("tis_ray.finished.status.status_lines", fail)


def test_a_failure_is_exit_code_one_with_its_traceback(
    tis: Tis, study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ending(monkeypatch, RuntimeError("out of paper"))
    done = tis("status", "--config", study)
    assert done.code == 1
    assert "RuntimeError: out of paper" in done.err


def test_failed_cells_are_exit_code_one_in_one_line(
    tis: Tis, study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ending(monkeypatch, FailedError("1 of 4 cells failed (less [x] B=5); see error.txt"))
    done = tis("status", "--config", study)
    assert done == Done(1, "", "failed: 1 of 4 cells failed (less [x] B=5); see error.txt\n")


def test_each_study_that_failed_is_a_line(
    tis: Tis, study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ending(monkeypatch, FailedError("a: no memory\nb: no disk"))
    done = tis("status", "--config", study)
    assert done == Done(1, "", "failed: a: no memory\nfailed: b: no disk\n")


def test_bad_input_that_a_worker_found_is_exit_code_two(
    tis: Tis, study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrapped = RuntimeError("worker died")
    wrapped.__cause__ = InputError("pool.jsonl: line 3: no assistant turn")
    ending(monkeypatch, wrapped)
    assert refused(tis("status", "--config", study)) == (
        "error: pool.jsonl: line 3: no assistant turn\n"
    )


def test_ctrl_c_is_exit_code_130_without_a_traceback(
    tis: Tis, study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ending(monkeypatch, KeyboardInterrupt())
    done = tis("status", "--config", study)
    assert done.code == 130
    assert done.err.strip() == "stopped; the same command continues"


def test_a_full_disk_is_one_line(tis: Tis, study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ending(monkeypatch, OSError(errno.ENOSPC, "No space left on device", "runs/x"))
    done = tis("status", "--config", study)
    assert done.code == 1
    assert done.err.startswith("failed: runs/x: the disk is full; free some space")
    assert done.err.count("\n") == 1


@pytest.mark.parametrize("problem", [False, True])
def test_doctor_fails_when_a_check_does(
    tis: Tis, monkeypatch: pytest.MonkeyPatch, problem: bool
) -> None:
    from tis_ray.study.doctor import Check

    found = [Check("python", "3.11"), Check("disk", "0.1 GiB [free] here", problem)]
    monkeypatch.setattr("tis_ray.study.doctor.checks", lambda: iter(found))
    done = tis("doctor")
    assert done.code == int(problem)
    assert "0.1 GiB [free] here" in done.err + done.out


@pytest.mark.parametrize("code", [0, 1])
def test_submit_ends_with_the_code_of_the_job(
    tis: Tis, study: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    module = type(sys)("tis_ray.distributed.submit")
    module.submit_study = lambda *_: code  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tis_ray.distributed.submit", module)
    assert tis("submit", "--config", study).code == code


@pytest.mark.parametrize("option", ["--version", "-V"])
def test_the_version_is_an_option(tis: Tis, option: str) -> None:
    assert tis(option) == (0, f"{__version__}\n", "")


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_answers_h(tis: Tis, verb: str) -> None:
    assert tis(verb, "-h").out == tis(verb, "--help").out


def test_a_misspelt_option_is_one_line_with_the_right_one(tis: Tis) -> None:
    assert "No such option: --confg" in (line := refused(tis("run", "--confg", "x")))
    assert "--config" in line


def test_a_shell_completes_verbs(scores: Path) -> None:
    program = "import sys; sys.argv[0] = 'tis-ray'; from tis_ray.cli import main; main()"
    asked = {"_TIS_RAY_COMPLETE": "complete_bash", "COMP_WORDS": "tis-ray sc", "COMP_CWORD": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env={**os.environ, **asked},
        check=False,
    )
    assert done.stdout.split() == ["score"]


def test_help_takes_no_time() -> None:
    began = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "tis_ray.cli", "--help"], capture_output=True, check=True)
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = ended.ru_utime + ended.ru_stime - began.ru_utime - began.ru_stime
    assert spent < 1.5  # 0.3 on a free machine; torch alone takes 4


# ---- processes -------------------------------------------------------------------------------


def test_the_package_and_its_help_import_neither_torch_nor_ray() -> None:
    code = (
        "import sys, tis_ray, tis_ray.cli; "
        "print([m for m in ('torch', 'ray', 'transformers', 'mlflow') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


SLOW = ("numpy", "pyarrow", "tis_ray.config", "tis_ray.data", "torch", "ray")


def test_help_and_the_status_of_a_run_folder_import_nothing_slow(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "moved"
    run.mkdir(parents=True)
    (run / "config.yaml").write_text("written by another version: true\n")
    start = {"event": "start", "time": 1.7e9, "until": "report", "command": "tis-ray run", "pid": 0}
    ended = {"event": "done", "time": 1.7e9 + 7}
    (run / "events.jsonl").write_text(f"{json.dumps(start)}\n{json.dumps(ended)}\n")
    study = tmp_path / "study.yaml"
    study.write_text(f"name: moved\nruns: {run.parent}\n")
    status = [(["status", "-c", str(path)], "moved: start 1") for path in (run, study)]
    for words, said in [(["--help"], "Usage"), *status]:
        code = (
            f"import sys; sys.argv[1:] = {words!r}; from tis_ray.cli.answer import answer; "
            f"assert answer() == 0; print([m for m in {SLOW!r} if m in sys.modules])"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert said in done.stdout, done.stderr
        assert done.stdout.splitlines()[-1] == "[]"


def test_a_preview_starts_no_cluster(talks: Path) -> None:
    code = (
        "import sys; from tis_ray.config import load_config; from tis_ray.study.preview import previews; "
        f"previews(load_config({str(talks)!r})); "
        "print([m for m in ('ray', 'mlflow', 'peft') if m in sys.modules])"
    )
    folder = talks.parent
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=folder
    )
    assert done.stdout.strip() == "[]"


def test_the_python_api_is_one_attribute_away() -> None:
    import tis_ray

    ordering = tis_ray.select(np.eye(4, dtype=np.float32), selector="round_robin", budget=2)
    assert isinstance(ordering, tis_ray.Ordering)
    assert issubclass(tis_ray.InputError, ValueError)
    assert tis_ray.gradients.__name__ == "tis_ray.gradients"
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = tis_ray.nothing


def test_a_whole_process_ends_with_the_code(scores: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tis_ray.cli", "select", "--scores", str(scores), "--budget"]
    for budget, code in (("5", 0), ("50", 2)):
        done = subprocess.run(
            [*command, budget, "--out", str(tmp_path / budget)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code
        assert "Traceback" not in done.stderr
        assert (tmp_path / budget / "ordering.parquet").exists() == (code == 0)
