"""A study that its model cannot do ends before anything is computed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.models.zoo import POSITIONS, saved_model
from tests.small import small_study
from tis_ray.config import parse_config
from tis_ray.errors import InputError
from tis_ray.study.checks import check_models


def test_the_shipped_model_can_do_a_small_study(tmp_path: Path) -> None:
    check_models(parse_config(small_study(tmp_path)))


def test_each_problem_has_a_line_that_names_its_field(tmp_path: Path) -> None:
    """GPT-2 has 64 positions here and no q_proj; adapters are named in two sections."""
    model = saved_model("gpt2", tmp_path / "gpt2")
    study = small_study(tmp_path, model__name=model.name, less__lora__targets=["c_attn", "c_prj"])
    with pytest.raises(InputError) as error:
        check_models(parse_config(study))
    table, finetune, less = str(error.value).splitlines()
    assert f"data.max_length: 128, but {model.name} has a table of {POSITIONS} positions" in table
    assert finetune.startswith("finetune.lora.targets: 'q_proj' matches no module")
    assert less.startswith("less.lora.targets: 'c_prj' matches no module")


def test_experts_are_refused_for_less_before_its_warm_up(tmp_path: Path) -> None:
    model = saved_model("mixtral", tmp_path / "mixtral")
    study = small_study(
        tmp_path,
        model__name=model.name,
        data__max_length=POSITIONS,
        less__lora__targets="all-linear",
    )
    with pytest.raises(
        InputError, match=r"^less\.lora\.targets: .* targets that work: k_proj, "
    ) as error:
        check_models(parse_config(study))
    assert "\n" not in str(error.value)
    study["representation"] = "rds"
    check_models(parse_config(study))
