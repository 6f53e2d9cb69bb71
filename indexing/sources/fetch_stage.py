"""Fetch stage: remote videos to local files before they are decoded."""

import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from encoders.media.errors import DecodeError
from indexing.sources.fetch_cache import CEILING_S, FetchCache, FetchOptions, stamp_of_row
from indexing.sources.uris import is_remote


class FetchStage:
    """Rows of videos in, the same rows out, the remote ones now on local disk where there is room; never fails a row.

    What cannot be fetched here is tried again, and reported, by the decode stage: a node may lack a file that another has.
    Adds `fetch_busy_s`, `fetch_bytes`, and `fetch_ceiling_bytes_per_s`: of this worker in its first seconds of work, 0 = it had
    nothing to fetch yet.
    """

    def __init__(self, *, options: FetchOptions) -> None:
        self._cache = FetchCache(options)
        self._first_bytes, self._first_s = 0, 0.0

    def __call__(self, row: dict[str, Any]) -> Iterator[dict[str, Any]]:
        started, num_bytes = time.perf_counter(), 0
        if is_remote(row["video_uri"]):
            stamp = stamp_of_row(row)
            is_needed = not self._cache.has(row["fetch_uri"], row["content_hash"])
            if is_needed and self._cache.has_room(stamp.size_bytes):
                with suppress(DecodeError):
                    self._cache.fetch(row["fetch_uri"], row["content_hash"], stamp)
                    num_bytes = stamp.size_bytes
        busy_s = time.perf_counter() - started
        if num_bytes and self._first_s < CEILING_S:
            self._first_bytes += num_bytes
            self._first_s += busy_s
        yield row | {
            "fetch_busy_s": busy_s,
            "fetch_bytes": num_bytes,
            "fetch_ceiling_bytes_per_s": self._first_bytes / self._first_s
            if self._first_s
            else 0.0,
        }
