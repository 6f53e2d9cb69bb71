"""Work that a thread repeats while a block of code runs, such as polling, heartbeats and saving."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


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
