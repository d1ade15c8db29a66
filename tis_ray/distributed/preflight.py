"""Preflight: before any work every node of a cluster is asked whether it can do it.

A node reads what this process has just written where the study is kept, and writes something that this process
then reads; it names its versions, and says whether it sees the models. One line for each that differs, before
anything is computed.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import platform
import shutil
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tis_ray.config import Config
from tis_ray.distributed.every_node import Node, ask, name_of, others
from tis_ray.errors import InputError
from tis_ray.methods import Code, code_of
from tis_ray.models.loading import model_files
from tis_ray.settings import ModelConfig
from tis_ray.storage import Place, is_remote, place, remove_folder
from tis_ray.storage.local_copy import cache_folder
from tis_ray.store import read_text, write_text
from tis_ray.version import __version__

SECONDS = 25.0
"""How long the nodes have, all together."""
PACKAGES = ("ray", "torch", "transformers", "peft", "numpy", "pyarrow")
"""Whose versions decide what a worker computes, or whether it can read what it is sent."""
LEAST_GB = 1.0
"""Free space for copies of files that are in a bucket."""


@dataclass(frozen=True)
class Question:
    """What a node is asked.

    folders: where the study is kept. nonce: names what is read and written there. models: folders of models
    on disks. codes: of the user's own methods. copies: whether files in a bucket are copied to the node.
    """

    folders: tuple[str, ...]
    nonce: str
    models: tuple[str, ...]
    codes: tuple[Code, ...]
    copies: bool


Answer = dict[str, Any]
"""What a node says: `versions`, `models` and `codes` by name; `unseen` and `unwritten` folders, why; `free_gb`."""


def check_nodes(config: Config, models: Iterable[ModelConfig]) -> None:
    """Raise InputError, with a line for each node that could not do its work, where there are several machines."""
    nodes = others()
    if not nodes:
        return
    roots = {str(config.artifact_root): config.artifact_root, str(config.run_dir): config.run_dir}
    files = [model_files(model) for model in models if not is_remote(model.name)]
    question = Question(
        folders=tuple(roots),
        nonce=uuid.uuid4().hex,
        models=tuple(sorted({file.name for file in files if file.is_folder})),
        codes=tuple(method.code for method in config.outside() if method.code is not None),
        copies=any(is_remote(root) for root in roots),
    )
    try:
        for root in roots.values():
            write_text(_notes(root, question.nonce) / "driver", question.nonce)
        problems = _asked(question, nodes)
    finally:
        for root in roots.values():
            remove_folder(_notes(root, question.nonce))
    if problems:
        raise InputError("\n".join(problems))


def nodes_without(files: Sequence[Path]) -> list[str]:
    """Return the names of the nodes that have not these files as this machine has them, or do not answer."""
    names = [str(file.absolute()) for file in files]
    ours = _sizes(names)
    theirs = ask(others(), _sizes, lambda _: (names,), SECONDS)
    return sorted(name_of(node) for node, sizes in theirs if sizes != ours)


def _sizes(names: Sequence[str]) -> list[int | None]:
    """Return the sizes of files, None for one that is not there (runs on a node)."""
    return [Path(name).stat().st_size if Path(name).is_file() else None for name in names]


def _asked(question: Question, nodes: Sequence[Node]) -> list[str]:
    """Ask the nodes; return a line for each that differs from this machine or does not answer."""
    ours, problems = answer(question, ""), []
    for node, theirs in ask(nodes, answer, lambda node: (question, node["NodeID"]), SECONDS):
        if isinstance(theirs, TimeoutError):
            problem: str | None = f"has not answered within {SECONDS:.0f} s; see that it is well"
        elif isinstance(theirs, Exception):
            problem = _reason(theirs)
        else:
            problem = _difference(question, ours, theirs, node["NodeID"])
        if problem:
            problems.append(f"node {name_of(node)}: {problem}")
    return sorted(problems)


def answer(question: Question, node: str) -> Answer:
    """Return what a machine says of itself (runs there); without a `node` nothing is written."""
    unseen, unwritten = {}, {}
    for named in question.folders:
        notes = _notes(place(named), question.nonce)
        try:
            seen = read_text(notes / "driver")
            if seen != question.nonce:
                unseen[named] = "it has something else there"
        except Exception as error:  # storages raise of every kind
            unseen[named] = _line(error)
            continue
        try:
            if node:
                write_text(notes / node, node)
        except Exception as error:
            unwritten[named] = _line(error)
    return {
        "versions": _versions(),
        "models": {name: _files(Path(name)) for name in question.models},
        "codes": {f"{code.module}:{code.attribute}": _digest(code) for code in question.codes},
        "unseen": unseen,
        "unwritten": unwritten,
        "free_gb": shutil.disk_usage(cache_folder()).free / 1e9 if question.copies else None,
    }


def _difference(question: Question, ours: Answer, theirs: Answer, node: str) -> str | None:
    """Return in words the first thing that a node has not as this machine has it."""
    for folder, why in theirs["unseen"].items():
        return (
            f"does not see {folder} ({why}); give `artifacts` and `runs` a folder that all nodes see, or a "
            "bucket"
        )
    for folder, why in theirs["unwritten"].items():
        return f"cannot write to {folder} ({why}); give its user the right to"
    for folder in question.folders:
        if not (_notes(place(folder), question.nonce) / node).exists():
            return f"writes to another {folder} than this machine reads; give a folder that all nodes see"
    for name, version in ours["versions"].items():
        other = theirs["versions"].get(name)
        if other != version:
            return f"has {name} {other or 'not'}, and this machine {version}; install the same"
    for kind, what in (("models", "the model"), ("codes", "the method")):
        for name, files in ours[kind].items():
            if theirs[kind].get(name) != files:
                state = "does not have" if not theirs[kind].get(name) else "has other files of"
                return f"{state} {what} {name}; put it on every node, or give a bucket"
    if theirs["free_gb"] is not None and theirs["free_gb"] < LEAST_GB:
        return (
            f"has {theirs['free_gb']:.1f} GB left for copies of what is in the bucket; set TIS_RAY_CACHE to a "
            "folder on a larger disk"
        )
    return None


def _versions() -> dict[str, str]:
    versions = {"Python": platform.python_version(), "tis_ray": __version__}
    return versions | {name: importlib.metadata.version(name) for name in PACKAGES}


def _files(folder: Path) -> list[tuple[str, int]]:
    """Return names and sizes of a model's files; their bytes would take minutes to compare."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return [(path.relative_to(folder).as_posix(), path.stat().st_size) for path in paths]


def _digest(code: Code) -> str:
    """Return the digest that a method's code has on this machine; "" where it cannot be imported."""
    try:
        thing: Any = importlib.import_module(code.module)
        for name in code.attribute.split("."):
            thing = getattr(thing, name)
        return code_of(code.module, code.attribute, thing).source
    except Exception:  # code that somebody else wrote raises of every kind
        return ""


def _notes(root: Place, nonce: str) -> Place:
    return root / f"preflight-{nonce}"


def _reason(error: Exception) -> str:
    text = str(error)
    if "No module named 'tis_ray'" in text:
        return "has no tis_ray; install the version of this machine there"
    return f"{text.strip().splitlines()[-1]}; see that it is well"


def _line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
