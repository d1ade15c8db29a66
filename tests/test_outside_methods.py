"""Methods from outside the package take part in a study as ours do: found, priced, run, shown, tracked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from pydantic import ValidationError

from tests.small import small_study
from tis_ray.config import Config, parse_config
from tis_ray.data.builtin import pool_rows
from tis_ray.errors import InputError
from tis_ray.methods import Method
from tis_ray.metrics import METRICS
from tis_ray.representations import REPRESENTATIONS, Representation
from tis_ray.selectors import SELECTORS, select
from tis_ray.settings import Section

PLUGIN = Path(__file__).parent / "plugin"
OWN = '''
"""A module beside the config, installed nowhere."""
import numpy as np
from tis_ray.representations import Features
from tis_ray.selectors.heads import merged_heads
from tis_ray.selectors.ordering import Ordering
from tis_ray.selectors.protocol import Layout, TopShard


def by_mean(scores_MN, budget, *, sign: int = 1):
    """Best mean first."""
    return np.argsort(-sign * scores_MN.mean(axis=0), kind="stable")


class Mean:
    """The same, answered by shards."""

    def __init__(self, scores_Mn, offset):
        self.means = TopShard(np.asarray(scores_Mn, np.float64).mean(axis=0, keepdims=True), offset)

    def heads(self, *arguments):
        return self.means.top(*arguments)

    @staticmethod
    def coordinate(layout, budget):
        (indices,), (scores,) = yield from merged_heads(Layout(1, layout.sizes), budget, "heads")
        return Ordering(indices, scores, np.full(budget, -1, np.int32), "Mean")


class Lengths:
    """Rows by their lengths."""

    def __init__(self, build):
        pass

    def features(self, rows, side):
        values = np.array([[len(row["input_ids"]), 30.0] for row in rows]).reshape(len(rows), 2)
        values /= np.linalg.norm(values, axis=1, keepdims=True)
        return Features(values[:, None].astype(np.float32), {}, {})


def half(answer, references, *, of: float = 1.0):
    """Always half of something."""
    return of / 2
'''


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the plugin package, installed by pip."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
    command += ["--no-build-isolation", "--target", str(folder), str(PLUGIN)]
    subprocess.run(command, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="session")
def outside(site: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A folder with files and a module of one's own, and a function that runs `tis-ray` there."""
    folder = tmp_path_factory.mktemp("outside")
    (folder / "mine.py").write_text(OWN)
    rng = np.random.default_rng(0)
    np.save(folder / "S.npy", rng.normal(size=(4, 160)).astype(np.float32))
    np.save(folder / "F.npy", rng.normal(size=(160, 5)).astype(np.float32))
    np.save(folder / "Q.npy", rng.normal(size=(4, 5)).astype(np.float32))
    ids = [row["id"] for row in pool_rows(160, 0)]
    pq.write_table(pa.table({"id": ids[20:60]}), folder / "order.parquet")
    path = os.pathsep.join([str(Path(__file__).parents[1]), str(site)])

    def tis_ray(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "tis_ray.cli", *arguments],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": path},
            check=check,
            capture_output=True,
            text=True,
        )

    return folder, tis_ray


def study(folder: Path) -> dict[str, Any]:
    return small_study(
        folder,
        representation=[
            "letters",
            "shared_words",
            "mine:Lengths",
            {"scores": "S.npy", "name": "scored"},
            {"features": "F.npy", "queries": "Q.npy", "name": "vectors", "label": "My vectors"},
            {"ordering": "order.parquet", "name": "ready"},
        ],
        selector=["by_power", "mine:by_mean"],
        selector_for={
            "scored": ["mine:by_mean", "mine:Mean"],
            "vectors": "tis_plugin.by_power:BY_POWER",
        },
        settings={
            "by_power": {"power": 2.0},
            "letters": {"floor": 0.5},
            "by_mean": {"sign": -1},
            "half": {"of": 0.5},
        },
        budget=[6, 12],
        seed=[0, 1],
        finetune__epochs=1,
        evaluation__metrics=["exact_match", "first_letter", "mine:half"],
        tracking__enabled=True,
    )


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_study_of_methods_from_outside(outside: tuple[Path, Any]) -> None:
    folder, tis_ray = outside
    config = study(folder)
    # By name where an entry point has one, and by module:attribute, are the same method.
    config["selector_for"]["vectors"] = ["by_power"]
    (folder / "study.yaml").write_text(yaml.safe_dump(config))
    listed = tis_ray("methods").stdout
    for name in (
        "by_power",
        "letters",
        "shared_words",
        "first_letter",
        "settings.by_power.power = 1.0",
    ):
        assert name in listed
    priced = tis_ray("run", "--config", "study.yaml", "--dry-run").stdout
    for stage in ("features letters", "scores shared_words", "features lengths"):
        assert stage in priced
    tis_ray("run", "--config", "study.yaml")
    run = folder / "runs" / "small"
    record = json.loads((run / "report" / "record.json").read_text())
    methods = {(cell["representation"], cell["selector"]) for cell in record["cells"]}
    assert methods >= {
        ("letters", "by_power"),
        ("shared_words", "by_mean"),
        ("lengths", "by_mean"),
        ("scored", "Mean"),
        ("vectors", "by_power"),
        ("ready", "given"),
    }
    trained = [cell for cell in record["cells"] if cell["selector"] not in (None, "random")]
    assert all(cell["half"] == 0.25 and 0 <= cell["first_letter"] <= 1 for cell in trained)
    page = (run / "report" / "index.html").read_text()
    for label in (
        "Letter counts",
        "Power mean",
        "Shared words",
        "My vectors",
        "first letter",
        "half",
    ):
        assert label.lower() in page.lower(), label
    # A plain function and a class that answers by shards rank alike.
    tables = {
        name: pq.read_table(run / "orderings" / f"scored-{name}" / "ordering.parquet")
        for name in ("by_mean", "Mean")
    }
    scores_MN = np.load(folder / "S.npy")
    best = select(
        scores_MN, lambda s, b: np.argsort(-s.mean(axis=0, dtype=np.float64), kind="stable"), 12
    )
    assert tables["Mean"]["index"].to_pylist() == best.indices.tolist()
    worst = np.argsort(scores_MN.mean(axis=0), kind="stable")[:12]  # sign: -1
    assert tables["by_mean"]["index"].to_pylist() == worst.tolist()
    ready = pq.read_table(run / "orderings" / "ready-given" / "ordering.parquet")
    assert ready["id"].to_pylist() == pq.read_table(folder / "order.parquet")["id"].to_pylist()[:12]
    advice = tis_ray("recommend", str(run), "--budget", "20").stdout
    assert "Letter counts + Power mean" in advice
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{folder / 'runs' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("tis-ray")
    tracked = client.search_runs([experiment.experiment_id], max_results=1000)
    seen = {(r.data.params.get("representation"), r.data.params.get("selector")) for r in tracked}
    assert seen >= {("letters", "by_power"), ("ready", "given"), ("scored", "Mean")}
    again = tis_ray("run", "--config", "study.yaml")
    assert " 0.0 s" not in again.stderr.replace("reused", "")
    # What a file or a module holds is part of what is made of it.
    before = {path.name for path in (folder / "artifacts").glob("ordering-scored-*")}
    (folder / "mine.py").write_text(OWN.replace("Best mean first", "The best mean first"))
    tis_ray("select", "--config", "study.yaml")
    assert {path.name for path in (folder / "artifacts").glob("ordering-scored-*")} > before


SPECS: list[Method] = [
    *REPRESENTATIONS.own.values(),
    *SELECTORS.own.values(),
    *METRICS.own.values(),
]


def other_values(settings: type[Section]) -> list[tuple[str, Section]]:
    """Return, for each setting (those of sections in it too), settings with another value of it."""
    found: list[tuple[str, Section]] = []
    for name, field in settings.model_fields.items():
        default = field.get_default(call_default_factory=True)
        if isinstance(default, Section):
            found += [
                (f"{name}.{inner}", settings.model_validate({name: other.model_dump()}))
                for inner, other in other_values(type(default))
            ]
            continue
        candidates = [
            *(getattr(field.annotation, "__args__", ()) if default is not None else ()),
            *(["paper", "exact", "stream", "sgd", "scores", "int8", "float16", "float32"]),
            *([not default] if isinstance(default, bool) else []),
            *(
                [default * 2, default / 2, default + 1, 0.5]
                if isinstance(default, int | float)
                else []
            ),
            *([f"{default}x"] if isinstance(default, str) else []),
            {"name": "other"},
            {"by": "rds"},
            ["q_proj"],
            "some/folder",
            3,
            True,
        ]
        for value in candidates:
            try:
                other = settings.model_validate({name: value})
            except (ValidationError, TypeError):
                continue
            if getattr(other, name) != default:
                found.append((name, other))
                break
        else:
            raise AssertionError(f"{settings.__name__}.{name}: no other value found")
    return found


def told(method: Method, settings: Section) -> str:
    """Return everything of a method that stages put into fingerprints."""
    if not isinstance(method, Representation) or method.gives != "vectors":
        return repr(method.identity(settings))
    parts = [method.version, method.space(settings), method.dtype(settings), method.model(settings)]
    return repr(
        [*parts, method.scoring(settings), method.cascade(settings), method.warmup(settings)]
    )


@pytest.mark.parametrize("method", SPECS, ids=lambda method: method.name)
def test_two_settings_of_a_method_never_share_an_artifact(method: Method) -> None:
    default = method.Settings()
    for name, other in other_values(method.Settings):
        same = told(method, other) == told(method, default)
        assert same == (name.partition(".")[0] in method.speed_only), name


@pytest.mark.parametrize("method", SPECS, ids=lambda method: method.name)
def test_a_bumped_version_makes_new_artifacts(method: Method) -> None:
    newer, settings = replace(method, version=method.version + 1), method.Settings()
    assert told(newer, settings) != told(method, settings)


def test_names_are_told_apart(outside: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, _ = outside
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    base = study(folder) | {"selector": "round_robin", "selector_for": {}, "settings": {}}
    base["evaluation"]["metrics"] = ["exact_match"]

    def problem(**changes: Any) -> str:
        with pytest.raises(InputError) as caught:
            parse_config(base | changes)
        text = str(caught.value)
        assert "\n" not in text
        return text

    assert "did you mean `less`" in problem(representation="lesss")
    assert "expected one of" in problem(selector="best")
    assert "has no 'nothing'" in problem(representation="less", selector="mine:nothing")
    assert "cannot be imported" in problem(representation="less", selector="no_such:rule")
    twice = [{"scores": "S.npy"}, {"scores": "S.npy"}]
    assert "both called" in problem(representation=twice) or "called 'S'" in problem(
        representation=twice
    )
    assert "taken" in problem(representation=[{"scores": "S.npy", "name": "less"}])
    assert "taken" in problem(representation=[{"scores": "S.npy", "name": "random"}])
    assert "go together" in problem(representation=[{"features": "F.npy"}])
    assert "give one of" in problem(representation=[{}])
    assert "settings.by_mean" in problem(representation="less", settings={"by_mean": {"sign": 1}})
    wrong = {"by_mean": {"sgn": 1}}
    assert "sgn" in problem(representation="less", selector="mine:by_mean", settings=wrong)


def test_a_config_with_files_reads_back(tmp_path: Path) -> None:
    raw = small_study(tmp_path, representation=["less", {"ordering": "mine.parquet"}])
    config = parse_config(raw)
    assert config.representation == ["less", "mine"]
    assert isinstance(config, Config)
    assert parse_config(config.model_dump(mode="json")) == config


def test_plain_functions_are_checked() -> None:
    scores_MN = np.random.default_rng(0).normal(size=(3, 20))

    def refused(function: Any) -> str:
        with pytest.raises(InputError) as caught:
            select(scores_MN, function, 5)
        return str(caught.value)

    assert "returned 2 indices" in refused(lambda scores, budget: [1, 2])
    assert "more than once" in refused(lambda scores, budget: [1] * 5)
    assert "index 20" in refused(lambda scores, budget: range(16, 21))
    assert "return a list" in refused(lambda scores, budget: scores)
    assert "give a name" in refused(3)
    with pytest.raises(ValueError, match="read-only"):
        select(scores_MN, lambda scores, budget: scores.sort(), 5)


def test_a_plain_function_is_refused_where_the_scores_do_not_fit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tis_ray.selectors.gathered.LIMIT", 10)
    with pytest.raises(InputError, match="a plain function needs all"):
        select(np.zeros((2, 6)), lambda scores, budget: range(6), 2)
