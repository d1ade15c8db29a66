"""The verbs that read: finished studies, the methods that there are, this machine. None needs Ray."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.markup import escape

from tis_ray.cli.options import (
    PLACE,
    ConfigFile,
    Overrides,
    app,
    as_place,
    console,
    load,
    say,
    writing,
)
from tis_ray.errors import InputError
from tis_ray.stopping import stopped_by
from tis_ray.version import __version__


@app.command()
def preview(
    config: ConfigFile,
    overrides: Overrides = None,
    rows: Annotated[int, typer.Option(min=0, help="Rows shown of each side.")] = 3,
    side: Annotated[
        Literal["pool", "query", "test"] | None, typer.Option(help="One side only.")
    ] = None,
    task: Annotated[str | None, typer.Option(help="One task of a file with `tasks`.")] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Read every row, not the first 1,000 of each side.")
    ] = False,
    html: Annotated[Path | None, typer.Option(help="Write a page there, too.", **PLACE)] = None,
) -> None:
    """Show what the model will see: some rows as tokens, what is learnt of them, what is refused or cut.

    Needs no cluster, no weights and no disk. Rows that a run drops later (repeats of test rows) are shown.

    Example: tis-ray preview --config examples/quickstart.yaml

    Example: tis-ray preview -c study.yaml --set data.template=chat --side pool --html preview.html
    """
    loaded = load(config, overrides)
    if html is not None and html.is_dir():
        raise InputError(f"--html: {html} is a folder; give a file")
    from tis_ray.report.preview_page import write_preview
    from tis_ray.report.preview_text import print_preview
    from tis_ray.store.sides import SIDES
    from tis_ray.study.preview import previews

    sides = (side,) if side else SIDES
    with console.status("reading") as status:
        found = previews(
            loaded, rows, sides, task, every, lambda name, n: status.update(f"{name}: {n:,} rows")
        )
    out = Console(width=None if sys.stdout.isatty() else 110)
    for each in found:
        print_preview(each, out)
        out.print()
    if html is not None:
        say(f"preview: {write_preview(found, html)}")


ToFolder = Annotated[
    Path | None,
    typer.Option(
        "--to",
        help="Folder for every table as CSV and LaTeX (tables/) and every figure as SVG, PDF, PNG and"
        " Vega-Lite (figures/).",
        show_default=False,
        **PLACE,
    ),
]


@app.command()
def report(config: ConfigFile, overrides: Overrides = None, to: ToFolder = None) -> None:
    """Draw the report of a finished study again, from its `record.json`; of several, the page of all too.

    Example: tis-ray report --config examples/quickstart.yaml

    Example: tis-ray report --config examples/quickstart.yaml --to paper/
    """
    to = to and to.absolute()
    loaded = load(config, overrides)
    from tis_ray.finished.redraw import redrawn

    with writing("--to", to):
        for page in redrawn(loaded, to):
            say(f"report: {page}")
    if to is not None:
        say(f"files: {to}")


@app.command()
def analyze(
    folders: Annotated[
        list[Path],
        typer.Argument(
            help="The paper's published results, or run folders of finished studies, each a task.",
            metavar="FOLDER...",
            parser=as_place,
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for tables.json and index.html.", **PLACE)],
    to: ToFolder = None,
) -> None:
    """Tables, figures and statistics of finished results: the paper's, or your own studies'.

    Example: tis-ray analyze plot_data_tulu --out analysis/

    Example: tis-ray analyze runs/gsm8k runs/bbh --out analysis/ --to paper/
    """
    from tis_ray.report.analyze import analyze as analyze_folders

    with writing("--out", out), writing("--to", to):
        page = analyze_folders(folders, out, to)
    say(f"analysis: {page}")
    say(f"tables: {out / 'tables.json'}")
    if to is not None:
        say(f"files: {to}")


@app.command()
def explain(
    config: ConfigFile,
    example: Annotated[
        str | None,
        typer.Argument(help="Id of a pool row; without it, all selected rows.", metavar="ID"),
    ] = None,
    overrides: Overrides = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the tables; by default `explain/` in the run's.", **PLACE),
    ] = None,
    near: Annotated[
        float | None,
        typer.Option(
            min=-1,
            max=1,
            help="Cosine from which two rows are near-duplicates; 0.95, if it is not given. With an ID it "
            "also has them looked for where that takes long.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with whole texts.")] = False,
) -> None:
    """Say why rows were chosen: rank, score, query, margin, checkpoints, near-duplicates, source.

    With an ID (or the id that the row's file gives it, or FILE:LINE): where that row stands in each
    ordering, its neighbours, and its text beside its query's, with what they share. Without: a table of
    all selected rows of each ordering, as .parquet and .csv; its first rows are printed.

    Example: tis-ray explain --config examples/quickstart.yaml

    Example: tis-ray explain --config examples/quickstart.yaml reverse_word.space.pool0.000163

    Example: tis-ray explain --config study.yaml pool.jsonl:17 --json
    """
    out = out and out.absolute()
    loaded = load(config, overrides)
    from tis_ray.config import together
    from tis_ray.finished.explain import explain_row
    from tis_ray.finished.explain_all import explain_orderings, first_rows, not_selected
    from tis_ray.finished.explain_screen import print_explained

    several = together(loaded) is not None
    if example is not None:
        of_studies = list(explain_row(loaded, example, near))
        if as_json:
            typer.echo(json.dumps([asdict(each) for each in of_studies], ensure_ascii=False))
            return
        for each in of_studies:
            print_explained(each, Console(width=None if sys.stdout.isatty() else 110), several)
    else:
        with writing("--out", out):
            tables = [*explain_orderings(loaded, out, 0.95 if near is None else near)]
        if as_json:
            typer.echo(json.dumps([each.to_json() for each in tables], ensure_ascii=False))
            return
        for ordering in tables:
            name = f"{ordering.study}: {ordering.method}" if several else ordering.method
            Console(width=console.width).print(first_rows(ordering, name, console.width))
            say(f"{name}: {ordering.path} and .csv")
    for name in not_selected(loaded):
        say(f"{name}: no ordering yet; `tis-ray select` makes it")


@app.command()
def recommend(
    pilots: Annotated[
        list[Path],
        typer.Argument(help="Run folders of a pilot study, one for each target task.", **PLACE),
    ],
    budget: Annotated[int, typer.Option(min=1, help="The budget you plan, in examples.")],
    pool_rows: Annotated[
        int | None,
        typer.Option(min=1, help="Rows of the pool you plan to use; by default the pilot's."),
    ] = None,
    metric: Annotated[str, typer.Option(help="What is to be improved.")] = "test_loss",
) -> None:
    """Say which method to use at a budget, from a small pilot: expected gain, interval, price.

    A pilot is a study on a part of the pool (`data.pool.sample`) with two or more small budgets.

    Example: tis-ray recommend runs/study --budget 5000 --pool-rows 200000
    """
    from tis_ray.report.recommendation import advice

    for line in advice(pilots, budget, pool_rows, metric):
        typer.echo(line)


@app.command()
def status(
    config: ConfigFile,
    overrides: Overrides = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the run ends, with its exit code.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object; with --follow at each change.")
    ] = False,
) -> None:
    """Say how far a run is: stages, rate and time left; or how it ended. From any machine that sees its folder.

    Example: tis-ray status --config examples/quickstart.yaml

    Example: tis-ray status --config s3://bucket/runs/study --follow

    Example: tis-ray status --config examples/quickstart.yaml --json
    """
    from tis_ray.finished.status import Runs, status_json, status_lines

    named = None if overrides else Runs.named(config)
    runs = named or Runs.of(load(config, overrides))
    if follow:
        from tis_ray.finished.follow import follow_json, follow_lines

        with stopped_by("no longer following; the run is as it was"):
            code = (
                follow_json(runs, typer.echo)
                if as_json
                else follow_lines(runs, Console(width=None if sys.stdout.isatty() else 110))
            )
        sys.exit(code)  # `typer.Exit` with 130 would say that this program was stopped
    if as_json:
        typer.echo(status_json(runs))
        return
    for line in status_lines(runs):
        typer.echo(line)


@app.command()
def methods() -> None:
    """List representations, selectors and metrics: ours and those of installed packages, with settings.

    Example: tis-ray methods
    """
    from tis_ray.study.catalogue import catalogue

    for line in catalogue():
        typer.echo(line)


@app.command()
def doctor() -> None:
    """Check this machine: versions, devices, optional packages, Ray, disk.

    Example: tis-ray doctor
    """
    from tis_ray.study.doctor import checks

    failed = False
    for check in checks():
        failed |= check.problem
        mark = "[red]✗[/red]" if check.problem else "[green]✓[/green]"
        console.print(f"{mark} {check.name:<24} {escape(check.found)}", highlight=False)
    raise typer.Exit(1 if failed else 0)


@app.command()
def version() -> None:
    """Print the version.

    Example: tis-ray version
    """
    typer.echo(__version__)
