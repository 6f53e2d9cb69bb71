"""Media of clips: the video by ranges, the trimmed span, or a film strip; only files that rows of the collection name.

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
from pathlib import Path
from threading import Lock

from cachetools import LRUCache

from encoders.decoding.isolated import IsolatedDecoder
from encoders.decoding.trim import trim_video
from encoders.media.container import open_local, sniff_container
from encoders.media.errors import DecodeError
from indexing.search.film_strip import FilmStripStyle, film_strip
from indexing.search.types import ClipPlace
from indexing.serving.problems import ProblemError

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")
_CHUNK = 1 << 18
_MAX_KEPT_BYTES = 128 << 20
_TYPES = {"mov": "video/mp4", "matroska": "video/webm"}


class Media:
    """Film strips and trimmed spans of clips, with an LRU cache of bounded size."""

    def __init__(self, *, deadline_s: float = 30.0, max_kept_bytes: int = _MAX_KEPT_BYTES) -> None:
        self._decoder = IsolatedDecoder(deadline_s=deadline_s)
        self._deadline_s = deadline_s
        self._lock = Lock()
        self._cache: LRUCache[tuple[str, str], bytes] = LRUCache(max_kept_bytes, getsizeof=len)

    def strip_jpeg(self, place: ClipPlace) -> bytes:
        """Frames side by side."""
        checked_path(place)
        return self._once(("strip", _key(place)), lambda: self._draw_strip(place))

    def trimmed_mp4(self, place: ClipPlace) -> bytes:
        """The frames of the span as an MP4."""
        path = checked_path(place)
        return self._once(("trim", _key(place)), lambda: self._trim(path, place))

    def close(self) -> None:
        """Stop the decoding process."""
        self._decoder.close()

    def _once(self, key: tuple[str, str], make: Callable[[], bytes]) -> bytes:
        # The lock is held while `make` runs: decoding one clip at a time cannot take all cores from the queries.
        with self._lock:
            data = self._cache.get(key)
            if data is None:
                data = make()
                with suppress(ValueError):  # larger than the whole cache: served, not cached
                    self._cache[key] = data
            return data

    def _draw_strip(self, place: ClipPlace) -> bytes:
        buffer = io.BytesIO()
        film_strip(place, FilmStripStyle(), self._decoder).save(buffer, format="JPEG", quality=85)
        return buffer.getvalue()

    def _trim(self, path: Path, place: ClipPlace) -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "span.mp4"
            try:
                trim_video(
                    path,
                    start_s=place.start_s,
                    end_s=place.end_s,
                    out=out,
                    deadline_s=self._deadline_s,
                )
            except DecodeError as error:
                raise ProblemError(422, f"clip {place.clip_id!r}: {error.reason}") from error
            return out.read_bytes()


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
