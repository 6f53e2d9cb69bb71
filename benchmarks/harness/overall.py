"""One line on the terminal for a job of several parts: the share that is done, the time left, and what the current part counts."""

import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from benchmarks.harness.thresholds import format_duration
from cluster.progress import PROGRESS_VARIABLE, read_progress
from cluster.repetition import repeated

_EVERY_S = 1.0


class TimeLeft:
    """Parts with expected lengths, how long those took that are finished, and when the current one began."""

    def __init__(self, weights: Sequence[float], *, now: Callable[[], float]) -> None:
        self._weights, self._now = weights, now
        self._num_done = 0
        self._done_weight = self._done_s = 0.0
        self._began_s = now()

    def begin(self) -> None:
        """The next part starts."""
        self._began_s = self._now()

    def finish(self, seconds: float | None) -> None:
        """A part is over; its seconds, or None where it was skipped and tells nothing."""
        if seconds is not None:
            self._done_weight += self._weights[self._num_done]
            self._done_s += seconds
        self._num_done += 1

    def left_s(self) -> float | None:
        """Seconds that are left if the rest is as much slower than expected as what is finished; None before anything is."""
        if not self._done_weight:
            return None
        rate = self._done_s / self._done_weight
        current, *later = self._weights[self._num_done :] or [0.0]
        taken_s = self._now() - self._began_s
        return max(current * rate - taken_s, 0.0) + sum(later) * rate

    def share(self) -> float:
        """0 to 1; the current part by its time, and not more than all of it."""
        rate = self._done_s / self._done_weight if self._done_weight else 1.0
        current, *_ = [*self._weights[self._num_done :], 0.0]
        taken = min((self._now() - self._began_s) / rate, current) if rate else 0.0
        return (sum(self._weights[: self._num_done]) + taken) / (sum(self._weights) or 1.0)


@contextmanager
def overall_progress(times: TimeLeft) -> Iterator[Callable[[str], None]]:
    """Show one bar on a terminal while the block runs; yields the function that names the current part.

    Bars of this process and of those that it starts are written to a file meanwhile, and shown as a count behind it.
    """
    columns = (
        TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(),
        TextColumn("{task.fields[left]}"), TextColumn("{task.fields[note]}", style="dim"),
    )  # fmt: skip
    console = Console(stderr=True)
    before = os.environ.get(PROGRESS_VARIABLE)
    with (
        tempfile.TemporaryDirectory(prefix="tfcovr-progress-") as folder,
        Progress(
            *columns,
            console=console,
            disable=not console.is_terminal,
            transient=True,
            redirect_stdout=sys.stdout.isatty(),
        ) as bars,
    ):
        path = Path(folder) / "bar.json"
        bar = bars.add_task("", total=1.0, left="", note="")

        def show() -> None:
            left_s = times.left_s()
            left = "" if left_s is None else f"about {format_duration(left_s)} left"
            bars.update(bar, completed=times.share(), left=left, note=read_progress(path))

        def name_part(title: str) -> None:
            path.unlink(missing_ok=True)
            bars.update(bar, description=title)
            show()

        os.environ[PROGRESS_VARIABLE] = str(path)
        try:
            with repeated(show, every_s=_EVERY_S, name="overall-progress"):
                yield name_part
        finally:
            if before is None:
                del os.environ[PROGRESS_VARIABLE]
            else:
                os.environ[PROGRESS_VARIABLE] = before
