"""The command line: one verb per job, each a few lines over the public API.

Exit codes: 0 done, 1 failed, 2 bad input.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from tis_ray.errors import FailedError, InputError, user_message
from tis_ray.version import __version__

app = typer.Typer(
    name="tis-ray",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Choose fine-tuning data for your task, and prove that the choice was worth it.",
)
# A pipe has no width; 110 columns hold the tables.
console = Console(stderr=True, width=None if sys.stderr.isatty() else 110)

CTRL_C = 130  # the code that newer versions of typer return; older ones raise Abort

ConfigFile = Annotated[
    Path, typer.Option("--config", "-c", help="YAML file of the study.", show_default=False)
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", help="Override a field: `--set budget=500 --set less.seed=1`."),
]


def _load(config: Path, overrides: list[str] | None) -> Any:
    """Read the config; verbs do this before they import Ray, which takes seconds."""
    from tis_ray.config import load_config

    return load_config(config, overrides)


@app.command()
def run(
    config: ConfigFile,
    overrides: Overrides = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Measure 64 rows and print what the study would cost.")
    ] = False,
) -> None:
    """Run a whole study: select, fine-tune, evaluate against random and zero-shot, report.

    The same command again continues a stopped run and reuses what is done.

    Example: tis-ray run --config examples/quickstart.yaml --set seed=[0,1,2]

    Example: tis-ray run --config examples/quickstart.yaml --dry-run
    """
    loaded = _load(config, overrides)
    if dry_run:
        from tis_ray.study.price import price, print_price

        print_price(price(loaded), Console(width=console.width))
        return
    from tis_ray.study.run import PartsFailedError
    from tis_ray.study.run import run as run_study
    from tis_ray.study.summary import print_summary

    try:
        result = run_study(loaded, console=console)
    except PartsFailedError as error:
        if error.result.parts:
            print_summary(error.result, loaded, config, console)
        raise
    print_summary(result, loaded, config, console)


@app.command()
def featurize(config: ConfigFile, overrides: Overrides = None) -> None:
    """Compute the features of the pool and the query set, and stop there.

    Example: tis-ray featurize --config examples/quickstart.yaml --set representation=less
    """
    loaded = _load(config, overrides)
    from tis_ray.study.run import run as run_study

    result = run_study(loaded, until="featurize", console=console)
    for study in result.studies:
        _say(f"features: {study.run_dir / 'features'}")
    _say(f"next: tis-ray select --config {config}")


@app.command()
def score(
    pool: Annotated[Path, typer.Option(help="A `features-*` artifact with a pool side.")],
    query: Annotated[Path, typer.Option(help="A `features-*` artifact with the queries.")],
    out: Annotated[Path, typer.Option(help="Folder for the scores.")],
) -> None:
    """Score one run's pool against another run's queries, without a model.

    Both must be of one feature space (model, checkpoints, template, sketch, ...).

    Example: tis-ray score --pool runs/a/features/less --query runs/b/features/less --out scores/
    """
    from tis_ray.stages.scores import score_folders

    matrix = score_folders(pool, query, out)
    _say(f"scores: {matrix}")
    _say(
        f"next: tis-ray select --scores {matrix} --selector round_robin --budget 500 --out picked/"
    )


@app.command()
def select(
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="YAML file of the study.")
    ] = None,
    overrides: Overrides = None,
    scores: Annotated[
        Path | None,
        typer.Option(help="A bare .npy matrix instead of a study: queries x candidates."),
    ] = None,
    selector: Annotated[str, typer.Option(help="Selector for --scores.")] = "round_robin",
    budget: Annotated[int | None, typer.Option(help="Budget for --scores, in examples.")] = None,
    seed: Annotated[int, typer.Option(help="Seed, for --selector random.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder for --scores' ordering.parquet.")] = None,
) -> None:
    """Rank the pool: of a study, or of a bare score matrix.

    Example: tis-ray select --config examples/quickstart.yaml

    Example: tis-ray select --scores S.npy --selector round_robin --budget 500 --out picked/
    """
    if (config is None) == (scores is None):
        raise InputError("select: give either --config FILE or --scores FILE.npy")
    if config is not None:
        loaded = _load(config, overrides)
        from tis_ray.study.run import run as run_study

        result = run_study(loaded, until="select", console=console)
        for ordering in (found for study in result.studies for found in study.orderings):
            _say(f"{ordering.name}: {ordering.file}")
        _say(f"next: tis-ray finetune --config {config}")
        return
    if budget is None or out is None:
        raise InputError("select --scores: --budget and --out are needed too")
    from tis_ray.finished.select_scores import select_matrix

    assert scores is not None
    params = {"seed": seed} if selector == "random" else {}
    chosen = select_matrix(scores, selector, budget, out, **params)
    _say(f"{len(chosen)} candidates by {selector}: {out / 'ordering.parquet'}")


@app.command()
def finetune(config: ConfigFile, overrides: Overrides = None) -> None:
    """Fine-tune and evaluate every cell of the study, without the report.

    Each model lies in its cell's artifact: `adapter/`, a standard PEFT folder, or after full
    fine-tuning `model/`, a standard transformers folder.

    Example: tis-ray finetune --config examples/quickstart.yaml --set budget=100 --set seed=0
    """
    loaded = _load(config, overrides)
    from tis_ray.study.run import run as run_study

    result = run_study(loaded, until="evaluate", console=console)
    for cell in (found for study in result.studies for found in study.cells):
        if cell.model:
            name = f"{cell.method.representation} B={cell.budget} seed {cell.seed}"
            _say(f"{name}: {cell.artifact}/{cell.model}")
    _say(f"next: tis-ray evaluate --config {config}")


@app.command()
def export(
    config: ConfigFile,
    adapter: Annotated[Path, typer.Option(help="An adapter that `finetune` named.")],
    out: Annotated[Path, typer.Option(help="Folder to make.")],
    overrides: Overrides = None,
) -> None:
    """Merge a trained adapter into the base model: a plain transformers folder with its tokenizer.

    Example: tis-ray export -c examples/quickstart.yaml --adapter artifacts/cell-0a1b/adapter --out my-model
    """
    loaded = _load(config, overrides)
    from tis_ray.finished.export import export_adapter

    _say(f"model: {export_adapter(loaded, adapter, out)}")


@app.command()
def evaluate(config: ConfigFile, overrides: Overrides = None) -> None:
    """Print the losses and exact match of every cell (trains what is missing).

    Example: tis-ray evaluate --config examples/quickstart.yaml
    """
    loaded = _load(config, overrides)
    from tis_ray.study.labels import legend_of
    from tis_ray.study.run import run as run_study
    from tis_ray.study.summary import results_tables

    result = run_study(loaded, until="evaluate", console=console)
    for study in result.studies:
        Console(width=console.width).print(*results_tables(study.cells, legend_of(loaded)))


@app.command()
def report(config: ConfigFile, overrides: Overrides = None) -> None:
    """Draw the report of a finished study again, from its `record.json`; of several, the page of all too.

    Example: tis-ray report --config examples/quickstart.yaml
    """
    loaded = _load(config, overrides)
    from tis_ray.finished.redraw import redrawn

    for page in redrawn(loaded):
        _say(f"report: {page}")


@app.command()
def analyze(
    folders: Annotated[
        list[Path],
        typer.Argument(
            help="The paper's published results, or run folders of finished studies, each a task.",
            metavar="FOLDER...",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for tables.json, the figures and index.html.")],
) -> None:
    """Tables, figures and statistics of finished results: the paper's, or your own studies'.

    Example: tis-ray analyze plot_data_tulu --out analysis/

    Example: tis-ray analyze runs/gsm8k runs/bbh --out analysis/
    """
    from tis_ray.report.analyze import analyze as analyze_folders

    page = analyze_folders(folders, out)
    _say(f"analysis: {page}")
    _say(f"tables: {out / 'tables.json'}")


@app.command()
def explain(
    config: ConfigFile,
    example: Annotated[
        str | None,
        typer.Argument(help="Id of a pool row; without it, all selected rows.", metavar="ID"),
    ] = None,
    overrides: Overrides = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the tables; by default `explain/` in the run's.")
    ] = None,
    near: Annotated[
        float, typer.Option(min=-1, max=1, help="Cosine from which two rows are near-duplicates.")
    ] = 0.95,  # analysis.choice.NEAR, without loading what it needs
) -> None:
    """Say why rows were chosen: rank, score, query, margin, checkpoints, near-duplicates, source.

    With an ID: where that row stands in each ordering. Without: a table of all selected rows of each
    ordering, as .parquet and .csv; its first rows are printed.

    Example: tis-ray explain --config examples/quickstart.yaml

    Example: tis-ray explain --config examples/quickstart.yaml reverse-casual-000017
    """
    loaded = _load(config, overrides)
    from tis_ray.finished.explain import explain_orderings, explain_row, first_rows

    if example is not None:
        for line in explain_row(loaded, example, near):
            typer.echo(line)
        return
    for method, table, path in explain_orderings(loaded, out, near):
        Console(width=console.width).print(first_rows(method, table))
        _say(f"{method}: {path} and .csv")


@app.command()
def recommend(
    pilots: Annotated[
        list[Path], typer.Argument(help="Run folders of a pilot study, one for each target task.")
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
    from tis_ray.report.advice import advice

    for line in advice(pilots, budget, pool_rows, metric):
        typer.echo(line)


@app.command()
def status(config: ConfigFile, overrides: Overrides = None) -> None:
    """Say what of a run is done, running or failed, from its `events.jsonl`.

    Example: tis-ray status --config examples/quickstart.yaml
    """
    loaded = _load(config, overrides)
    from tis_ray.finished.status import status_lines

    for line in status_lines(loaded):
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
def submit(
    config: ConfigFile,
    overrides: Overrides = None,
    address: Annotated[
        str, typer.Option(help="Job server of the cluster.")
    ] = "http://127.0.0.1:8265",
    follow: Annotated[bool, typer.Option(help="Show the job's log until it ends.")] = True,
) -> None:
    """Send a study to a Ray cluster as a job (what `ray job submit -- python -m tis_ray.cli run` does).

    Example: tis-ray submit -c examples/quickstart.yaml --set runs=/shared/runs --set artifacts=/shared/artifacts
    """
    loaded = _load(config, overrides)
    from tis_ray.distributed.submit import submit_study

    raise typer.Exit(submit_study(loaded, address, follow, console))


@app.command()
def methods() -> None:
    """List representations, selectors and metrics: ours and those of installed packages, with settings.

    Example: tis-ray methods
    """
    from tis_ray.study.catalogue import catalogue

    for line in catalogue():
        typer.echo(line)


@app.command()
def version() -> None:
    """Print the version.

    Example: tis-ray version
    """
    typer.echo(__version__)


def main() -> None:
    """Entry point: turns what went wrong into one line and an exit code."""
    from tis_ray.distributed.quiet import quiet_ray

    try:
        with quiet_ray():
            # Without standalone mode typer returns the code of `typer.Exit` instead of exiting.
            code = app(standalone_mode=False)
    except (typer.Abort, KeyboardInterrupt):
        code = CTRL_C
    except Exception as error:
        code = _failed(error)
    if code == CTRL_C:
        _say("stopped; the same command continues")
        code = 1
    sys.exit(code if isinstance(code, int) else 0)


def _failed(error: Exception) -> int:
    # Wrong arguments. By its looks: some versions of typer bring their own copy of click's errors.
    if hasattr(error, "format_message") and hasattr(error, "exit_code"):
        if error.format_message():  # empty when only the help was asked for
            _complain("error", error.format_message())
        return 2
    if isinstance(error, FailedError):
        for line in str(error).splitlines():
            _complain("failed", line)
        return 1
    message = user_message(error)
    if message is not None:  # bad input, perhaps found by a worker and wrapped by Ray
        _complain("error", message)
        return 2
    console.print_exception(max_frames=8)
    return 1


def _complain(kind: str, message: str) -> None:
    console.print(f"[red]{kind}:[/red] {escape(message)}", soft_wrap=True, highlight=False)


def _say(line: str) -> None:
    """Print a line about the work as it is: paths are neither wrapped nor coloured."""
    console.print(line, soft_wrap=True, highlight=False, markup=False)


if __name__ == "__main__":
    main()
