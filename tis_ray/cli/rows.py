"""The verb that puts selected rows into the user's hand."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from tis_ray.cli.options import PLACE, Overrides, app, as_place, load, load_run, say, writing
from tis_ray.errors import InputError


class FormName(StrEnum):
    """The forms, named here so that `--help` needs no other part of the package."""

    original = "original"
    messages = "messages"
    trl = "trl"
    axolotl = "axolotl"
    llamafactory = "llamafactory"
    hf = "hf"


@app.command()
def subset(
    to: Annotated[
        str,
        typer.Option(help="File or folder to write; a folder for `hf`.", metavar="PATH"),
    ],
    run: Annotated[
        Path | None,
        typer.Argument(
            help="Folder of a study that has selected.", parser=as_place, metavar="[RUN]"
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", help="YAML file of the study, in place of RUN.", **PLACE),
    ] = None,
    overrides: Overrides = None,
    method: Annotated[
        str | None, typer.Option(help="Such as less+round_robin; needed where there are several.")
    ] = None,
    budget: Annotated[
        int | None, typer.Option(min=1, help="In the study's unit; at most its largest budget.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Seed, of a method that has an ordering for each.")
    ] = None,
    form: Annotated[FormName, typer.Option(help="What the rows are for.")] = FormName.original,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")] = False,
) -> None:
    """Write the selected rows: as they came, or in the form that a trainer loads.

    `original` has all columns of the rows, and one more, `tis_ray`: rank, score, query, file, line, why. The
    forms of trainers have what the trainer reads, and the stanza of its settings is printed and written
    beside them. `hf` is a folder for `datasets.load_from_disk`, with a data card.

    Example: tis-ray subset runs/quickstart --method less+round_robin --budget 50 --to best.jsonl

    Example: tis-ray subset runs/quickstart --budget 100 --method less --form axolotl --to data/
    """
    if (run is None) == (config is None):
        raise InputError("subset: give either a run folder, such as runs/study, or --config FILE")
    if to == "-":
        raise InputError("--to: writes a file or a folder, not to standard output; give its name")
    if not to.strip():
        raise InputError("--to: is empty; give a file or a folder")
    from tis_ray.storage import place

    here, path = Path.cwd(), place(to)
    if config is not None:
        loaded = load(config, overrides)
    else:
        assert run is not None
        loaded = load_run(run, overrides)
    if isinstance(path, Path) and Path.cwd() != here:
        path = here / path
    from tis_ray.finished.make_subset import choose, make_subset, only_study
    from tis_ray.store import read_text

    study = only_study(loaded)
    chosen = choose(study.run_dir, study, method, budget, seed)
    with writing("--to", path):
        made = make_subset(chosen, study, path, form.value, overwrite)
    if made.stanza is not None:
        typer.echo(read_text(made.stanza), nl=False)
    for file in made.files:
        say(f"{form.value}: {file}")
    order = "in the order of the draw" if chosen.method.startswith("random-") else "best first"
    say(f"{chosen.table.num_rows} rows by {chosen.method}, {order}")
