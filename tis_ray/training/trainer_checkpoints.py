"""Checkpoints that a `Trainer` of transformers or TRL left: `checkpoint-*`, with Adam's moments by name.

Its `optimizer.pt` knows parameters by numbers only: those of the group with weight decay first, then
the rest, each in the order of `named_parameters`. Names are found by building the same model, and are
held against the shapes and against what the loss's own symmetry says (`_Module.disagreement`). Files are
read with `weights_only=True`; `training_args.bin`, a pickle, is not read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from peft import PeftModel
from torch import Tensor, nn
from transformers.trainer_pt_utils import get_parameter_names

from tis_ray.errors import InputError
from tis_ray.models.given_adapter import is_adapter
from tis_ray.models.lora import trainable_parameters
from tis_ray.storage import Place, listed, local_file
from tis_ray.store import read_json
from tis_ray.store.torch_files import read_torch
from tis_ray.training.checkpoints import Moments

OPTIMIZER, STATE = "optimizer.pt", "trainer_state.json"
_SHARDED = (
    "global_step*",
    "optimizer_*",
    "pytorch_model_fsdp*",
    "optimizer.bin",
    "zero_to_fp32.py",
)
"""What DeepSpeed and FSDP leave in place of one `optimizer.pt`."""
_NOT_DECAYED = [r"bias", r"layernorm", r"rmsnorm", r"(?:^|\.)norm(?:$|\.)", r"_norm(?:$|\.)"]
"""As `Trainer.get_decay_parameter_names` has them."""


@dataclass(frozen=True)
class GivenCheckpoint:
    """A PEFT folder, perhaps with the state of its training beside it, as in a `checkpoint-*`."""

    path: Place
    field: str
    """Config key that led here, for messages."""

    @property
    def step(self) -> int:
        """The optimizer steps behind it, from its log or else from its name."""
        if (self.path / STATE).is_file():
            return int(read_json(self.path / STATE)["global_step"])
        return _number(self.path)

    @property
    def has_moments(self) -> bool:
        """Whether there is an `optimizer.pt`. Raises InputError where the state is cut into parts."""
        if (self.path / OPTIMIZER).is_file():
            return True
        parts = [path.name for pattern in _SHARDED for path in listed(self.path, pattern)]
        if parts:
            raise InputError(
                f"{self.field}: {self.path} holds an optimizer state in parts ({parts[0]}, of FSDP or "
                "DeepSpeed), which is not read; copy adapter_config.json and adapter_model.safetensors "
                "to a folder of their own, give that as the adapter, and moments are estimated"
            )
        return False

    def moments(self, model: PeftModel) -> Moments:
        """Return Adam's moments by the names of `model`, which may be on the `meta` device.

        Raises InputError unless each moment belongs to one parameter beyond doubt.
        """
        groups, states = self._optimizer()
        names = self._names(groups, model)
        parameters = trainable_parameters(model)
        first: dict[str, Tensor] = {}
        second: dict[str, Tensor] = {}
        for number, name in names.items():
            state = states.get(number) or {}
            if not {"exp_avg", "exp_avg_sq"} <= state.keys():
                raise self._refused(
                    f"is not of AdamW in torch's own form (of {name} it has "
                    f"{', '.join(map(str, state)) or 'nothing'})"
                )
            for moments, kind in ((first, "exp_avg"), (second, "exp_avg_sq")):
                if (
                    state[kind].shape != parameters[name].shape
                    or not state[kind].is_floating_point()
                ):
                    raise self._refused(
                        f"has {kind} of shape {tuple(state[kind].shape)} where {name} has "
                        f"{tuple(parameters[name].shape)}"
                    )
                moments[name] = state[kind].float()
        return first, second

    def _optimizer(self) -> tuple[list[dict[str, Any]], Mapping[int, Mapping[str, Tensor]]]:
        """Return parameter groups, and states by number; nothing but tensors and plain values is unpickled."""
        try:
            saved = read_torch(local_file(self.path / OPTIMIZER))
        except ValueError as error:
            raise self._refused(f"cannot be read as tensors alone ({error})") from None
        try:
            return list(saved["param_groups"]), dict(saved["state"])
        except (KeyError, TypeError, IndexError):
            raise self._refused("has no `param_groups` and `state`") from None

    def _names(self, groups: list[dict[str, Any]], model: PeftModel) -> dict[int, str]:
        """Return the name of each number in the optimizer's groups."""
        trained = list(trainable_parameters(model))
        numbers = [number for group in groups for number in group["params"]]
        if all("param_names" in group for group in groups):
            names = [name for group in groups for name in group["param_names"]]
            if sorted(names) != sorted(trained):
                raise self._refused("names other parameters than the adapter has")
            return dict(zip(numbers, names, strict=True))
        decayed = set(get_parameter_names(model, [nn.LayerNorm], _NOT_DECAYED))
        split = [
            [name for name in trained if name in decayed],
            [name for name in trained if name not in decayed],
        ]
        found = [len(group["params"]) for group in groups if group["params"]]
        expected = [len(names) for names in split if names]
        if found != expected:
            raise self._refused(
                f"has groups of {found} parameters, and a Trainer of this adapter has {expected}"
            )
        return dict(zip(numbers, [*split[0], *split[1]], strict=True))

    def _refused(self, what: str) -> InputError:
        return InputError(
            f"{self.field}: {self.path / OPTIMIZER} {what}, so that its moments cannot be given to "
            "parameters by name; remove the file, and they are estimated, or set pool_direction: sgd"
        )

    def check_moments(self, model: PeftModel, moments: Moments) -> None:
        """Raise InputError if the moments contradict the adapter's weights: they are another's.

        model: with the checkpoint's weights.
        """
        modules = _modules(trainable_parameters(model), moments[0])
        wrong = {name: each for name, each in modules.items() if each.disagreement() > UNRELATED}
        exchanged = [
            name
            for name, each in wrong.items()
            if any(each.disagreement(of) < RELATED for of in wrong.values() if of is not each)
        ]
        if exchanged or len(wrong) > len(modules) // 4:
            raise self._refused(
                f"has its moments in another order than the parameters (of {len(modules)} modules "
                f"{len(wrong)} do not agree with theirs, such as {min(exchanged or wrong)})"
            )


UNRELATED, RELATED = 0.6, 0.35
"""Disagreements that no module, and no stranger, should have. Measured with the built-in model at learning
rates from 2e-5 to 3e-3, ranks 1, 2 and 8: with its own moments a module has 0.1 (median, after 30 steps), and
3 of 100 have more than 0.5; with another's it has 0.86 (median), and with rank 8 never less than 0.55.
"""


@dataclass(frozen=True, eq=False)
class _Module:
    """A LoRA module's weights, and the first moments that it is said to have."""

    a: Tensor
    b: Tensor
    a_moment: Tensor
    b_moment: Tensor

    def disagreement(self, of: _Module | None = None) -> float:
        """Return how far the moments (of another module, if given) are from being its own, 0 to 1.

        `B R` and `R⁻¹ A` are the same adapter for every R, so the loss has no slope in that direction:
        each gradient has `dA Aᵀ = Bᵀ dB`. So have their running means, while A and B change little over
        the ten steps that these remember. Returned is |m_A Aᵀ - Bᵀ m_B| / (|m_A Aᵀ| + |Bᵀ m_B|).
        """
        other = of or self
        if other.a.shape != self.a.shape or other.b.shape != self.b.shape:
            return 1.0
        left, right = other.a_moment @ self.a.T, self.b.T @ other.b_moment
        size = float(left.norm() + right.norm())
        return float((left - right).norm()) / size if size else 0.0


def _modules(weights: Mapping[str, Tensor], first: Mapping[str, Tensor]) -> dict[str, _Module]:
    modules = {}
    for name in weights:
        module, found, rest = name.partition(".lora_A.")
        if found:
            names = name, f"{module}.lora_B.{rest}"
            tensors = [weights[each].detach().float().cpu() for each in names]
            modules[module] = _Module(*tensors, *(first[each].cpu() for each in names))
    return modules


def trainer_checkpoints(folder: Place, field: str) -> list[GivenCheckpoint]:
    """Return the checkpoints in a Trainer's output folder, by steps.

    Raises InputError, naming the config key, if one was trained without an adapter.
    """
    found = [path for path in folder.glob("checkpoint-*") if path.is_dir() and _number(path) >= 0]
    for path in sorted(found, key=_number):
        if not is_adapter(path):
            raise InputError(
                f"{field}: {path} holds no adapter_config.json: it was trained whole, or its save was "
                "cut off; gradients are taken of LoRA weights: train with a PEFT config, or remove it"
            )
    checkpoints = [GivenCheckpoint(path, field) for path in found]
    return sorted(checkpoints, key=lambda checkpoint: checkpoint.step)


def learning_rates(checkpoints: list[GivenCheckpoint]) -> list[dict[str, float]]:
    """Return a log of steps in which `epoch` numbers the checkpoints, from 1, by spans of steps.

    A checkpoint's span is the steps since the one before it, as an epoch is in LESS. Raises InputError
    where nothing was logged in a span: its weight would be unknown.
    """
    if len(checkpoints) == 1:
        return []
    last = checkpoints[-1]
    if not (last.path / STATE).is_file():
        raise InputError(
            f"{last.field}: {last.path} has no {STATE}, which tells the learning rates that weigh the "
            "checkpoints; give one of them as the adapter"
        )
    history = [
        entry
        for entry in read_json(last.path / STATE)["log_history"]
        if "learning_rate" in entry and "step" in entry
    ]
    steps, start = [], 0
    for number, checkpoint in enumerate(checkpoints, 1):
        span = [entry for entry in history if start < entry["step"] <= checkpoint.step]
        if not span:
            raise InputError(
                f"{checkpoint.field}: {checkpoint.path}: no learning rate was logged in steps {start + 1} "
                f"to {checkpoint.step}, so that its weight is unknown; train with logging_steps of at most "
                "as many, or give one checkpoint as the adapter"
            )
        for entry in span:
            rate = float(entry["learning_rate"])
            steps.append({"step": entry["step"], "epoch": number, "learning_rate": rate})
        start = checkpoint.step
    return steps


def _number(path: Place) -> int:
    digits = path.name.removeprefix("checkpoint-")
    return int(digits) if digits.isdecimal() else -1
