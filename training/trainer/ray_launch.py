"""Runs `loop.fit` on Ray Train workers; the only training module that imports Ray.

Checkpoints are the loop's own, in the run folder, so a run can be resumed with or without Ray. Ray Train restarts crashed
workers, which resume from the last checkpoint.
"""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import ray
import ray.train
import ray.train.torch
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer

from cluster.ray_session import ray_session, session_with
from cluster.storage import require_shared
from training.configs import LaunchSettings, LoopConfig
from training.trainer.loop import TaskFactory, World, fit

ROOT = Path(__file__).resolve().parent.parent.parent


@contextmanager
def ray_for(launch: LaunchSettings, run_dir: Path) -> Iterator[None]:
    """A connected Ray with enough CPUs for the workers; ValueError for a run folder that its nodes do not share."""
    num_needed = math.ceil(launch.num_workers * launch.cpus_per_worker)
    num_cpus = max(os.cpu_count() or 1, num_needed)
    with ray_session(address=launch.address, num_cpus=num_cpus, run_dir=run_dir) as session:
        require_shared(
            run_dir,
            num_nodes=session.num_nodes + session.can_grow,  # the nodes that come are not this one
            what="run folder",
            needed="a folder on NFS or another shared file system",
        )
        session = session_with(session, _bundles(launch, use_gpu=bool(launch.use_gpu)))
        if num_needed > session.num_cpus:
            raise ValueError(
                f"num_workers {launch.num_workers} x cpus_per_worker {launch.cpus_per_worker:g} "
                f"is more than the {session.num_cpus:g} CPUs that Ray has"
            )
        _set_controller(is_local=session.started_here)
        yield


def _bundles(launch: LaunchSettings, *, use_gpu: bool) -> list[dict[str, float]]:
    """What each worker takes of a node."""
    bundle = {"CPU": launch.cpus_per_worker, **({"GPU": 1.0} if use_gpu else {})}
    return [bundle] * launch.num_workers


def fit_with_ray(
    factory: TaskFactory, loop: LoopConfig, run_dir: Path, launch: LaunchSettings
) -> None:
    """Train on `num_workers` workers from the last checkpoint; needs a connected Ray."""
    use_gpu = launch.use_gpu
    if use_gpu is None:
        use_gpu = ray.cluster_resources().get("GPU", 0) >= launch.num_workers
    run_dir = run_dir.resolve()
    trainer = TorchTrainer(
        _train_worker,
        train_loop_config={"factory": factory, "loop": loop, "run_dir": str(run_dir)},
        torch_config=TorchConfig(backend="nccl" if use_gpu else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=launch.num_workers,
            use_gpu=use_gpu,
            resources_per_worker=_bundles(launch, use_gpu=use_gpu)[0],
        ),
        run_config=RunConfig(
            name=f"start-{uuid4().hex[:8]}",  # a new name each time: Ray would resume its own state, but ours is in the run folder
            storage_path=str(run_dir / "ray"),
            failure_config=FailureConfig(max_failures=launch.max_failures),
            # A worker must find the packages of the checkout too when a file in training/ is run as a script.
            worker_runtime_env={"env_vars": {"PYTHONPATH": _python_path()}},
        ),
    )
    try:
        trainer.fit()
    except ray.train.TrainingFailedError as error:
        raise _cause_of(error) from error


def _set_controller(*, is_local: bool) -> None:
    """Set environment variables of Ray Train, unless the user has set them.

    Ray's controller polls its workers every 2 s, and the report of an epoch waits for that: short epochs,
    and the end of a run, took 2 s each. The watcher for preempted cloud nodes is one more process that
    imports torch, and a Ray that was started here has no such nodes.
    """
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.25")
    if is_local:
        os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")


def _python_path() -> str:
    return os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH", ""))))


def _cause_of(error: Exception) -> Exception:
    """The first error of a kind that we raise in a worker; else Ray's own error."""
    failures: dict[int, Exception] = getattr(error, "worker_failures", {})
    for failure in failures.values():
        cause = failure
        while cause is not None:
            if isinstance(cause, (ValueError, OSError, FloatingPointError)):
                return cause
            cause = getattr(cause, "cause", None) or cause.__cause__
    return error


def _train_worker(settings: dict[str, Any]) -> None:
    """Entry point of each Ray Train worker; the process group is initialised."""
    context = ray.train.get_context()
    world = World(
        rank=context.get_world_rank(),
        size=context.get_world_size(),
        device=str(ray.train.torch.get_device()),
    )
    task = settings["factory"].build(world)
    fit(
        task,
        settings["loop"],
        Path(settings["run_dir"]),
        world=world,
        on_epoch=ray.train.report,
    )
