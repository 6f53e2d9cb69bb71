"""Calls that are made again: retries of named errors with exponential backoff, and work that a thread repeats while a block runs."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

logger = logging.getLogger(__name__)
T = TypeVar("T")


def retry(
    call: Callable[[], T],
    *,
    on: tuple[type[Exception], ...],
    attempts: int = 4,
    first_wait_s: float = 0.5,
    sleep: Callable[[float], None] = time.sleep,
) -> T:
    """Call again after each failure, waiting twice as long each time; the error of the last attempt is raised."""
    if attempts < 1:
        raise ValueError(f"attempts is {attempts}; it must be at least 1")
    for attempt in range(1, attempts):
        try:
            return call()
        except on as error:
            wait_s = first_wait_s * 2 ** (attempt - 1)
            logger.warning(
                "attempt %d of %d failed (%s); waiting %.1f s", attempt, attempts, error, wait_s
            )
            sleep(wait_s)
    return call()


@contextmanager
def repeated(work: Callable[[], object], *, every_s: float, name: str) -> Iterator[None]:
    """Call `work` every few seconds, first after `every_s`; at the end of the block a call that runs is waited for.

    An error ends the repetition, not the block: `work` suppresses what it expects.
    """
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(every_s):
            work()

    thread = threading.Thread(target=watch, name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
