"""The config: what it accepts, and the one line it answers to everything else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tis_ray.config import Config, config_yaml, load_config, load_run, parse_config, require_files
from tis_ray.errors import InputError
from tis_ray.storage.secret import shown_uri
from tis_ray.store import fingerprint
from website.settings import help_texts

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("**/*.yaml"))
DATA = {"pool": "pool.jsonl", "query": "query.jsonl", "test": "test.jsonl"}


def study(**changes: Any) -> dict[str, Any]:
    return {"data": DATA, "budget": 10, **changes}


def test_smallest_study_holds_data_and_a_budget() -> None:
    config = parse_config(study())
    assert (config.representation, config.selector) == (["less"], ["round_robin"])
    assert (config.budget, config.seed) == ([10], [0, 1, 2])
    assert config.model.name == "builtin"


@pytest.mark.parametrize("field", ["representation", "selector", "budget", "seed"])
def test_one_value_is_a_list_of_one(field: str) -> None:
    value = getattr(parse_config(study()), field)[0]
    one, many = parse_config(study(**{field: value})), parse_config(study(**{field: [value]}))
    assert one == many
    assert getattr(one, field) == [value]


@pytest.mark.parametrize(
    ("short", "long"),
    [
        ("rows/pool.parquet", {"kind": "file", "path": "rows/pool.parquet"}),
        ("hub:allenai/tulu-v2", {"kind": "hub", "name": "allenai/tulu-v2"}),
    ],
)
def test_a_source_in_one_word_equals_its_section(short: str, long: dict[str, str]) -> None:
    assert parse_config(study(data={**DATA, "pool": short})) == parse_config(
        study(data={**DATA, "pool": long})
    )


@pytest.mark.parametrize("targets", ["q_proj", ["q_proj"], "all-linear", ["q_proj", "lm_head"]])
def test_adapter_targets_are_all_a_name_or_a_list(targets: Any) -> None:
    found = parse_config(study(less={"lora": {"targets": targets}})).less.lora.targets
    assert found == ("all-linear" if targets == "all-linear" else list(found))
    assert (found == ["q_proj"]) == (targets in ("q_proj", ["q_proj"]))


def test_numbers_in_scientific_notation_are_numbers() -> None:
    """YAML 1.1 reads 2e-5 as text."""
    config = parse_config(study(**yaml.safe_load("finetune: {learning_rate: 2e-5}")))
    assert config.finetune.learning_rate == 2e-5


def test_writing_and_reading_back_gives_an_equal_config(tmp_path: Path) -> None:
    config = parse_config(
        study(
            name="run-1",
            data={
                "pool": "hub:org/name",
                "query": "été.jsonl",
                "test": {"kind": "builtin", "skill": "plural"},
            },
            seed=[3, 4],
            less={"lora": {"alpha": 32, "targets": "all-linear"}, "sketch": {"width": 1024}},
        )
    )
    (tmp_path / "config.yaml").write_text(config_yaml(config), encoding="utf-8")
    again = load_config(tmp_path / "config.yaml")
    assert again == config
    assert fingerprint(again.model_dump(mode="json")) == fingerprint(config.model_dump(mode="json"))


def test_spelling_a_default_out_changes_no_fingerprint() -> None:
    """`alpha` is a float whose default is written 16."""
    plain = parse_config(study())
    spelled = parse_config(study(finetune={"lora": {"alpha": 16}}, seed=[0, 1, 2]))
    assert fingerprint(plain.model_dump(mode="json")) == fingerprint(
        spelled.model_dump(mode="json")
    )


def test_values_do_not_change_after_reading() -> None:
    with pytest.raises(ValueError, match="frozen"):
        parse_config(study()).name = "other"  # type: ignore[misc]


def test_every_field_has_help_text() -> None:
    def undocumented(section: Any, path: str) -> list[str]:
        found = []
        said = help_texts(section)
        for name, field in section.model_fields.items():
            if hasattr(field.annotation, "model_fields"):
                found += undocumented(field.annotation, f"{path}{name}.")
            elif not said.get(name):
                found.append(path + name)
        return found

    assert undocumented(Config, "") == []


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_shipped_study_loads(path: Path) -> None:
    assert load_config(path).budget


# ---- overrides -------------------------------------------------------------------------------


def write(folder: Path, content: Any) -> Path:
    path = folder / "study.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


def test_overrides_reach_any_depth_and_are_read_as_yaml(tmp_path: Path) -> None:
    overrides = [
        "budget=[5,10]",
        "less.sketch.width=1024",
        "evaluation.metrics=[]",
        "compute.actors=null",
        "data.pool=hub:org/name",
        "finetune.lora.targets=all-linear",
        "embed.query_prefix=a=b",
    ]
    config = load_config(write(tmp_path, study()), overrides)
    assert config.budget == [5, 10]
    assert config.less.sketch.width == 1024
    assert config.evaluation.metrics == []
    assert config.data.pool.kind == "hub"
    assert config.finetune.lora.targets == "all-linear"
    assert config.embed.query_prefix == "a=b"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("budget", "--set budget: expected `key.sub=value`"),
        ("=5", "--set =5: expected `key.sub=value`"),
        ("budget=[1", "--set budget=[1: the value is not valid YAML"),
        ("budget.x=1", "--set budget.x=1: `budget` holds a value, not a section"),
        ("less.sketch.widht=8", "`less.sketch.widht` is not a known key; did you mean `width`?"),
    ],
)
def test_a_bad_override_is_named(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        load_config(write(tmp_path, study()), [override])
    assert message in str(error.value)
    assert "\n" not in str(error.value)


# ---- bad input: one line that names file, field, what was found, and what to do ---------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("budget: [1, 2\nname: x\n", "line 2: not valid YAML"),
        ("- budget\n", "expected `key: value` lines, found list"),
        ("", "expected `key: value` lines, found nothing"),
        ("\0", "not valid YAML"),
        (
            "name: a\ndata:\n  pool: x\n  pool: y\n",
            "line 4: not valid YAML: `pool` is given twice, first in line 3",
        ),
        (
            "data: {pool: x, pool: y}\n",
            "line 1: not valid YAML: `pool` is given twice, first in line 1",
        ),
    ],
)
def test_a_file_that_is_no_mapping_is_named(tmp_path: Path, content: str, message: str) -> None:
    path = write(tmp_path, content)
    with pytest.raises(InputError) as error:
        load_config(path)
    assert str(error.value).startswith(f"{path}: ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.yaml: no such config file$"):
        load_config(tmp_path / "nowhere.yaml")
    with pytest.raises(InputError, match="cannot be read as a text file"):
        load_config(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"name: \xe9t\xe9\n")
    with pytest.raises(InputError, match="cannot be read as a text file"):
        load_config(tmp_path / "latin.yaml")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"budgt": 1}, "`budgt` is not a known key; did you mean `budget`?"),
        ({"less": {"skech": {}}}, "`less.skech` is not a known key; did you mean `sketch`?"),
        ({"less": {"lora": {"rnk": 8}}}, "`less.lora.rnk` is not a known key; did you mean `rank`"),
        ({"zzz": 1}, "`zzz` is not a known key; known keys: name, runs,"),
        ({1: 2}, "`1` is not a known key"),
        (
            {"data": {**DATA, "pool": {"kind": "builtin", "path": "x"}}},
            "`data.pool.path` is not a known key; known keys: sample, sample_seed, holdout, kind, rows",
        ),
        (
            {"data": {**DATA, "pool": {"kind": "file", "path": "x", "hub": 1}}},
            "`data.pool.hub` is not a known key",
        ),
        (
            {"data": {**DATA, "pool": {"kind": "file", "pth": "x"}}},
            "`data.pool.path` is missing; add it (and 1 more)",
        ),
        ({"data": {**DATA, "pool": {"rows": 5}}}, "`data.pool`: `kind` is missing; add one of"),
        (
            {"data": {**DATA, "pool": {"kind": "buitlin"}}},
            "`data.pool`: found 'buitlin', expected one of builtin, file, hub, list; did you",
        ),
        (
            {"data": {**DATA, "pool": 5}},
            "`data.pool`: give a path, `hub:org/name`, a list of them, or",
        ),
        ({"data": {"pool": "a", "test": "b"}}, "`data.query` is missing; add it"),
        (
            {"data": {**DATA, "query": {"kind": "builtin"}}},
            "data.query.skill is missing: name one skill",
        ),
        (
            {"data": {**DATA, "test": {"kind": "builtin"}}},
            "data.test.skill is missing: name one skill",
        ),
        (
            {"data": {**DATA, "query": {"kind": "builtin", "skill": "plurl"}}},
            "`data.query.skill`: found 'plurl', expected one of reverse_word, sort_letters",
        ),
        (
            {"overlap": {"also": [{"query": "q", "test": {"kind": "builtin", "skill": "x"}}]}},
            "`overlap.also.test.skill`: found 'x', expected one of",
        ),
        (
            {"data": {**DATA, "pool": {"kind": "builtin", "skill": "plural"}}},
            "data.pool.skill: the pool mixes all skills; leave it out",
        ),
        ({"data": {**DATA, "pool": ""}}, "`data.pool.path`: String should have at least 1"),
        ({"quantiles": {"bin": 3}}, "`quantiles.bin` is not a known key; did you mean `bins`?"),
        ({"quantiles": 5}, "`quantiles`: found 5, expected a section with keys among bins, rows"),
        ({"less": {"cascade": {"bye": "rds"}}}, "`less.cascade.bye` is not a known key; did you"),
        ({"less": {"dtype": "int3"}}, "`less.dtype`: found 'int3', expected one of float32, flo"),
        ({"less": {"dtype": "int3"}}, "int8, int4, int2"),
        (
            {"evaluation": {"lm_eval": [{"task": "t", "few": 1}]}},
            "`evaluation.lm_eval.few` is not a known key; known keys: task, num_fewshot, limit",
        ),
        (
            {"overlap": {"also": [{"query": "q", "test": {"kind": "file", "pth": "x"}}]}},
            "`overlap.also.test.path` is missing; add it (and 1 more)",
        ),
        ({"constraints": {"include": 5}}, "`constraints.include`: Input should be a valid list"),
        ({"given": {5: {"scores": "x"}}}, "`given.5`: a name must be text"),
        ({"data": None}, "`data`: found None, expected a section with keys among query, test"),
        ({"model": "builtin"}, "`model`: found 'builtin', expected a section with keys among name"),
        (
            {"selector": "round_robbin"},
            "expected one of doubly_greedy, knn_kde, knn_uniform, length_matched, round_robin, sub",
        ),
        ({"representation": ["less", "gist"]}, "`representation`: found 'gist', expected one of"),
        ({"selector": []}, "`selector`: give at least one value"),
        ({"budget": 0}, "`budget`: budgets start at 1; found 0"),
        ({"budget": "many"}, "`budget`: Input should be a valid integer"),
        ({"budget": [5, 5]}, "`budget`: a value is given twice; keep one; found [5, 5]"),
        ({"seed": [1, 2, 1]}, "`seed`: a value is given twice; keep one; found [1, 2, 1]"),
        ({"seed": -1}, "`seed`: Input should be greater than or equal to 0; found -1"),
        ({"less": {"seed": -1}}, "`less.seed`: Input should be greater than or equal to 0"),
        ({"name": "a/b"}, "`name`: String should match pattern"),
        (
            {"less": {"sketch": {"width": 1000}}},
            "`less.sketch`: a rotation sketch needs a power of two, at least 4; found 1000",
        ),
        ({"less": {"sketch": {"width": 2}}}, "`less.sketch`: a rotation sketch needs a power of"),
        ({"less": {"lora": {"targets": []}}}, "`less.lora.targets`: give `all-linear`, one module"),
        ({"less": {"lora": {"targets": 5}}}, "`less.lora.targets`: give `all-linear`, one module"),
        (
            {"finetune": {"learning_rate": float("inf")}},
            "`finetune.learning_rate`: Input should be",
        ),
        ({"finetune": {"epochs": 0}}, "`finetune.epochs`: Input should be greater than or equal"),
        (
            {"finetune": {"shard": True, "workers": 2}},
            "`finetune`: shard is for `method: full` and 2 or more workers; found `method: lora` and 2",
        ),
        (
            {"finetune": {"shard": True, "method": "full"}},
            "shard is for `method: full` and 2 or more workers; found `method: full` and 1",
        ),
        ({"model": {"dtype": "float16"}}, "model.dtype: found float16, in which nothing can be"),
        (
            {"less": {"model": {"dtype": "float16"}}},
            "less.model.dtype: found float16, in which nothing can be trained",
        ),
    ],
)
def test_a_bad_field_is_one_line_with_file_field_and_advice(
    changes: dict[Any, Any], message: str
) -> None:
    with pytest.raises(InputError) as error:
        parse_config({**study(), **changes}, origin="study.yaml")
    assert str(error.value).startswith("study.yaml: ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_dense_sketch_may_have_any_width() -> None:
    sketch = parse_config(study(less={"sketch": {"kind": "rademacher", "width": 1000}})).less.sketch
    assert sketch.width == 1000


def test_the_number_of_further_problems_is_told() -> None:
    with pytest.raises(InputError, match=r"\(and 2 more\)$"):
        parse_config(study(budget=0, seed=-1, selector="x"))


def test_config_is_importable_without_torch_or_ray() -> None:
    code = (
        "import sys, tis_ray.config; "
        "print([m for m in ('torch', 'ray', 'transformers', 'mlflow') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_selectors_may_differ_between_representations() -> None:
    source = {"kind": "builtin", "skill": "plural"}
    raw = {
        "data": {"pool": {"kind": "builtin"}, "query": source, "test": source},
        "representation": ["less", "embed"],
        "selector": ["round_robin", "uot", "random"],
        "budget": 5,
    }
    assert parse_config(raw).selectors("embed") == ["round_robin", "uot"]
    config = parse_config(raw | {"selector_for": {"embed": "uot"}})
    assert config.selectors("embed") == ["uot"]
    assert config.selectors("less") == ["round_robin", "uot"]


def test_a_field_beside_a_short_form_is_set_in_its_section(tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(
        "data: {pool: pool.jsonl, query: examples.jsonl, template: chatml}\n"
        "representation: bm25\nselector: round_robin\nbudget: 5\n"
    )
    changes = ["data.query.holdout=0.3", "data.template.merge=true"]
    data = load_config(file, changes).data
    assert (data.query.path, data.query.holdout) == ("examples.jsonl", 0.3)
    assert (data.template.name, data.template.merge) == ("chatml", True)
    given = {"pool": Path("pool.jsonl"), "query": "examples.jsonl"}
    rest = {"representation": "bm25", "selector": "round_robin", "budget": 5}
    assert parse_config({"data": given, **rest}).data.pool.path == "pool.jsonl"


@pytest.mark.parametrize(
    "uri",
    [
        "http://u:hidden@host:5000/x",
        "http://:hidden@host",
        "postgresql://u:hidden@host/db",
        "postgresql+psycopg2://u:hid@hidden@host/db",
        "mysql://u:hid/hidden@host/db",
        "postgresql://host/db?user=u&password=hidden",
        "mssql+pyodbc:///?odbc_connect=DRIVER%3Dx%3BPWD%3Dhidden&x=1",
    ],
)
def test_a_password_in_a_config_is_refused_and_shown_nowhere(uri: str) -> None:
    """The page shows the config, and is passed on."""
    assert "hidden" not in shown_uri(uri)
    assert "***" in shown_uri(uri)
    with pytest.raises(
        InputError, match=r"`tracking.uri` holds a password.*MLFLOW_TRACKING_URI"
    ) as error:
        parse_config(study(tracking={"uri": uri}))
    assert "hidden" not in str(error.value)


@pytest.mark.parametrize(
    "uri",
    [
        "http://host:5000/a@b",
        "http://user@host:5000",
        "sqlite:////a/b:c@d/x.db",
        "postgresql://user@host:5432/db?sslmode=require",
        "databricks",
        "mssql+pyodbc:///?odbc_connect=DRIVER%3Dx%3BTrusted_Connection%3Dyes",
    ],
)
def test_other_stores_are_taken_as_they_are(uri: str) -> None:
    assert shown_uri(uri) == uri
    assert parse_config(study(tracking={"uri": uri})).tracking.uri == uri


# ---- what a run has left ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "named", ["runs/mine", "runs/renamed", "elsewhere/mine", "elsewhere/renamed"]
)
def test_a_run_is_its_folder_wherever_it_was_moved(
    tmp_path: Path, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "home" / named
    folder.mkdir(parents=True)
    config = parse_config(study(name="mine"))
    (folder / "config.yaml").write_text(config_yaml(config))
    (tmp_path / "away" / "runs" / "mine").mkdir(parents=True)  # another run of this name
    monkeypatch.chdir(tmp_path / "away")
    loaded, home = load_run(folder)
    assert home == (tmp_path / "home" if named.startswith("runs/") else Path.cwd())
    monkeypatch.chdir(home)
    assert loaded.run_dir == folder
    assert load_run(folder, ["name=other"])[0].name == "other"


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({}, "data.pool: pool.jsonl: no such file or folder"),
        (
            {"data": {**DATA, "pool": ["a.jsonl", {"path": "b.jsonl"}]}},
            "data.pool: b.jsonl: no such",
        ),
        (
            {"tasks": {"t": {"query": "c.jsonl"}}, "data": {"pool": "a.jsonl"}},
            "tasks.t.query: c.jsonl",
        ),
        (
            {"data": dict.fromkeys(DATA, "a.jsonl"), "model": {"name": "./m"}},
            "model.name: ./m: no such",
        ),
        ({"data": dict.fromkeys(DATA, "*.jsonl")}, None),
        ({"data": dict.fromkeys(DATA, "hub:org/name"), "model": {"name": "org/name"}}, None),
    ],
)
def test_files_that_are_not_there_are_named_with_their_key(
    tmp_path: Path, changes: dict[str, Any], line: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.jsonl").write_text("")
    config = parse_config(study(**changes))
    if line is None:
        require_files(config)
    else:
        with pytest.raises(InputError, match=f"^{line}"):
            require_files(config)


def test_a_margin_is_of_a_metric_that_is_measured() -> None:
    parse_config(study(margins={"exact_match": 0.1, "query_loss": 0.01}))
    parse_config(study(margins={"acc": 0.1}, evaluation={"lm_eval": ["arc_easy"]}))
    with pytest.raises(
        InputError, match=r"margins.testloss: metric: found 'testloss', .*`test_loss`"
    ):
        parse_config(study(margins={"testloss": 0.1}))
