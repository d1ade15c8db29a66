"""A cell trained under a chat template, exported, and asked by transformers in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.small import small_study
from tis_ray.config import parse_config
from tis_ray.data import encode_query_row
from tis_ray.finished.export import export_adapter
from tis_ray.models.loading import load_tokenizer
from tis_ray.study.run import run

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(600)]

TEMPLATE = (
    "{% for m in messages %}{{ '[' + m.role + '] ' + m.content | trim + eos_token + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '[assistant] ' }}{% endif %}"
)
ASK = """
import json, sys
from transformers import pipeline
ask = pipeline("text-generation", model=sys.argv[1])
turns = json.loads(sys.argv[2])
ids = ask.tokenizer.apply_chat_template(turns, add_generation_prompt=True)["input_ids"]
out = ask(turns, max_new_tokens=200, do_sample=False)[0]["generated_text"][-1]["content"]
print(json.dumps([ids, out, len(ask.tokenizer(out)["input_ids"])]))
"""


@pytest.mark.parametrize("template", ["chatml", "file"])
def test_an_exported_cell_is_asked_as_it_was_trained(
    ray_cluster: Any, tmp_path: Path, template: str
) -> None:
    file = tmp_path / "own.jinja"
    file.write_text(TEMPLATE)
    own: Any = {"name": "chat", "file": str(file)} if template == "file" else template
    config = parse_config(
        small_study(
            tmp_path,
            representation="bm25",
            data__template=own,
            data__pool={"kind": "builtin", "rows": 400},
            budget=128,
            finetune__epochs=8,
        )
    )
    cells = [cell for study in run(config, until="evaluate").studies for cell in study.cells]
    trained = next(cell for cell in cells if cell.model)
    model = export_adapter(config, Path(trained.artifact) / str(trained.model), tmp_path / "model")

    row: Any = {
        "messages": [
            {"role": "user", "content": "Reverse: stone"},
            {"role": "assistant", "content": "enots"},
        ]
    }
    encoded = encode_query_row(row, load_tokenizer(config.model), 512, config.data.template)
    learnt_after = encoded["input_ids"][
        : encoded["labels"].index(next(x for x in encoded["labels"] if x >= 0))
    ]
    command = [sys.executable, "-c", ASK, str(model), json.dumps(row["messages"][:1])]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    ids, answer, length = json.loads(out)
    assert ids == learnt_after
    assert length < 150, f"the answer did not end: {answer!r}"
