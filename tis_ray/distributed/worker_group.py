"""Training with Ray Train: a worker group for one training, restarted when a worker is lost."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeVar

import ray.train
from ray.train import TrainingFailedError
from ray.train.torch import TorchTrainer

from tis_ray.distributed.connect import Cluster
from tis_ray.distributed.interrupted import interruptible
from tis_ray.distributed.lost import killed_for_memory
from tis_ray.distributed.observed import counting, current_log, current_work, working
from tis_ray.distributed.scratch import ray_storage
from tis_ray.distributed.worker_logs import Work, begin_logs
from tis_ray.errors import FailedError
from tis_ray.storage import Place, remove_folder

Order = TypeVar("Order")
"""What a training process is to do. Small; it is pickled."""


def run_training(
    name: str,
    loop: Callable[[Order], None],
    order: Order,
    workers: int,
    cluster: Cluster,
    root: Place,
) -> None:
    """Run `loop(order)` in a Ray Train worker group (0 workers: in this process).

    A lost worker restarts the group up to `compute.max_failures` times; the loop continues from
    its own checkpoints, which lie in the artifact, so it also does after a restart of the driver.
    Raises FailedError where a worker is lost once more.
    """
    work = current_work()
    if work is not None and current_log() is not None:  # a trial's are begun by who runs the trials
        begin_logs(work)
    trainer = TorchTrainer(
        # Without workers it is the process around it that counts and keeps a log.
        partial(_work_through, loop, order, name, work) if workers else partial(loop, order),
        scaling_config=ray.train.ScalingConfig(
            num_workers=workers,
            use_gpu=bool(cluster.gpus_per_actor),
            **({"resources_per_worker": cluster.trial_resources} if workers else {}),
        ),
        run_config=ray.train.RunConfig(
            name=name,
            **ray_storage(root / "ray-train"),
            failure_config=ray.train.FailureConfig(
                max_failures=cluster.max_failures, controller_failure_limit=3
            ),
        ),
    )
    try:
        with interruptible():
            trainer.fit()
    except TrainingFailedError as error:
        why = killed_for_memory(str(error))
        if why is None:  # what the loop itself raised
            raise
        raise FailedError(f"{name}: a worker process {why}; the same command continues") from None
    remove_folder(root / "ray-train" / name)


def _work_through(
    loop: Callable[[Order], None], order: Order, name: str, work: Work | None
) -> None:
    with working(work, name), counting(work):
        loop(order)


def report_epoch(metrics: dict[str, float]) -> None:
    """Report a worker's metrics to Ray Train; returns when all workers of the group have done so."""
    ray.train.report(metrics)
