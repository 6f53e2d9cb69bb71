"""Media of clips: the video by ranges, the trimmed span, a film strip or a poster; only files that rows of the collection name.

A path comes from the row, never from the request; a path that leads through a symbolic link is refused,
because indexing stored resolved paths.
"""

import io
import os
import re
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

from cachetools import LRUCache, TTLCache
from PIL import Image

from encoders.decoding.isolated import IsolatedDecoder
from encoders.decoding.trim import trim_video
from encoders.media.container import open_local, sniff_container
from encoders.media.errors import DecodeError
from indexing.search.film_strip import (
    FilmStripStyle,
    decoded_poster,
    decoded_strip,
    failed_strip,
)
from indexing.search.types import ClipPlace
from indexing.serving.guard.problems import ProblemError
from indexing.serving.guard.work_queue import StopSignal, WorkQueue

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")
_CHUNK = 1 << 18
_MAX_KEPT_BYTES = 128 << 20
_MAX_FAILED = 1000
_NICENESS = 10
_POSTER_SIZE = 360
_REMEMBER_FAILURE_S = 60.0
_TYPES = {"mov": "video/mp4", "matroska": "video/webm"}


class Media:
    """Film strips and posters, and trimmed spans of clips, each with a queue of its own, and an LRU cache of bounded size."""

    def __init__(self, *, deadline_s: float = 30.0, max_kept_bytes: int = _MAX_KEPT_BYTES) -> None:
        self._decoder = IsolatedDecoder(deadline_s=deadline_s, niceness=_NICENESS)
        self._deadline_s, self._max_bytes = deadline_s, max_kept_bytes // 2
        # One thread each: drawing and trimming cannot take all cores from the queries.
        self._strips: WorkQueue[bytes] = WorkQueue("the film strip", deadline_s=deadline_s)
        self._trims: WorkQueue[bytes] = WorkQueue("trimming", deadline_s=deadline_s)
        self._cache: LRUCache[tuple[str, str], bytes] = LRUCache(max_kept_bytes, getsizeof=len)
        self._failed: TTLCache[tuple[str, str], bytes] = TTLCache(_MAX_FAILED, _REMEMBER_FAILURE_S)

    async def strip_jpeg(self, place: ClipPlace, *, client: str = "") -> bytes:
        """Frames side by side; a grey strip with the reason where they cannot be decoded."""
        key = ("strip", _key(place))
        draw = partial(decoded_strip, place, FilmStripStyle(), self._decoder)
        return await self._once(self._strips, key, partial(self._draw, place, key, draw), client)

    async def poster_jpeg(self, place: ClipPlace, *, client: str = "") -> bytes:
        """The middle frame; a grey strip with the reason where it cannot be decoded."""
        key = ("poster", _key(place))
        draw = partial(decoded_poster, place, _POSTER_SIZE, self._decoder)
        return await self._once(self._strips, key, partial(self._draw, place, key, draw), client)

    async def trimmed_mp4(self, place: ClipPlace, *, client: str = "") -> bytes:
        """The frames of the span as an MP4."""
        key = ("trim", _key(place))
        return await self._once(self._trims, key, partial(self._trim, place), client)

    def close(self) -> None:
        """Stop the queues and the decoding process."""
        for queue in (self._strips, self._trims):
            queue.close()
        self._decoder.close()

    async def _once(
        self,
        queue: WorkQueue[bytes],
        key: tuple[str, str],
        make: Callable[[StopSignal], bytes],
        client: str,
    ) -> bytes:
        cached = self._cache.get(key) or self._failed.get(key)
        if cached is not None:
            return cached
        data = await queue.run(key, make, client=client)
        if key not in self._failed:
            with suppress(ValueError):  # larger than the whole cache: served, not cached
                self._cache[key] = data
        return data

    def _draw(
        self,
        place: ClipPlace,
        key: tuple[str, str],
        draw: Callable[[], Image.Image],
        stop: StopSignal,
    ) -> bytes:
        checked_path(place)
        self._decoder.start()
        try:
            with stop.calling(self._decoder.interrupt):
                return _as_jpeg(draw())
        except DecodeError as error:
            if stop.is_set():
                raise
            data = _as_jpeg(failed_strip(error, FilmStripStyle()))
        finally:
            if stop.is_set():  # the process may have been ended after its last reply
                self._decoder.close()
        self._failed[key] = data
        return data

    def _trim(self, place: ClipPlace, stop: StopSignal) -> bytes:
        path = checked_path(place)
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "span.mp4"
            try:
                trim_video(
                    path,
                    start_s=place.start_s,
                    end_s=place.end_s,
                    out=out,
                    deadline_s=self._deadline_s,
                    is_cancelled=stop.is_set,
                )
            except DecodeError as error:
                raise ProblemError(422, f"clip {place.clip_id!r}: {error.reason}") from error
            size = out.stat().st_size
            if size > self._max_bytes:
                raise ProblemError(
                    422, f"the span has {size} bytes; at most {self._max_bytes} are given out"
                )
            return out.read_bytes()


def _as_jpeg(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=85)
    return buffer.getvalue()


def checked_path(place: ClipPlace) -> Path:
    """The file of a clip; ProblemError 404 where it is missing, is not a regular file, or is reached through a link."""
    path = Path(place.video_uri.removeprefix("file://"))
    gone = ProblemError(404, f"the video of clip {place.clip_id!r} cannot be read here")
    try:
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode) or os.path.realpath(path) != str(path):
            raise gone
        with open_local(path) as file:
            sniff_container(file)
    except (OSError, ValueError, DecodeError):
        raise gone from None
    return path


def media_type(path: Path) -> str:
    """Media type by the first bytes of a file."""
    with open_local(path) as file:
        return _TYPES[sniff_container(file)[0]]


def parse_range(header: str | None, size: int) -> tuple[int, int] | None:
    """(first byte, last byte), or None for the whole file; ProblemError 416 for several ranges or one outside of the file."""
    if header is None:
        return None
    matched = _RANGE.fullmatch(header.strip())
    if matched is None or matched[1] == matched[2] == "":
        raise _unsatisfiable(size)
    if matched[1] == "":
        first, last = max(size - int(matched[2]), 0), size - 1
        if int(matched[2]) == 0:
            raise _unsatisfiable(size)
    else:
        first = int(matched[1])
        last = min(int(matched[2]), size - 1) if matched[2] else size - 1
    if first > last or first >= size:
        raise _unsatisfiable(size)
    return first, last


def read_range(path: Path, first: int, last: int) -> Iterator[bytes]:
    """The bytes, both ends included."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        file.seek(first)
        left = last - first + 1
        while left > 0 and (chunk := file.read(min(_CHUNK, left))):
            left -= len(chunk)
            yield chunk


def _unsatisfiable(size: int) -> ProblemError:
    return ProblemError(
        416, "send one range: bytes=FIRST-LAST", {"content-range": f"bytes */{size}"}
    )


def _key(place: ClipPlace) -> str:
    return f"{place.video_uri}|{place.start_s}|{place.end_s}"
