"""Sustained request rate and burst of each client address (token bucket).

It stands in the process that owns the socket, before Ray Serve has spent anything on a request, and again in the guard, which also
stands alone.
"""

import time

from cachetools import LRUCache

_MAX_CLIENTS = 10_000
_NUM_QUICK_REFUSALS = 20
_SLOW_REFUSAL_S = 1.0


class RateLimit:
    """Token buckets by client; the clients that asked last are known."""

    def __init__(self, requests_per_s: float, burst: int) -> None:
        self._requests_per_s, self._burst = requests_per_s, float(burst)
        self._buckets: LRUCache[str, tuple[float, float]] = LRUCache(_MAX_CLIENTS)
        self._refusals: LRUCache[str, tuple[float, int]] = LRUCache(_MAX_CLIENTS)

    def is_exceeded(self, client: str) -> bool:
        """Count a request; whether it is one too many."""
        now_s = time.monotonic()
        left, then_s = self._buckets.get(client, (self._burst, now_s))
        left = min(left + (now_s - then_s) * self._requests_per_s, self._burst)
        self._buckets[client] = (max(left - 1, 0.0), now_s)
        return left < 1

    def refusal_delay_s(self, client: str) -> float:
        """Count a refusal; seconds for which it should wait.

        A client that sends on as fast as it is refused would keep the event loop busy with refusals alone.
        """
        now_s = time.monotonic()
        since_s, count = self._refusals.get(client, (now_s, 0))
        if now_s - since_s > 1:
            since_s, count = now_s, 0
        self._refusals[client] = (since_s, count + 1)
        return _SLOW_REFUSAL_S if count >= _NUM_QUICK_REFUSALS else 0.0


TOO_MANY = "too many requests from this address"
"""What a client over its rate is told, with status 429."""
