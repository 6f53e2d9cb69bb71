"""How a call that may fail for a moment is repeated: bounded, and only on named errors."""

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
    """Waits double after each failure; the last attempt lets its error out."""
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
