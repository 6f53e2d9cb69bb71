"""Set-up and completion shared by both stages: run-folder lock, device, progress bar, result."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal

import torch

from cluster.processes import reap_orphans, track_child_processes
from cluster.progress import progress_bar
from encoders.bundle.card import CARD_NAME
from training.configs import LaunchSettings, Stage1Config, Stage2Config
from training.trainer.checkpoint import read_metrics
from training.trainer.curves import write_curves
from training.trainer.loop import TaskFactory, World, fit
from training.trainer.run_folder import open_run, read_result, write_result


class TrainingRun:
    """One run of either stage, in a run folder that is opened for its config and inputs."""

    def __init__(
        self,
        stage: Literal["stage1", "stage2"],
        config: Stage1Config | Stage2Config,
        run_dir: Path,
        launch: LaunchSettings,
        *,
        inputs: Mapping[str, str],
    ) -> None:
        """`inputs` maps the name of an input to a hash or id of its content, as `open_run` takes them."""
        self.title = stage.replace("stage", "stage ")
        self.run_dir = run_dir.absolute()
        self.key = open_run(self.run_dir, stage=stage, config=config, inputs=inputs)
        self._loop = config.loop
        self._launch = launch

    def complete(
        self,
        factory: TaskFactory,
        *,
        prepare: Callable[[], None],
        finish: Callable[[], Mapping[str, Any]],
    ) -> dict[str, Any]:
        """Do what is left of the run, nothing for a finished one whose bundle is there; return the content of result.json.

        `prepare` makes the files that the workers read, in the driver, after the connection to Ray; `finish` turns the trained
        weights in the run folder into a bundle and returns entries of result.json.
        """
        run_dir, launch, loop = self.run_dir, self._launch, self._loop
        result = read_result(run_dir, self.key)
        if result is not None and _is_there(run_dir, result):
            return result
        started = time.monotonic()
        with connected(launch, run_dir):
            prepare()
            shown = launch.show_progress
            with _epoch_progress(self.title, run_dir, loop.num_epochs, shown=shown):
                if launch.num_workers == 0:
                    world = World(device=choose_device(launch))
                    fit(factory.build(world), loop, run_dir, world=world)
                else:
                    from training.trainer.ray_launch import fit_with_ray

                    fit_with_ray(factory, loop, run_dir, launch)
        made = finish()
        write_curves(run_dir, title=self.title)
        result = {"key": self.key, **made, "seconds_of_last_start": time.monotonic() - started}
        write_result(run_dir, result)
        return result


def _is_there(run_dir: Path, result: Mapping[str, Any]) -> bool:
    """Whether what a finished run made is still in its folder."""
    bundle, composer = result.get("bundle", ""), result.get("composer")
    return (bundle is None or (run_dir / str(bundle) / CARD_NAME).is_file()) and (
        composer is None or (run_dir / str(composer)).exists()
    )


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
    """The scores of an epoch on the val split; none where metrics.jsonl was lost."""
    lines = [line for line in read_metrics(run_dir) if line.get("epoch") == epoch]
    last = lines[-1] if lines else {}
    return {name: value for name, value in last.items() if name.startswith("val_")}
