"""Submitting a study to a cluster as a Ray job.

The job runs the resolved config, so the cluster does what this machine would. Its id is made of the
config and the attempt: a study that is already running is followed, not started twice, and a new
attempt continues from the artifacts on shared storage.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import shutil
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from ray.exceptions import AuthenticationError
from ray.job_submission import JobDetails, JobStatus, JobSubmissionClient
from rich.console import Console

from tis_ray.config import Config, config_yaml, plan, together
from tis_ray.distributed.connect import require_lasting_folders
from tis_ray.errors import InputError
from tis_ray.log.json_lines import VARIABLE as LINES
from tis_ray.settings import AnySource
from tis_ray.storage import is_remote, place
from tis_ray.store import fingerprint, write_text
from tis_ray.version import __version__

POLL_SECONDS = 2.0


def submit_study(config: Config, address: str, follow: bool, console: Console) -> int:
    """Submit the study; return 0 when it was accepted (or, followed, succeeded), else 1.

    Raises InputError when the job could not find its data, would lose its results, or when no job
    server answers or it refuses the token.
    """
    require_lasting_folders(config)
    _require_reachable_files(config)
    name = fingerprint(config.model_dump(mode="json"))
    client = _connect(address)
    attempts = _attempts(client, f"tis-{name}-")
    last = max(attempts, default=0)
    if last and not attempts[last].status.is_terminal():
        job, news = f"tis-{name}-{last}", "is already running"
    else:
        job, news = f"tis-{name}-{last + 1}", "was submitted"
        _submit(client, job, name, config)
    where = client.get_address()
    results = together(config) or next(iter(plan(config).values())).run_dir
    console.print(
        f"job {job} {news} at {where}; results: {results}\n"
        f"stop it with: ray job stop {job} --address {where}",
        soft_wrap=True,
        highlight=False,
        markup=False,
    )
    if not follow:
        return 0
    status = _follow(client, job, console)
    console.print(f"job {job}: {status}", soft_wrap=True, highlight=False, markup=False)
    return 0 if status == JobStatus.SUCCEEDED else 1


def _connect(address: str) -> JobSubmissionClient:
    try:
        return JobSubmissionClient(address)
    except ConnectionError as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"--address: no job server answers at {address} ({reason}); check the address, and that "
            "the cluster runs"
        ) from None
    except AuthenticationError as error:
        reason = error.message.splitlines()[0]
        raise InputError(
            f"--address: {address} refuses this client ({reason}); set RAY_AUTH_MODE=token and "
            "RAY_AUTH_TOKEN_PATH to a file with the cluster's token"
        ) from None


def _attempts(client: JobSubmissionClient, prefix: str) -> dict[int, JobDetails]:
    """Return the jobs of one study that the cluster remembers, by attempt."""
    jobs = {job.submission_id or "": job for job in client.list_jobs()}
    numbers = {key: key.removeprefix(prefix) for key in jobs if key.startswith(prefix)}
    return {int(number): jobs[key] for key, number in numbers.items() if number.isdigit()}


def _submit(client: JobSubmissionClient, job: str, name: str, config: Config) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_text(Path(folder) / "study.yaml", config_yaml(config))
        _take_code_along(config, Path(folder))
        client.submit_job(
            entrypoint="python -m tis_ray.cli run --config study.yaml",
            submission_id=job,
            runtime_env={"working_dir": folder, "env_vars": _handed_on()},
            metadata={"study": config.name, "fingerprint": name, "tis_ray": __version__},
        )


def _handed_on() -> dict[str, str]:
    """Return the variables of this machine that the job works by, too."""
    return {name: os.environ[name] for name in (LINES,) if name in os.environ}


def _take_code_along(config: Config, folder: Path) -> None:
    """Copy the modules of the study's own methods that are installed nowhere into the job's folder."""
    installed = Path(sysconfig.get_path("purelib"))
    for method in config.outside():
        assert method.code is not None
        top = importlib.import_module(method.code.module.partition(".")[0])
        if top.__file__ is None or installed in Path(top.__file__).parents:
            continue  # the cluster has it as it has tis_ray
        file = Path(top.__file__)
        if file.name == "__init__.py":
            shutil.copytree(file.parent, folder / file.parent.name, dirs_exist_ok=True)
        else:
            shutil.copy(file, folder / file.name)


def _follow(client: JobSubmissionClient, job: str, console: Console) -> JobStatus:
    """Print the job's log; return its last status, though the log's connection may be lost."""

    async def tail() -> None:
        async for lines in client.tail_job_logs(job):
            console.print(lines, end="", highlight=False, markup=False, soft_wrap=True)

    try:
        asyncio.run(tail())
    except (RuntimeError, OSError) as error:  # aiohttp's connection errors are OSErrors
        console.print(
            f"the log was cut off ({error}); waiting for the job", highlight=False, markup=False
        )
    while not (status := client.get_job_status(job)).is_terminal():
        time.sleep(POLL_SECONDS)
    return status


def _require_reachable_files(config: Config) -> None:
    """Raise InputError for a file that is named relative to this machine's folder."""
    for study in plan(config).values():
        for key, path in _paths(study):
            if not is_remote(path) and not Path(path).is_absolute():
                raise InputError(
                    f"{key}: found `{path}`; a job needs an absolute path that its nodes see, such as "
                    f"/shared/{Path(path).name}"
                )


def _paths(study: Config) -> Iterator[tuple[str, str]]:
    """Yield the config key and path of every file and folder that a study reads or writes to."""
    sources: list[tuple[str, AnySource | None]] = [("data.pool", study.data.pool)]
    for field, targets in [
        ("data", study.data),
        *(("overlap.also", t) for t in study.overlap.also),
    ]:
        sources += [(f"{field}.query", targets.query), (f"{field}.test", targets.test)]
    for key, source in sources:
        if source is None:
            continue
        for one in source.sources if source.kind == "list" else [source]:
            if one.kind == "file":
                yield f"{key}.path", one.path
    for name, files in study.given.items():
        for kind, path in files.paths().items():
            yield f"given.{name}.{kind}", path
    for field in ("include", "exclude"):
        if isinstance(listed := getattr(study.constraints, field), str):
            yield f"constraints.{field}", listed
    for path in study.evaluation.tasks:
        yield "evaluation.tasks", path
    for benchmark in study.evaluation.lm_eval:
        if benchmark.task.endswith((".yaml", ".yml")):
            yield "evaluation.lm_eval", benchmark.task
    for key, name in _named_models(study):
        if (
            is_remote(name) or place(name).exists()
        ):  # what is no folder here is a hub id, or a model that ships
            yield key, name
    for method in study.representations():
        warmup = method.warmup(study.settings_of(method))
        if warmup is not None and warmup.given is not None:
            yield warmup.given.field, warmup.given.path
    uri = study.tracking.uri or ""
    if uri.startswith("sqlite:///") or (uri and ":" not in uri):
        yield "tracking.uri", uri.removeprefix("sqlite:///")


def _named_models(study: Config) -> Iterator[tuple[str, str]]:
    """Yield the config key and name of every model of a study that may be a path."""
    yield "model.name", study.model.name
    for method in study.representations():
        settings = study.settings_of(method)
        proxy = method.model(settings)
        if proxy is not None:
            yield f"{method.section}.model.name", proxy.name
        elif isinstance(name := getattr(settings, "model", None), str):
            yield f"{method.section}.model", name
