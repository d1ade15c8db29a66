"""Packed attention, which keeps the examples of a packed row apart, and a check that a model allows it.

A packed batch is one row of tokens. Everything in a decoder works on each token by itself, except
attention; the attention here lets a token see only its own example. It is registered with
`transformers` like its own, and a model is switched to it for the length of one pass. The examples'
bounds come with the batch and are not guessed from position ids.

Two implementations of the same sum. On a GPU and in half precision, `torch`'s varlen_attn
(FlashAttention over all examples in one kernel). As its source in torch 2.13 has it: rows are
(R, heads, width); bounds are (E + 1,) int32, and the longest example is a number on the host;
keys and values may have fewer heads with enable_gqa=True; `scale` None means 1 / sqrt(width);
window_size (-1, 0) is plain causal; there is no dropout. Anywhere else, and as the reference:
`scaled_dot_product_attention`, example by example.

Not every model can be packed. `check_packing` finds out by trying, not by a list of names.
"""

import inspect
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn import functional
from transformers import AttentionInterface, PreTrainedModel
from transformers.masking_utils import AttentionMaskInterface

from tis_ray.batches.head import before_head
from tis_ray.batches.modes import evaluation_mode, training_mode
from tis_ray.batches.out_of_memory import is_out_of_memory
from tis_ray.batches.segments import Segments
from tis_ray.errors import InputError

try:
    from torch.nn.attention.varlen import varlen_attn

    # Earlier releases have it with another signature.
    _HAS_VARLEN = {"window_size", "enable_gqa"} <= set(inspect.signature(varlen_attn).parameters)
except ImportError:
    _HAS_VARLEN = False

log = logging.getLogger(__name__)

NAME = "tis_ray_packed"
"""The name under which the attention is registered."""

_HARMLESS = {"position_ids", "sliding_window", "is_causal"}
"""Arguments of an attention function that may be ignored here, or are checked by themselves."""


@dataclass
class _PackedPass:
    """One pass, and how often the model has called our mask and our attention in it."""

    model: str
    segments: Segments
    masks: int = 0
    calls: int = 0
    checked: bool = False
    """Whether the model's rule of who sees whom has been checked at this length: it lies on the device,
    and to look at it there would be to wait for it."""


_current: ContextVar[_PackedPass | None] = ContextVar("packed_pass", default=None)
_checked: WeakKeyDictionary[nn.Module, dict[tuple[str, torch.dtype], int]] = WeakKeyDictionary()


def packs(
    wanted: bool | None, base: PreTrainedModel, longest: int, device: str, training: bool = False
) -> bool:
    """Return whether to pack examples of up to `longest` tokens.

    wanted: the user's choice. None packs where it is faster, which is on a GPU; if the model cannot
        be packed, a warning says so and examples are padded.

    Raises InputError as `check_packing` does if packing was chosen but is not possible.
    """
    if wanted is False or (wanted is None and device == "cpu"):
        return False
    try:
        check_packing(base, longest, training)
    except (InputError, RuntimeError) as error:  # RuntimeError: no kernel for this GPU
        if wanted:
            raise
        log.warning("packed: examples are padded: %s", error)
        return False
    return True


@contextmanager
def packed_attention(base: PreTrainedModel, segments: Segments) -> Iterator[None]:
    """Replace a causal language model's attention by packed attention over these segments.

    Afterwards, or on an error, it has its own again. Raises InputError as `check_packing` does.
    """
    check_packing(base, segments.longest)
    with _switched(base, segments, checked=True):
        yield


def check_packing(base: PreTrainedModel, longest: int, training: bool = False) -> None:
    """Raise InputError, saying what is in the way, if the model cannot be packed.

    An example of `longest` tokens goes through the decoder twice: alone, with the model's own
    attention; and between two others that consist of NaN. Whatever mixes tokens of different
    examples, with a weight of 0 or in a layer other than attention, gives NaN; whatever computes
    something other than our attention does (capped scores, sinks), or positions a token by its place
    in the row, gives other numbers. Windows are found by calling the model's own mask. This is done
    once for each model and length; shorter lengths need no check.

    training: check the model in training mode too, where its attention may want dropout.
    """
    weight = base.get_input_embeddings().weight
    key = (weight.device.type, weight.dtype)
    lengths = _checked.setdefault(base, {})
    if longest > lengths.get(key, 0):
        try:
            _try_out(base, longest)
        except (AttributeError, IndexError, RuntimeError, TypeError, ValueError) as error:
            if isinstance(error, InputError) or is_out_of_memory(error):
                raise
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise _refusal(type(base).__name__, f"fails ({reason})") from error
        lengths[key] = longest
    if training:
        segments = Segments.of([1, 2], weight.device)
        inputs = {"position_ids": segments.positions_R[None]}
        inputs["input_ids"] = torch.zeros_like(inputs["position_ids"])
        with training_mode(base), torch.no_grad(), _switched(base, segments):
            _hidden_states(base, inputs)


@torch.inference_mode(False)
@torch.no_grad()
def _try_out(base: PreTrainedModel, longest: int) -> None:
    calls = (base.forward, base.base_model.forward)  # the one may pass on what the other takes
    if not any("position_ids" in inspect.signature(call).parameters for call in calls):
        raise _refusal(type(base).__name__, "takes no position_ids")
    embeddings = base.get_input_embeddings()
    segments = Segments.of([3, longest, 2], embeddings.weight.device)
    own = segments.examples_R == 1
    weight = embeddings.weight
    weight = weight.full_tensor() if isinstance(weight, DTensor) else weight
    sound = torch.isfinite(weight).all(dim=1).nonzero()[:, 0]
    ids_R = sound[torch.arange(segments.rows, device=sound.device) % len(sound)]
    packed_inputs = {"input_ids": ids_R[None], "position_ids": segments.positions_R[None]}

    def spoil(_module: nn.Module, _args: object, output: Tensor) -> Tensor:
        return output.masked_fill(~own[:, None], float("nan"))

    with evaluation_mode(base):
        alone = _hidden_states(base, {"input_ids": ids_R[own][None]})
        hook = embeddings.register_forward_hook(spoil)
        try:
            with _switched(base, segments):
                packed = _hidden_states(base, packed_inputs)[own]
        finally:
            hook.remove()
    if torch.isfinite(alone).all() and not torch.isfinite(packed).all():
        raise _refusal(type(base).__name__, "mixes tokens of different examples outside attention")
    error = torch.linalg.vector_norm((packed - alone).double())
    error = error / torch.linalg.vector_norm(alone.double())
    # Rounding stays far below this, and another computation above it.
    if error > (1e-3 if torch.finfo(alone.dtype).bits >= 32 else 0.1):
        problem = f"gives different hidden states packed than alone (by {float(error):.1%})"
        raise _refusal(type(base).__name__, problem)


def _hidden_states(base: PreTrainedModel, inputs: dict[str, Tensor]) -> Tensor:
    """Return what the output head reads for one row, (R, width).

    The whole model is called, because a sharded one gathers its weights from the top; the head gets
    a single position.
    """
    states: list[Tensor] = []

    def keep(hidden: Tensor) -> Tensor:
        states.append(hidden)
        return hidden[:, :1]

    with before_head(base, keep):
        base(**inputs, use_cache=False, return_dict=True)
    return states[0][0]


@contextmanager
def _switched(base: PreTrainedModel, segments: Segments, checked: bool = False) -> Iterator[None]:
    """Put our attention in place of the model's; on leaving, the model must have used it."""
    run = _PackedPass(type(base).__name__, segments, checked=checked)
    # Attention layers read the name from their config, and a model may have several.
    configs = {id(c): c for module in base.modules() if (c := vars(module).get("config"))}
    named = [c for c in configs.values() if hasattr(c, "_attn_implementation_internal")]
    # Not through the public setter, which also sets the configs below.
    previous = [config._attn_implementation_internal for config in named]
    token = _current.set(run)
    try:
        for config in named:
            config._attn_implementation_internal = NAME
        yield
    finally:
        _current.reset(token)
        for config, implementation in zip(named, previous, strict=True):
            config._attn_implementation_internal = implementation
    if not run.calls or not run.masks:
        raise _refusal(run.model, "does not use the attention interface of transformers")


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: object,
) -> tuple[Tensor, None]:
    """Causal attention within each segment, with the signature that `transformers` requires.

    query: (1, heads, R, width); key and value: the same, perhaps with fewer heads, each shared by
    as many query heads. Returns (1, R, heads, width), and no weights.
    """
    run = _current.get()
    assert run is not None  # the name is only in use inside `_switched`
    run.calls += 1
    _refuse_unknown(run, module, query, attention_mask, dropout, kwargs)
    attend = _one_by_one
    if query.is_cuda:
        attend = _varlen if _flash_takes(query, value) else _side_by_side
    return attend(query, key, value, run.segments, scaling), None


def _one_by_one(q: Tensor, k: Tensor, v: Tensor, segments: Segments, scale: float | None) -> Tensor:
    """Return the attention of each example by itself, as if it were alone: the reference."""
    lengths = list(segments.lengths)
    attend = _causal(q, k, scale)
    by_example = zip(*(x.split(lengths, dim=2) for x in (q, k, v)), strict=True)
    pieces = [attend(*qkv) for qkv in by_example]
    return torch.cat(pieces, dim=2).transpose(1, 2)


def _side_by_side(
    q: Tensor, k: Tensor, v: Tensor, segments: Segments, scale: float | None
) -> Tensor:
    """The same sums in one kernel: examples are filled up at their ends, which no token of theirs sees."""
    padded = (segments.by_example(x[0].transpose(0, 1)).transpose(1, 2) for x in (q, k, v))
    attended_EHLD = _causal(q, k, scale)(*padded)
    return segments.end_to_end(attended_EHLD.transpose(1, 2))[None]


def _causal(q: Tensor, k: Tensor, scale: float | None) -> Callable[..., Tensor]:
    return partial(
        functional.scaled_dot_product_attention,
        is_causal=True,
        scale=scale,
        enable_gqa=q.shape[1] != k.shape[1],
    )


def _varlen(q: Tensor, k: Tensor, v: Tensor, segments: Segments, scale: float | None) -> Tensor:
    bounds, longest = segments.cu_seqlens, segments.longest
    q_RHD, k_RHD, v_RHD = (x[0].transpose(0, 1) for x in (q, k, v))
    out_RHD = varlen_attn(
        *(q_RHD, k_RHD, v_RHD, bounds, bounds, longest, longest),
        scale=scale,
        window_size=(-1, 0),
        enable_gqa=q.shape[1] != k.shape[1],
    )
    assert isinstance(out_RHD, Tensor)  # alone, unless auxiliary results are requested
    return out_RHD[None]


def _flash_takes(query: Tensor, value: Tensor) -> bool:
    """Return whether varlen_attn is available and has a kernel for these tensors."""
    width = query.shape[-1]
    return (
        _HAS_VARLEN
        and query.is_cuda
        and query.dtype in (torch.float16, torch.bfloat16)
        and width == value.shape[-1]
        and width <= 256
        and width % 8 == 0
        and torch.cuda.get_device_capability(query.device) >= (8, 0)
    )


def _mask(mask_function: Callable[..., Tensor], **_others: object) -> None:
    """Check the model's own rule of who sees whom; if it is causal, no mask has to be made.

    Given query and key positions in the packed row, `mask_function` says whether the one sees the
    other. In each example the last token must see the first, and the first must not see the last.
    """
    run = _current.get()
    assert run is not None
    run.masks += 1
    if run.checked:
        return
    bounds = run.segments.cu_seqlens.long()
    first_E, last_E = bounds[:-1], bounds[1:] - 1
    zero = torch.zeros_like(first_E)
    if not mask_function(zero, zero, last_E, first_E).all():
        longest = run.segments.longest
        raise _refusal(run.model, f"has a window in which {longest} tokens do not see each other")
    if (mask_function(zero, zero, first_E, last_E) & (first_E != last_E)).any():
        raise _refusal(run.model, "lets tokens see later ones")


def _refuse_unknown(
    run: _PackedPass,
    module: nn.Module,
    query: Tensor,
    mask: Tensor | None,
    dropout: float,
    kwargs: dict[str, object],
) -> None:
    if (query.shape[0], query.shape[2]) != (1, run.segments.rows):
        raise _refusal(run.model, "gives its attention rows other than the tokens of the batch")
    if mask is not None:
        raise _refusal(run.model, "makes an attention mask of its own")
    if dropout:
        raise _refusal(run.model, "drops attention weights while it trains")
    is_causal = kwargs.get("is_causal")
    if not (getattr(module, "is_causal", True) if is_causal is None else is_causal):
        raise _refusal(run.model, "lets tokens see later ones")
    window, longest = kwargs.get("sliding_window"), run.segments.longest
    if window is not None and not (isinstance(window, int) and window >= longest):
        problem = f"has a window of {window} tokens, fewer than the {longest} of an example"
        raise _refusal(run.model, problem)
    for name, argument in kwargs.items():
        if name not in _HARMLESS and argument is not None and argument is not False:
            raise _refusal(
                run.model, f"gives its attention {name!r}, which packed attention ignores"
            )


def _refusal(model: str, problem: str) -> InputError:
    return InputError(
        f"model {model} cannot be packed: it {problem}; use padded batches (packed: false)"
    )


AttentionInterface.register(NAME, _attention)
AttentionMaskInterface.register(NAME, _mask)
