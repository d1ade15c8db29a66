"""From a finished selection to a file in the user's hand: what `tis-ray subset` does. Needs no Ray."""

from __future__ import annotations

from dataclasses import dataclass

from tis_ray.config import Config, plan
from tis_ray.config.problems import not_among
from tis_ray.data.forms import FORMS
from tis_ray.data.sources import parts_of
from tis_ray.errors import InputError
from tis_ray.finished.asked_methods import asked_method
from tis_ray.finished.data_card import data_card
from tis_ray.finished.lineage import require_orderings
from tis_ray.finished.random_draw import random_draws
from tis_ray.finished.subset import Choice, Ordered, Subset, subsets
from tis_ray.finished.subset_files import KINDS, write_original
from tis_ray.finished.trainer_files import write_form
from tis_ray.methods import RANDOM
from tis_ray.storage import Place, followed
from tis_ray.store.dataset_folder import save_dataset

HF, ORIGINAL = "hf", "original"
NAMES = (ORIGINAL, *FORMS, HF)
"""Forms of a subset."""


@dataclass(frozen=True, repr=False)
class Made:
    """What was written: the choice, the files, and the stanza for a trainer's settings if it has one."""

    def __repr__(self) -> str:
        """Return the files, a line each."""
        return "\n".join(map(str, self.files))

    choice: Choice
    files: list[Place]
    stanza: Place | None = None


def only_study(config: Config) -> Config:
    """Return the one study of a config. Raises InputError where there are several."""
    studies = plan(config)
    if len(studies) > 1:
        folders = ", ".join(str(study.run_dir) for study in studies.values())
        raise InputError(f"subset: the file has several studies; give one: {folders}")
    return next(iter(studies.values()))


def orderings(run_dir: Place, config: Config) -> dict[str, Ordered]:
    """Return the orderings of a study by their methods, then what its seeds draw at random.

    Raises InputError if there is none yet.
    """
    names = require_orderings(run_dir)
    found = {name.name: Ordered(name.name, followed(name), config.budget_unit) for name in names}
    return found | random_draws(config, next(iter(found.values())))


def choose(
    run_dir: Place, config: Config, method: str | None, budget: int | None, seed: int | None = None
) -> Choice:
    """Return what a budget selects by a method of a study: `less+round_robin`, or `less-round_robin`.

    Both may be left out where the study has one. Raises InputError for what it has not.
    """
    known = orderings(run_dir, config)
    names = [name for name in known if method or not name.startswith(f"{RANDOM}-seed-")]
    if method is not None:
        asked = method.replace(" ", "")
        # Of a representation alone the folder says whether it has one ordering.
        pair = asked_method(asked, config) if "+" in asked else None
        wanted = (pair or asked).replace("+", "-")
        names = [name for name in known if name == wanted or name.startswith(f"{wanted}-")]
        names = [wanted] if wanted in names else names
    if seed is not None:
        names = [name for name in names if name.endswith(f"-seed-{seed}")]
    if len(names) != 1:
        found = " ".join([method or "none", *([] if seed is None else [f"with seed {seed}"])])
        of_seeds = {name.partition("-seed-")[0] for name in names}
        which = "give --seed too, or " if seed is None and len(of_seeds) == 1 else "give "
        advice = f"{which}one of {', '.join(names or known)}"
        raise InputError(f"--method: found {found}; {advice}")
    ordered = known[names[0]]
    if budget is None and len(ordered.budgets) > 1:
        raise InputError(
            f"--budget is missing; give one of {', '.join(map(str, ordered.budgets))}, or a smaller one"
        )
    return ordered.choice(next(iter(ordered.budgets)) if budget is None else budget)


def subset_of(choice: Choice, config: Config) -> Subset:
    """Return the rows of a choice as they came. Raises InputError where the pool has changed since."""
    return subsets([choice], config.data.pool)[0]


def make_subset(
    choice: Choice, config: Config, to: Place, form: str, overwrite: bool = False
) -> Made:
    """Write a choice in one of the forms, to a file or into a folder; `hf` is a folder itself.

    Raises InputError, and writes nothing, where the form cannot say a row, and where there is something
    already: it is replaced with `overwrite`, but never if the study reads it.
    """
    if form not in NAMES:
        raise InputError(not_among("form", form, NAMES))
    if form == HF:
        _require_free(to, config, overwrite)
        subset = subset_of(choice, config)
        save_dataset(subset.table(), to, data_card(subset, config))
        return Made(choice, [to])
    if form == ORIGINAL:
        subset = subset_of(choice, config)
        path = _file(to, f"{choice.name}{subset.originals.kind}", KINDS)
        _require_free(path, config, overwrite)
        write_original(subset, path)
        return Made(choice, [path])
    path = _file(to, f"{choice.name}.jsonl", (".jsonl", ".json"))
    _require_free(path, config, overwrite)
    written = write_form(choice, FORMS[form], path, config)
    return Made(choice, written, written[-1] if FORMS[form].stanza else None)


def _require_free(path: Place, config: Config, overwrite: bool) -> None:
    """Raise InputError unless a file or folder may be written there."""
    for folder in path.absolute().parents:
        if folder.exists():
            if not folder.is_dir():
                raise InputError(f"{folder}: is a file, so there can be no {path}")
            break
    root, whole = config.artifact_root.resolve(), path.resolve()
    if root == whole or root in whole.parents:
        raise InputError(f"{path}: is an artifact of a study; give a file of your own")
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return
    if whole in _inputs(config):
        raise InputError(f"{path}: is read by the study; give another name")
    if not overwrite:
        raise InputError(
            f"{path}: is there already; give another name, or overwrite it (`--overwrite`, `overwrite=True`)"
        )


def _inputs(config: Config) -> set[Place]:
    """Return the files that a study reads, and what they lie in."""
    sides = [config.data.side(side) for side in config.data.sides]
    files: set[Place] = {
        file.path.resolve() for side in sides for part in parts_of(side) for file in part.files
    }
    return files | {folder for file in files for folder in file.parents}


def _file(to: Place, name: str, kinds: tuple[str, ...]) -> Place:
    """Return the file that `--to` means: itself, or one of this name in it."""
    if to.is_dir() or not to.suffix:
        return to / name
    if to.suffix.lower() not in kinds:
        raise InputError(
            f"{to}: a file of these rows cannot be called so; give a folder, or a file that ends in {', '.join(kinds)}"
        )
    return to
