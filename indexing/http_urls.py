"""Query clips by URL, as the service fetches them: few at once, and none that waits for its turn."""

import threading

from anyio import to_thread

from indexing.http_guard import ProblemError
from indexing.query_url import UrlPolicy, UrlRefusedError, fetch_url

_AT_ONCE = 4


class ClipUrls:
    """Fetches by one policy."""

    def __init__(self, policy: UrlPolicy) -> None:
        self._policy = policy
        self._slots = threading.BoundedSemaphore(_AT_ONCE)

    async def fetch(self, url: str) -> bytes:
        """The video; 422 says why there is none, 503 that too many are being fetched."""
        if not self._slots.acquire(blocking=False):
            raise ProblemError(503, "too many URLs are being fetched", {"retry-after": "2"})
        try:
            return await to_thread.run_sync(fetch_url, url, self._policy)
        except UrlRefusedError as error:
            raise ProblemError(422, str(error)) from error
        finally:
            self._slots.release()
