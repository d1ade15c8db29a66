"""The direction that stands for a gradient: the Adam step, the gradient itself, or its sign.

LESS (Xia et al. 2024, section 3.1) takes the step that Adam would make on a single candidate, from
the moments saved with a checkpoint, and compares it with the plain gradient of a query.
"""

from collections.abc import Mapping
from typing import Literal, get_args

import torch
from torch import Tensor

from tis_ray.errors import InputError

DirectionKind = Literal["adam", "sgd", "sign"]


def adam_direction(
    grads: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
) -> Tensor:
    """Return Adam's update direction for each example, as if it were the next step's whole batch.

        m' = beta1 m + (1 - beta1) g,   v' = beta2 v + (1 - beta2) g^2,   direction = m' / sqrt(v' + eps)

    As in LESS, eps is inside the root and there is no bias correction; this is not the update of
    `torch.optim.Adam`.

    grads: (E, ...) gradients, with one leading axis more than the moments; left unchanged.
    exp_avg, exp_avg_sq: (...) the optimizer's first and second moments of the same parameter(s).
    Returns (E, ...), in the gradients' dtype.
    Raises InputError if the shapes do not fit.
    """
    check_moments(grads, exp_avg, exp_avg_sq)
    first_moment = torch.add(beta1 * exp_avg, grads, alpha=1 - beta1)
    denominator = torch.addcmul(beta2 * exp_avg_sq + eps, grads, grads, value=1 - beta2)
    return first_moment.mul_(denominator.rsqrt_())


class MomentEstimate:
    """Adam's moments at weights that stay where they are, from the gradients g_1 ... g_S of S mini-batches.

    An adapter comes without the moments of its training. These are what its optimizer would hold after S
    steps at learning rate 0, begun at zero:

        m_s = beta1 m_(s-1) + (1 - beta1) g_s,    v_s = beta2 v_(s-1) + (1 - beta2) g_s^2

    As LESS takes a checkpoint's moments raw, so these are: m_S has the scale 1 - beta1^S of the mean
    gradient, and v_S the scale 1 - beta2^S of the mean square, as after S steps of a warm-up. Divided by
    those scales (Kingma and Ba 2015, section 3) they would be those of an endless training, in which a
    row's own gradient counts least beside the momentum that all rows share; measured, such directions
    choose worse (docs/adapter.md).
    """

    def __init__(self, beta1: float = 0.9, beta2: float = 0.999) -> None:
        self.beta1, self.beta2, self.steps = beta1, beta2, 0
        self._first: dict[str, Tensor] = {}
        self._second: dict[str, Tensor] = {}

    def add(self, grads: Mapping[str, Tensor]) -> None:
        """Take in one mini-batch's gradients, by parameter name; the same names each time."""
        self.steps += 1
        for name, grad in grads.items():
            for moments, values, beta in (
                (self._first, grad, self.beta1),
                (self._second, grad.square(), self.beta2),
            ):
                before = moments.get(name)
                before = torch.zeros_like(grad) if before is None else before
                moments[name] = beta * before + (1 - beta) * values

    def moments(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return m_S and v_S by parameter name. Raises InputError if there was no mini-batch."""
        if not self.steps:
            raise InputError("moments: no mini-batch was given; give at least one row")
        return self._first, self._second


def sign_direction(grads: Tensor) -> Tensor:
    """Return the sign of each coordinate: -1, 0 or 1, in the gradients' shape and dtype."""
    return torch.sign(grads)


def direction(
    kind: DirectionKind,
    grads: Tensor,
    exp_avg: Tensor | None = None,
    exp_avg_sq: Tensor | None = None,
) -> Tensor:
    """Return the direction named by `kind`; only "adam" needs the moments.

    Raises InputError for an unknown kind, or for "adam" without moments.
    """
    if kind == "sgd":
        return grads
    if kind == "sign":
        return sign_direction(grads)
    if kind != "adam":
        raise InputError(f"gradient direction is {kind!r}; choose from {get_args(DirectionKind)}")
    check_moments(grads, exp_avg, exp_avg_sq)
    assert exp_avg is not None
    assert exp_avg_sq is not None
    return adam_direction(grads, exp_avg, exp_avg_sq)


def check_moments(grads: Tensor, exp_avg: Tensor | None, exp_avg_sq: Tensor | None) -> None:
    """Raise InputError unless both moments are there and have the shape of one example's gradient."""
    if exp_avg is None or exp_avg_sq is None:
        raise InputError(
            "gradient direction 'adam' needs the optimizer's exp_avg and exp_avg_sq; give both"
        )
    shape = tuple(grads.shape[1:])
    for label, moment in (("exp_avg", exp_avg), ("exp_avg_sq", exp_avg_sq)):
        if tuple(moment.shape) != shape:
            raise InputError(
                f"{label} has shape {tuple(moment.shape)} but one example's gradient has {shape}; "
                "match the optimizer state to the parameters by name"
            )
