"""How far is the run, and how long will it take? Bars on stderr; a training run is watched through its metrics file."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cluster.progress import progress_bar
from training.trainer.checkpoint import read_metrics

_POLL_S = 1.0


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
