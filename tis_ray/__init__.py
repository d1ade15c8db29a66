"""tis_ray: targeted instruction selection.

A pool of N candidate examples and a query set of M examples of a target task go in; an ordering of
the pool comes out, with a fine-tuned model, a comparison with random and zero-shot, and a report.

Shape suffixes used everywhere (`scores_MN`, `grads_EP`):
N pool, M queries, B budget, P trainable parameters, K sketch width, C checkpoints, T tokens,
E examples in a batch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from tis_ray.errors import InputError
from tis_ray.version import __version__

if TYPE_CHECKING:
    from tis_ray.config import Config, load_config, plan
    from tis_ray.interactive import Study
    from tis_ray.report.analyze import analyze
    from tis_ray.selectors import Ordering, select
    from tis_ray.study.run import run

_HOMES = {
    "Config": "tis_ray.config",
    "Ordering": "tis_ray.selectors",
    "Study": "tis_ray.interactive",
    "analyze": "tis_ray.report.analyze",
    "load_config": "tis_ray.config",
    "plan": "tis_ray.config",
    "run": "tis_ray.study.run",
    "select": "tis_ray.selectors",
}
_PACKAGES = ("analysis", "data", "evaluation", "gradients", "models", "representations")

__all__ = [
    "Config",
    "InputError",
    "Ordering",
    "Study",
    "__version__",
    "analyze",
    "load_config",
    "plan",
    "run",
    "select",
]


def __getattr__(name: str) -> Any:
    """Import on first use, so that `import tis_ray` and `tis-ray --help` stay quick."""
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name in _PACKAGES:
        return importlib.import_module(f"tis_ray.{name}")
    raise AttributeError(f"module 'tis_ray' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, *_PACKAGES])
