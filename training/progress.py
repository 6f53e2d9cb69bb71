"""How far is the run, and how long will it take? Bars on stderr; a training run is watched through its metrics file."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from training.checkpoint import read_metrics

_POLL_S = 1.0


@contextmanager
def progress_bar(text: str, total: int, *, shown: bool) -> Iterator[Callable[[int, str], None]]:
    """Gives a function (done so far, a note)."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=Console(stderr=True), disable=not shown) as progress:
        bar = progress.add_task(text, total=total, note="")
        yield lambda done, note: progress.update(bar, completed=done, note=note)


@contextmanager
def watched_run(text: str, run_dir: Path, num_epochs: int, *, shown: bool) -> Iterator[None]:
    """A bar over steps, wherever the workers are that write the metrics."""
    if not shown:
        yield
        return
    stop = threading.Event()
    with progress_bar(text, num_epochs, shown=True) as update:

        def watch() -> None:
            while not stop.wait(_POLL_S):
                epochs = [line for line in read_metrics(run_dir) if "epoch" in line]
                if epochs:
                    update(epochs[-1]["epoch"], describe_epoch(epochs[-1]))

        thread = threading.Thread(target=watch, name="watched-run", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
            epochs = [line for line in read_metrics(run_dir) if "epoch" in line]
            if epochs:
                update(epochs[-1]["epoch"], describe_epoch(epochs[-1]))


def describe_epoch(line: dict[str, float]) -> str:
    """The scores of an epoch, short."""
    scores = [f"{name} {line[name]:.3f}" for name in line if name not in ("step", "epoch")]
    return ", ".join(scores)
