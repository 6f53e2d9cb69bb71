"""What surrounds a training run, whichever stage: who may use the folder, where it runs, and the end of it."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cluster.processes import reap_orphans, track_child_processes
from training.configs import LaunchSettings, LoopConfig
from training.trainer.checkpoint import read_metrics
from training.trainer.curves import write_curves
from training.trainer.loop import TaskFactory, World, fit
from training.trainer.progress import watched_run
from training.trainer.run_folder import read_result, write_result


@dataclass(frozen=True, kw_only=True)
class TrainingRun:
    """A run folder that is open for one key."""

    title: str
    run_dir: Path
    key: str
    loop: LoopConfig
    launch: LaunchSettings
    factory: TaskFactory
    prepare: Callable[[], None]
    """Makes what the workers read; runs in the driver, connected."""
    finish: Callable[[Path], Mapping[str, Any]]
    """Run folder with trained weights -> bundle; returns what result.json says of it."""


def complete(run: TrainingRun) -> dict[str, Any]:
    """Do what is left of the run; of a finished one nothing. Returns what result.json holds."""
    result = read_result(run.run_dir, run.key)
    if result is not None:
        return result
    started = time.monotonic()
    with connected(run.launch, run.run_dir):
        run.prepare()
        shown = run.launch.show_progress
        with watched_run(run.title, run.run_dir, run.loop.num_epochs, shown=shown):
            if run.launch.num_workers == 0:
                world = World(device=choose_device(run.launch))
                fit(run.factory.build(world), run.loop, run.run_dir, world=world)
            else:
                from training.trainer.ray_launch import fit_with_ray

                fit_with_ray(run.factory, run.loop, run.run_dir, run.launch)
    made = run.finish(run.run_dir)
    write_curves(run.run_dir, title=run.title)
    result = {"key": run.key, **made, "seconds_of_last_start": time.monotonic() - started}
    write_result(run.run_dir, result)
    return result


@contextmanager
def connected(launch: LaunchSettings, run_dir: Path) -> Iterator[None]:
    """Ends what a killed run of this folder left, holds the folder, and connects to Ray if workers are wanted."""
    with ExitStack() as stack:
        if launch.num_workers:
            from training.trainer.ray_launch import ray_for

            stack.enter_context(ray_for(launch, run_dir))
        else:
            reap_orphans(run_dir)
            stack.enter_context(track_child_processes(run_dir))
        yield


def choose_device(launch: LaunchSettings) -> str:
    """Of the plain loop."""
    has_gpu = torch.cuda.is_available()
    if launch.use_gpu and not has_gpu:
        raise ValueError("use_gpu is True, and torch sees no CUDA device here")
    return "cuda" if has_gpu and launch.use_gpu is not False else "cpu"


def scores_of_epoch(run_dir: Path, epoch: int) -> dict[str, float]:
    """What validation said of it."""
    lines = [line for line in read_metrics(run_dir) if line.get("epoch") == epoch]
    return {name: value for name, value in lines[-1].items() if name.startswith("val_")}
