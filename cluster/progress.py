"""How far is the run, and how long will it take?"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

_POLL_S = 1.0


def clip_progress(console: Console) -> Progress:
    """A bar over clips."""
    columns: list[ProgressColumn] = [TextColumn("{task.description}"), BarColumn()]
    columns += [MofNCompleteColumn(), TextColumn("elapsed"), TimeElapsedColumn()]
    columns += [TextColumn("left"), TimeRemainingColumn()]
    return Progress(*columns, console=console)


@contextmanager
def polled_progress(
    console: Console,
    text: str,
    total: int,
    num_done: Callable[[], int],
    *,
    ignored: tuple[type[Exception], ...] = (OSError,),
) -> Iterator[None]:
    """A bar beside work that tells nothing of itself; `num_done` is called every second, in a thread of its own.

    An error of a kind in `ignored` costs one step of the bar: the work itself raises it where it matters.
    """
    stop = threading.Event()
    with clip_progress(console) as progress:
        task = progress.add_task(text, total=total)

        def watch() -> None:
            while not stop.wait(_POLL_S):
                with suppress(*ignored):
                    progress.update(task, completed=num_done())

        thread = threading.Thread(target=watch, name="polled-progress", daemon=True)
        thread.start()
        try:
            yield
            progress.update(task, completed=total)
        finally:
            stop.set()
            thread.join()


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
