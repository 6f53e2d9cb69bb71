"""The one progress bar: of work that reports its steps, or of work that has to be polled."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from cluster.periodic import repeated

_POLL_S = 1.0


class UpdateBar(Protocol):
    """Sets how many steps are done so far, and a short note beside the bar."""

    def __call__(self, done: int, note: str = "") -> None: ...


@contextmanager
def progress_bar(
    text: str,
    total: int,
    *,
    console: Console | None = None,
    shown: bool = True,
    poll: Callable[[], tuple[int, str]] | None = None,
    poll_errors: tuple[type[Exception], ...] = (OSError,),
) -> Iterator[UpdateBar]:
    """A bar on stderr, or on `console`; yields the function that updates it.

    For work that reports no progress itself, `poll` returns (done so far, note): it is called every second in a thread of
    its own, and the bar is full when the block ends well. An error of a kind in `poll_errors` only skips one update,
    because the work itself raises it where it matters.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("elapsed"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    console = console or Console(stderr=True)
    with Progress(*columns, console=console, disable=not shown) as progress:
        bar = progress.add_task(text, total=total, note="")

        def update(done: int, note: str = "") -> None:
            progress.update(bar, completed=done, note=note)

        if poll is None or not shown:
            yield update
            return
        with _polling(poll, update, poll_errors):
            yield update
        progress.update(bar, completed=total)


@contextmanager
def _polling(
    poll: Callable[[], tuple[int, str]], update: UpdateBar, errors: tuple[type[Exception], ...]
) -> Iterator[None]:
    def poll_once() -> None:
        with suppress(*errors):
            update(*poll())

    with repeated(poll_once, every_s=_POLL_S, name="progress-poll"):
        yield
    poll_once()  # the last note; only after a success, since a failed service may answer late
