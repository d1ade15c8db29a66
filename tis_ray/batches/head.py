"""The way into a model's output head, where training reads and cuts the hidden states."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from transformers import PreTrainedModel

from tis_ray.errors import InputError


@contextmanager
def before_head(base: PreTrainedModel, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Within this context the output head gets `change(hidden)` in place of its input (E, T, width).

    Raises InputError for a model without an output head.
    """
    head = base.get_output_embeddings()
    if head is None:
        raise InputError(
            f"model {type(base).__name__} is not a causal language model with an output head; "
            "load it with AutoModelForCausalLM"
        )

    def changed(_module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return change(args[0]), *args[1:]

    hook = head.register_forward_pre_hook(changed)
    try:
        yield
    finally:
        hook.remove()
