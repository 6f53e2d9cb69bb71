"""How does the training loop run on Ray? A TorchTrainer whose workers each run loop.fit on their share; the only training file with Ray.

Checkpoints are the loop's own, in the run folder, so a run may go on with or without Ray. Ray Train restarts dead workers, and
they find the last checkpoint there.
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

from cluster.ray_session import ray_session
from cluster.storage import require_shared
from training.configs import LaunchSettings, LoopConfig
from training.trainer.loop import TaskFactory, World, fit

ROOT = Path(__file__).resolve().parent.parent.parent


@contextmanager
def ray_for(launch: LaunchSettings, run_dir: Path) -> Iterator[None]:
    """A connected Ray that can hold the workers; refuses a run folder that its nodes do not share."""
    wanted = math.ceil(launch.num_workers * launch.cpus_per_worker)
    num_cpus = max(os.cpu_count() or 1, wanted)
    with ray_session(address=launch.address, num_cpus=num_cpus, run_dir=run_dir) as session:
        require_shared(
            run_dir,
            num_nodes=session.num_nodes,
            what="run folder",
            needed="a folder on NFS or another shared file system",
        )
        if wanted > session.num_cpus:
            raise ValueError(
                f"num_workers {launch.num_workers} x cpus_per_worker {launch.cpus_per_worker:g} "
                f"is more than the {session.num_cpus:g} CPUs that Ray has"
            )
        _set_controller(is_local=session.started_here)
        yield


def fit_with_ray(
    factory: TaskFactory, loop: LoopConfig, run_dir: Path, launch: LaunchSettings
) -> None:
    """Train on `num_workers` workers, going on from the last checkpoint; needs a connected Ray."""
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
            resources_per_worker={"CPU": launch.cpus_per_worker, **({"GPU": 1} if use_gpu else {})},
        ),
        run_config=RunConfig(
            name=f"start-{uuid4().hex[:8]}",  # each start is its own to Ray: the state is in ours
            storage_path=str(run_dir / "ray"),
            failure_config=FailureConfig(max_failures=launch.max_failures),
            # A file in training/ run as a script must find the packages of the checkout on a worker too.
            worker_runtime_env={"env_vars": {"PYTHONPATH": _python_path()}},
        ),
    )
    try:
        trainer.fit()
    except ray.train.TrainingFailedError as error:
        raise _cause_of(error) from error


def _set_controller(*, is_local: bool) -> None:
    """What the environment says goes first.

    Ray's controller listens to its workers every 2 s, and an epoch's report waits until it is heard: short
    epochs, and the end of a run, took 2 s each.
    What watches for nodes that a cloud takes back is one more process with torch in it, and a Ray that
    was started here has no such nodes.
    """
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.25")
    if is_local:
        os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")


def _python_path() -> str:
    return os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH", ""))))


def _cause_of(error: Exception) -> Exception:
    """What a worker raised, if all of them failed alike; else Ray's own error."""
    failures: dict[int, Exception] = getattr(error, "worker_failures", {})
    for failure in failures.values():
        found = failure
        while found is not None:
            if isinstance(found, (ValueError, OSError, FloatingPointError)):
                return found
            found = getattr(found, "cause", None) or found.__cause__
    return error


def _train_worker(settings: dict[str, Any]) -> None:
    """Runs in each Ray Train worker, with the process group up."""
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
