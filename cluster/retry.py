"""Bounded retries with exponential backoff, on named errors only."""

import logging
import time
from collections.abc import Callable
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
