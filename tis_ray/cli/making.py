"""The verbs that make something: a study and its steps, scores, a selection, a merged model, a job."""

from __future__ import annotations

import json
import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from tis_ray.cli.options import PLACE, ConfigFile, Overrides, app, console, load, say, writing
from tis_ray.cli.terminal import studying
from tis_ray.errors import InputError
from tis_ray.log.activity import Activity
from tis_ray.log.sign_of_life import SignOfLife

if TYPE_CHECKING:
    from tis_ray.config import Config
    from tis_ray.study.result import Until


@app.command()
def run(
    config: ConfigFile,
    overrides: Overrides = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Measure some rows and print what the study would cost."),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the estimate of --dry-run as JSON.")
    ] = False,
) -> None:
    """Run a whole study: select, fine-tune, evaluate against random and zero-shot, report.

    The same command again continues a stopped run and reuses what is done.

    Example: tis-ray run --config examples/quickstart.yaml --set seed=[0,1,2]

    Example: tis-ray run --config examples/quickstart.yaml --dry-run
    """
    loaded = load(config, overrides)
    if dry_run:
        _priced(loaded, "report", as_json)
        return
    if as_json:
        raise InputError("run: --json goes with --dry-run")
    with studying(loaded):
        from tis_ray.study.run import PartsFailedError
        from tis_ray.study.run import run as run_study
        from tis_ray.study.summary import print_summary

        try:
            result = run_study(loaded, console=console)
        except PartsFailedError as error:
            if error.result.parts:
                print_summary(error.result, loaded, console)
            raise
        print_summary(result, loaded, console)


def _verb(name: str, config: Path, overrides: list[str] | None) -> str:
    """Return the command that runs another verb on the same study."""
    changes = [word for override in overrides or [] for word in ("--set", override)]
    return shlex.join(["tis-ray", name, "--config", str(config), *changes])


def _priced(loaded: Config, until: Until, as_json: bool) -> None:
    """Measure some rows, and print what a run up to a step would cost."""
    from tis_ray.config import require_files

    require_files(loaded)
    measuring = Activity("estimate", state="loading what computes, as each actor does")
    with SignOfLife(console).shown(measuring):
        start = time.monotonic()
        from tis_ray.study.price import price
        from tis_ray.study.price_screen import print_price

        found = price(loaded, measuring.now, time.monotonic() - start, until)
    if as_json:
        typer.echo(json.dumps(found.to_json()))
    else:
        print_price(found, Console(width=console.width))


@app.command()
def featurize(config: ConfigFile, overrides: Overrides = None) -> None:
    """Compute the features of the pool and the query set, and stop there.

    Example: tis-ray featurize --config examples/quickstart.yaml --set representation=less
    """
    loaded = load(config, overrides)
    with studying(loaded):
        from tis_ray.study.run import run as run_study

        result = run_study(loaded, until="featurize", console=console)
    for study in result.studies:
        say(f"features: {study.run_dir / 'features'}")
    say(f"next: {_verb('select', config, overrides)}")


@app.command()
def score(
    pool: Annotated[Path, typer.Option(help="A `features-*` artifact with a pool side.", **PLACE)],
    query: Annotated[Path, typer.Option(help="A `features-*` artifact with the queries.", **PLACE)],
    out: Annotated[Path, typer.Option(help="Folder for the scores.", **PLACE)],
) -> None:
    """Score one run's pool against another run's queries, without a model.

    Both must be of one feature space (model, checkpoints, template, sketch, ...).

    Example: tis-ray score --pool runs/a/features/less --query runs/b/features/less --out scores/
    """
    from tis_ray.stages.scores import score_folders

    with writing("--out", out):
        matrix = score_folders(pool, query, out)
    say(f"scores: {matrix}")
    say(f"next: tis-ray select --scores {matrix} --selector round_robin --budget 500 --out picked/")


@app.command()
def select(
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="YAML file of the study.", **PLACE)
    ] = None,
    overrides: Overrides = None,
    scores: Annotated[
        Path | None,
        typer.Option(
            help="A bare matrix instead of a study, queries x candidates: .npy, .npz, .pt or "
            ".safetensors (S.npz:name for one of several).",
            **PLACE,
        ),
    ] = None,
    selector: Annotated[str, typer.Option(help="Selector for --scores.")] = "round_robin",
    budget: Annotated[int | None, typer.Option(help="Budget for --scores, in examples.")] = None,
    seed: Annotated[int, typer.Option(help="Seed, for --selector random.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Folder for --scores' ordering.parquet.", **PLACE)
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Measure some rows and print what the selection would cost."
        ),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the estimate of --dry-run as JSON.")
    ] = False,
) -> None:
    """Rank the pool: of a study, or of a bare score matrix. A study needs no test rows for it.

    Example: tis-ray select --config examples/quickstart.yaml

    Example: tis-ray select --scores S.npy --selector round_robin --budget 500 --out picked/
    """
    if (config is None) == (scores is None):
        raise InputError("select: give either --config FILE or --scores FILE.npy")
    if (dry_run and config is None) or (as_json and not dry_run):
        raise InputError("select: --dry-run goes with --config, and --json with --dry-run")
    if config is not None:
        loaded = load(config, overrides)
        if dry_run:
            _priced(loaded, "select", as_json)
            return
        with studying(loaded):
            from tis_ray.study.run import run as run_study

            result = run_study(loaded, until="select", console=console)
        for study in result.studies:
            for ordering in study.orderings:
                say(f"{ordering.name}: {ordering.file}")
            for path in study.subsets:
                say(f"rows: {path}")
        first = result.studies[0]
        method = first.orderings[0].name.replace("-", "+", 1)
        which = f"--method {method} --budget {max(loaded.budget)}"
        say(f"next: tis-ray subset {first.run_dir} {which} --form trl --to FOLDER")
        if loaded.data.source("test") is not None:
            say(f"or    {_verb('finetune', config, overrides)}")
        return
    if budget is None or out is None:
        raise InputError("select --scores: --budget and --out are needed too")
    from tis_ray.finished.select_scores import select_matrix

    assert scores is not None
    params = {"seed": seed} if selector == "random" else {}
    with writing("--out", out):
        chosen = select_matrix(scores, selector, budget, out, say=say, **params)
    say(f"{len(chosen)} candidates by {selector}: {out / 'ordering.parquet'}")


@app.command()
def finetune(config: ConfigFile, overrides: Overrides = None) -> None:
    """Fine-tune and evaluate every cell of the study, without the report.

    Each model lies in its cell's artifact: `adapter/`, a standard PEFT folder, or after full
    fine-tuning `model/`, a standard transformers folder.

    Example: tis-ray finetune --config examples/quickstart.yaml --set budget=100 --set seed=0
    """
    loaded = load(config, overrides)
    with studying(loaded):
        from tis_ray.study.run import run as run_study

        result = run_study(loaded, until="evaluate", console=console)
    for cell in (one for study in result.studies for one in study.cells):
        if cell.model:
            run = f"seed {cell.seed}" if cell.draw is None else f"draw {cell.draw}"
            name = f"{cell.method.representation} B={cell.budget} {run}"
            say(f"{name}: {cell.artifact}/{cell.model}")
    say(f"next: {_verb('evaluate', config, overrides)}")


@app.command()
def evaluate(config: ConfigFile, overrides: Overrides = None) -> None:
    """Print the losses and exact match of every cell (trains what is missing).

    Example: tis-ray evaluate --config examples/quickstart.yaml
    """
    loaded = load(config, overrides)
    with studying(loaded):
        from tis_ray.study.run import run as run_study
        from tis_ray.study.summary import print_answer, table_of

        result = run_study(loaded, until="evaluate", console=console)
    for study in result.studies:
        print_answer(table_of(study.cells, loaded), Console(width=console.width))


@app.command()
def export(
    config: ConfigFile,
    adapter: Annotated[Path, typer.Option(help="An adapter that `finetune` named.", **PLACE)],
    out: Annotated[Path, typer.Option(help="Folder to make.", **PLACE)],
    overrides: Overrides = None,
) -> None:
    """Merge a trained adapter into the base model: a plain transformers folder with its tokenizer.

    Example: tis-ray export -c examples/quickstart.yaml --adapter artifacts/cell-0a1b/adapter --out my-model
    """
    loaded = load(config, overrides)
    from tis_ray.finished.export import export_adapter

    with writing("--out", out):
        say(f"model: {export_adapter(loaded, adapter, out)}")


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
    loaded = load(config, overrides)
    from tis_ray.distributed.submit import submit_study

    raise typer.Exit(submit_study(loaded, address, follow, console))
