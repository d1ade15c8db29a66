"""The verb that puts selected rows into the user's hand."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from tis_ray.cli.options import Overrides, app, load, say


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
    to: Annotated[Path, typer.Option(help="File or folder to write; a folder for `hf`.")],
    run: Annotated[
        Path | None,
        typer.Argument(help="Folder of a study that has selected.", metavar="[RUN]"),
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="YAML file of the study, in place of RUN.")
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
    loaded = None if config is None else load(config, overrides)
    from tis_ray.finished.make_subset import choose, make_subset, study_of
    from tis_ray.store import read_text

    folder, study = study_of(run, loaded)
    chosen = choose(folder, study, method, budget, seed)
    made = make_subset(chosen, study, to, form.value, overwrite)
    if made.stanza is not None:
        typer.echo(read_text(made.stanza), nl=False)
    for path in made.files:
        say(f"{form.value}: {path}")
    say(f"{chosen.table.num_rows} rows by {chosen.method}, best first")
