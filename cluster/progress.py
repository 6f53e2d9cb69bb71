"""The one progress bar: of work that reports its steps, or of work that has to be polled.

Where the log is JSON, it is a line of the log every half minute instead.
A job that runs others as processes of its own shows one bar: it names a file in TFCOVR_PROGRESS, and the bars of the others are
written there instead of drawn.
"""

import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
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

from cluster.repetition import repeated
from cluster.telemetry import logs_are_json

logger = logging.getLogger(__name__)
PROGRESS_VARIABLE = "TFCOVR_PROGRESS"
_POLL_S = 1.0
_WRITE_EVERY_S = 0.5
_LOG_EVERY_S = 30.0


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
    is_drawn = shown and PROGRESS_VARIABLE not in os.environ and not logs_are_json()
    with Progress(*columns, console=console, disable=not is_drawn) as progress:
        bar = progress.add_task(text, total=total, note="")
        write = _writer(text, total) if shown else None
        last_s = time.monotonic()

        def update(done: int, note: str = "") -> None:
            nonlocal last_s
            progress.update(bar, completed=done, note=note)
            if shown and logs_are_json() and time.monotonic() - last_s >= _LOG_EVERY_S:
                last_s = time.monotonic()
                left_s = progress.tasks[bar].time_remaining
                fields = {
                    "work": text,
                    "done": done,
                    "total": total,
                    "left_s": left_s,
                    "note": note,
                }
                logger.info("progress", extra={"fields": fields})
            if write is not None:
                write(done)

        if poll is None or not shown:
            yield update
            return
        with _polling(poll, update, poll_errors):
            yield update
        progress.update(bar, completed=total)


def read_progress(path: Path) -> str:
    """What the bar that was written last counts: `embedding 120/400`; empty where there is none."""
    try:
        values = json.loads(path.read_text())
        return f"{values['text']} {values['done']}/{values['total']}"
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return ""


def _writer(text: str, total: int) -> Callable[[int], None] | None:
    """Writes a bar to the file of TFCOVR_PROGRESS, where there is one."""
    if not (name := os.environ.get(PROGRESS_VARIABLE)):
        return None
    path, last_s = Path(name), 0.0

    def write(done: int) -> None:
        nonlocal last_s
        if time.monotonic() - last_s < _WRITE_EVERY_S and done < total:
            return
        last_s = time.monotonic()
        temporary = path.with_name(f"{path.name}.{os.getpid()}")
        with suppress(OSError):
            temporary.write_text(json.dumps({"text": text, "done": done, "total": total}))
            temporary.replace(path)

    return write


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
