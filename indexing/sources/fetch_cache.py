"""Remote videos on local disk while they are needed: a cache of bounded size that the workers of one node share.

A file is named by its content; whoever reads it holds a shared lock, and only unlocked files make room for new ones.
"""

import fcntl
import hashlib
import os
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.repetition import retry
from cluster.storage import atomic_path
from encoders.media.errors import DecodeError
from indexing.sources.remote import RemoteStamp, SourceError, SourceGoneError, read_remote
from indexing.sources.uris import public_uri

_ATTEMPTS = 5
CEILING_S = 3.0
_PARTIAL = re.compile(r"\.[0-9a-f]{32}\..*\.tmp")
# The folder may be one in which other things lie.
_OWN_NAME = re.compile(rf"[0-9a-f]{{32}}|{_PARTIAL.pattern}")


@dataclass(frozen=True, kw_only=True, slots=True)
class FetchOptions:
    """How remote videos are brought to local disk."""

    cache_dir: Path | None = None
    """On local disk of every node; None = a folder of this user in the system's temporary folder."""
    cache_gib: float = 20.0
    """Fetched files beyond this make room for new ones."""
    max_video_gib: float = 20.0
    """A larger remote file becomes a dead letter (limit_exceeded)."""
    num_workers: int = 4
    """Files that are fetched ahead of decoding at once, on each node."""

    def __post_init__(self) -> None:
        for name in ("cache_gib", "max_video_gib", "num_workers"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above 0")


class FetchCache:
    """Local copies by content hash."""

    def __init__(self, options: FetchOptions) -> None:
        self._folder = options.cache_dir or Path(tempfile.gettempdir()) / f"tfcovr-{os.getuid()}"
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if self._folder.stat().st_uid != os.getuid():  # in /tmp anyone may have made it first
            raise PermissionError(
                f"cache folder {str(self._folder)!r} belongs to another user, who could put other videos "
                "into it; give a folder of your own by --fetch.cache-dir"
            )
        self._capacity_bytes = int(options.cache_gib * 2**30)
        self._max_bytes = int(options.max_video_gib * 2**30)

    @contextmanager
    def local_copy(self, uri: str, content_hash: str, stamp: RemoteStamp) -> Iterator[Path]:
        """The file while the block runs; DecodeError where it cannot be had."""
        path = self._path(uri, content_hash)
        while True:
            if not path.exists():
                self.fetch(uri, content_hash, stamp)
            try:
                file = path.open("rb")
            except FileNotFoundError:  # it made room just before we opened it
                continue
            with file:
                fcntl.flock(file, fcntl.LOCK_SH)
                if os.fstat(file.fileno()).st_nlink == 0:  # it made room just before we locked it
                    continue
                yield path
                self._mark_used(path)
                return

    def has(self, uri: str, content_hash: str) -> bool:
        """Whether the file is here."""
        return self._path(uri, content_hash).exists()

    def has_room(self, num_bytes: int) -> bool:
        """Whether fetching ahead would push out no file that still waits to be decoded."""
        waiting = sum(status.st_size for path, status in self._files() if not _was_used(path))
        return waiting + num_bytes <= self._capacity_bytes

    def fetch(self, uri: str, content_hash: str, stamp: RemoteStamp) -> None:
        """Bring the file here, with retries that resume; it appears under its name only when it is whole."""
        if stamp.size_bytes > self._max_bytes:
            raise DecodeError(
                "limit_exceeded",
                f"max_video_gib is {self._max_bytes / 2**30:g}; the file has {stamp.size_bytes / 2**30:.3g} GiB",
            )
        if stamp.size_bytes == 0:
            raise DecodeError("empty_file", f"{public_uri(uri)} has 0 bytes")
        self._make_room(stamp.size_bytes)
        path = self._path(uri, content_hash)
        try:
            with atomic_path(path, is_durable=False) as temporary, temporary.open("wb") as file:
                retry(lambda: _copy(uri, file, stamp), on=(SourceError,), attempts=_ATTEMPTS)
                if file.tell() != stamp.size_bytes:
                    raise SourceGoneError(f"{file.tell()} of {stamp.size_bytes} bytes came")
        except (SourceError, SourceGoneError) as error:
            raise DecodeError("fetch_failed", str(error)) from error

    def _path(self, uri: str, content_hash: str) -> Path:
        # With the URI: two servers may give the same ETag to different files.
        text = f"{public_uri(uri)}\x1f{content_hash}"
        return self._folder / hashlib.sha256(text.encode()).hexdigest()[:32]

    def _files(self) -> list[tuple[Path, os.stat_result]]:
        entries = []
        for path in self._folder.iterdir():
            if _OWN_NAME.fullmatch(path.name):
                with suppress(FileNotFoundError):
                    entries.append((path, path.stat()))
        return entries

    def _mark_used(self, path: Path) -> None:
        path.with_suffix(".used").touch()

    def _make_room(self, num_bytes: int) -> None:
        files = self._files()
        excess = sum(status.st_size for _, status in files) + num_bytes - self._capacity_bytes
        # Decoded files first, the one that was used longest ago before the others, then those that have waited longest.
        for path, status in sorted(files, key=lambda entry: _age_rank(*entry)):
            if excess <= 0:
                return
            is_partial = _PARTIAL.fullmatch(path.name) is not None
            if is_partial and time.time() - status.st_mtime < 3600:
                continue  # another worker may be writing it
            with suppress(FileNotFoundError), path.open("rb") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                path.unlink()
                path.with_suffix(".used").unlink(missing_ok=True)
                excess -= status.st_size


def stamp_of_row(row: dict[str, Any]) -> RemoteStamp:
    """The state of the remote file that was planned."""
    return RemoteStamp(size_bytes=int(row["size_bytes"]), version=str(row["version"]))


def _copy(uri: str, file: Any, stamp: RemoteStamp) -> None:
    for chunk in read_remote(uri, file.tell(), stamp=stamp):
        file.write(chunk)
        if file.tell() > stamp.size_bytes:
            raise SourceGoneError(f"{public_uri(uri)} sends more than {stamp.size_bytes} bytes")


def _was_used(path: Path) -> bool:
    return path.with_suffix(".used").exists()


def _age_rank(path: Path, status: os.stat_result) -> tuple[bool, float]:
    """The file's own time is when it was fetched, and stays: whoever knows a file by it (`last_index`) knows it again."""
    try:
        return False, path.with_suffix(".used").stat().st_mtime
    except FileNotFoundError:
        return True, status.st_mtime
