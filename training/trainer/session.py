"""Set-up and completion shared by both stages: run-folder lock, device, progress bar, result."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cluster.processes import reap_orphans, track_child_processes
from cluster.progress import progress_bar
from training.configs import LaunchSettings, LoopConfig
from training.trainer.checkpoint import read_metrics
from training.trainer.curves import write_curves
from training.trainer.loop import TaskFactory, World, fit
from training.trainer.run_folder import read_result, write_result


@dataclass(frozen=True, kw_only=True)
class TrainingRun:
    """One run of either stage, in a run folder that was opened for its key."""

    title: str
    run_dir: Path
    key: str
    loop: LoopConfig
    launch: LaunchSettings
    factory: TaskFactory
    prepare: Callable[[], None]
    """Makes the files that the workers read; it runs in the driver, after the connection to Ray."""
    finish: Callable[[Path], Mapping[str, Any]]
    """Turns a run folder with trained weights into a bundle, and returns the entries of result.json."""


def complete(run: TrainingRun) -> dict[str, Any]:
    """Do what is left of the run, nothing for a finished one; return the content of result.json."""
    result = read_result(run.run_dir, run.key)
    if result is not None:
        return result
    started = time.monotonic()
    with connected(run.launch, run.run_dir):
        run.prepare()
        shown = run.launch.show_progress
        with _epoch_progress(run.title, run.run_dir, run.loop.num_epochs, shown=shown):
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


def _epoch_progress(
    text: str, run_dir: Path, num_epochs: int, *, shown: bool
) -> AbstractContextManager[Any]:
    """A bar over epochs; it reads the metrics file, because the workers may run on other machines."""

    def poll() -> tuple[int, str]:
        epochs = [line for line in read_metrics(run_dir) if "epoch" in line]
        if not epochs:
            return 0, ""
        names = [name for name in epochs[-1] if name not in ("step", "epoch")]
        return epochs[-1]["epoch"], ", ".join(f"{name} {epochs[-1][name]:.3f}" for name in names)

    return progress_bar(text, num_epochs, shown=shown, poll=poll)


@contextmanager
def connected(launch: LaunchSettings, run_dir: Path) -> Iterator[None]:
    """End the orphans of an interrupted run of this folder, hold the folder, and connect to Ray if there are workers."""
    with ExitStack() as stack:
        if launch.num_workers:
            from training.trainer.ray_launch import ray_for

            stack.enter_context(ray_for(launch, run_dir))
        else:
            reap_orphans(run_dir)
            stack.enter_context(track_child_processes(run_dir))
        yield


def choose_device(launch: LaunchSettings) -> str:
    """The device of the plain loop, "cuda" or "cpu"."""
    has_gpu = torch.cuda.is_available()
    if launch.use_gpu and not has_gpu:
        raise ValueError("use_gpu is True, but torch sees no CUDA device on this machine")
    return "cuda" if has_gpu and launch.use_gpu is not False else "cpu"


def scores_of_epoch(run_dir: Path, epoch: int) -> dict[str, float]:
    """The scores of an epoch on the val split."""
    lines = [line for line in read_metrics(run_dir) if line.get("epoch") == epoch]
    return {name: value for name, value in lines[-1].items() if name.startswith("val_")}
