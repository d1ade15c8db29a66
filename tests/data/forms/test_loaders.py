"""The trainers' own loaders read our files, and train of each row the text that we do."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from tests.data.forms.dialogues import read
from tis_ray.data import encode_dialogue
from tis_ray.data.forms import FORMS, Formed, Setting, formed
from tis_ray.data.trainer_template import trainer_template
from tis_ray.models import builtin
from tis_ray.settings.template import TemplateConfig

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

TEMPLATE = (
    "{%- for t in tools or [] %}{{ t | tojson }}{% endfor %}"
    "{%- for message in messages %}{{- '<|' + message.role + '|>\n' }}"
    "{%- if message.role == 'assistant' %}{% generation %}{{- message.content }}"
    "{%- for c in message.tool_calls or [] %}{{- '<call>' + (c.function | tojson) }}{% endfor %}"
    "{{- eos_token }}{% endgeneration %}"
    "{%- else %}{{- message.content }}{%- endif %}{{- '\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|assistant|>\n' }}{%- endif %}"
)
LONG = 4096


@pytest.fixture
def tokenizer() -> Any:
    found = AutoTokenizer.from_pretrained(builtin.PATH)
    found.chat_template = TEMPLATE
    return found


def loaded(path: Path, rows: Sequence[object], cache: Path) -> Any:
    """Write a file and return what `datasets` reads of it, as trainers do."""
    datasets = pytest.importorskip("datasets")
    path.write_text("\n".join(map(json.dumps, rows)))
    return datasets.load_dataset("json", data_files=str(path), split="train", cache_dir=str(cache))


def learnt(tokenizer: Any, row: dict[str, Any], space: bool = False) -> str:
    """Return what is trained of an encoded row; a gap is a bar. space: with the white space around."""
    pairs = zip(row["input_ids"], row["labels"], strict=True)
    text = tokenizer.decode([token if label != -100 else 0 for token, label in pairs])
    parts = [part for part in text.split(tokenizer.decode([0])) if part]
    return "|".join(parts if space else [part.strip() for part in parts])


def two_steps(folder: Path, found: Formed, **more: Any) -> Any:
    """Return TRL's settings for two steps here, with what the rows need."""
    from trl import SFTConfig

    return SFTConfig(
        output_dir=str(folder / "out"),
        max_length=LONG,
        max_steps=2,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        report_to=[],
        save_strategy="no",
        assistant_only_loss="assistant_only_loss" in found.needs,
        **more,
    )


def ours(tokenizer: Any, kind: str, folder: Path) -> list[str]:
    """Return what a study trains of these rows."""
    (folder / "own.jinja").write_text(TEMPLATE)
    template = TemplateConfig(name="chat", file=str(folder / "own.jinja"))
    return [
        learnt(
            tokenizer,
            dict(
                encode_dialogue(r["messages"], tokenizer, LONG, template, r.get("tools")).encoded()
            ),
        )
        for r in read(kind)
    ]


@pytest.mark.parametrize(
    "kind", ["single", "multi", "last", "tail", "tools", "greeting", "conflict"]
)
def test_trl_trains_what_we_train(tokenizer: Any, tmp_path: Path, kind: str) -> None:
    from trl import SFTTrainer

    found, _ = formed(FORMS["trl"], read(kind))
    data = loaded(tmp_path / "rows.jsonl", found.rows, tmp_path / "cache")
    args = two_steps(tmp_path, found)
    trainer = SFTTrainer(str(builtin.PATH), args, train_dataset=data, processing_class=tokenizer)
    assert [learnt(tokenizer, row) for row in trainer.train_dataset] == ours(
        tokenizer, kind, tmp_path
    )
    if kind in ("single", "tools"):
        assert trainer.train().global_step == 2


@pytest.mark.parametrize("name", ["tulu", "chatml"])
@pytest.mark.parametrize("kind", ["single", "multi"])
def test_trl_trains_under_the_studys_template(tmp_path: Path, kind: str, name: str) -> None:
    """The shipped model's tokenizer has no chat template; the stanza names the study's."""
    from trl import SFTTrainer

    found, _ = formed(FORMS["trl"], read(kind))
    data = loaded(tmp_path / "rows.jsonl", found.rows, tmp_path / "cache")
    template = TemplateConfig(name=name)
    (tmp_path / "rows.jinja").write_text(trainer_template(template, builtin.PATH) or "")
    args = two_steps(tmp_path, found, chat_template_path=str(tmp_path / "rows.jinja"))
    trainer = SFTTrainer(str(builtin.PATH), args, train_dataset=data)
    plain = AutoTokenizer.from_pretrained(builtin.PATH)
    space = kind == "multi"  # after a completion TRL trains the template's last line break too
    trained = [learnt(plain, row, space) for row in trainer.train_dataset]
    encoded = [encode_dialogue(r["messages"], plain, LONG, template) for r in read(kind)]
    assert trained == [learnt(plain, dict(each.encoded()), space) for each in encoded]
    assert trainer.train().global_step == 2


@pytest.mark.parametrize(
    "kind", ["single", "multi", "last", "tail", "gap", "part", "tools", "greeting", "conflict"]
)
def test_axolotl_trains_what_we_train(tokenizer: Any, tmp_path: Path, kind: str) -> None:
    loader = pytest.importorskip("axolotl.prompt_strategies.chat_template")
    found, _ = formed(FORMS["axolotl"], read(kind))
    setting = Setting("rows.jsonl", "rows", str(builtin.PATH), LONG)
    assert axolotl_learns(loader, tokenizer, found, setting, tmp_path) == ours(
        tokenizer, kind, tmp_path
    )


@pytest.mark.parametrize("name", ["tulu", "chatml"])
@pytest.mark.parametrize("kind", ["single", "multi"])
def test_axolotl_trains_under_the_studys_template(tmp_path: Path, kind: str, name: str) -> None:
    loader = pytest.importorskip("axolotl.prompt_strategies.chat_template")
    found, _ = formed(FORMS["axolotl"], read(kind))
    plain, template = AutoTokenizer.from_pretrained(builtin.PATH), TemplateConfig(name=name)
    file = tmp_path / "rows.jinja"
    file.write_text(trainer_template(template, builtin.PATH) or "")
    setting = Setting("rows.jsonl", "rows", str(builtin.PATH), LONG, str(file))
    assert axolotl_learns(loader, plain, found, setting, tmp_path) == [
        learnt(plain, dict(encode_dialogue(r["messages"], plain, LONG, template).encoded()))
        for r in read(kind)
    ]


def axolotl_learns(
    loader: Any, tokenizer: Any, found: Formed, setting: Setting, folder: Path
) -> list[str]:
    """Return what axolotl, told by our stanza, trains of each row."""
    import yaml
    from axolotl.utils.dict import DictDefault

    stanza = FORMS["axolotl"].stanza
    assert stanza is not None
    config = yaml.safe_load(stanza(setting, found))
    (dataset,) = config.pop("datasets")
    data = loaded(folder / "rows.jsonl", found.rows, folder / "cache")
    strategy = loader.load(tokenizer, DictDefault(config), DictDefault(dataset))
    return [learnt(tokenizer, strategy.tokenize_prompt(dict(row))) for row in data]
