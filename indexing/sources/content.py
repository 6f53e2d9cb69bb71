"""Content hashes of video files, over every byte; an unchanged file is not read again."""

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from cluster.repetition import retry
from encoders.media.container import path_of
from encoders.media.errors import DecodeError
from indexing.sources.remote import (
    RemoteStamp,
    SourceError,
    SourceGoneError,
    read_remote,
    stat_remote,
)
from indexing.sources.uris import is_remote

_CHUNK_BYTES = 1 << 20
_REMOTE_AT_ONCE = 32
_URIS_AT_ONCE = 4096
_STATS_AT_ONCE = 128
_KEEP_EVERY_S = 2.0
ReadLocal = Callable[[Sequence[str]], "Iterable[tuple[str, Content]]"]
"""Reads local files; URI and content, in any order."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FileStamp:
    """How a file that was already hashed is recognised."""

    size_bytes: int
    mtime_ns: int
    version: str = ""
    """Of a remote file, whose mtime_ns is 0, what its server names; of a local one the time of its last change of any kind in ns,
    which cannot be set: a file that was replaced by one of the same size and mtime_ns has another. "" = not known."""

    def is_same(self, other: "FileStamp | None") -> bool:
        """Whether both are of the same content; stamps of local files that earlier versions kept have no `version`."""
        if other is None or (self.size_bytes, self.mtime_ns) != (other.size_bytes, other.mtime_ns):
            return False
        is_local = self.mtime_ns != 0
        return self.version == other.version or (is_local and "" in (self.version, other.version))


def local_stamp(status: os.stat_result) -> FileStamp:
    """The stamp of a local file."""
    return FileStamp(
        size_bytes=status.st_size, mtime_ns=status.st_mtime_ns, version=str(status.st_ctime_ns)
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Content:
    """The hash of a file with its stamp, or the reason why there is none."""

    content_hash: str
    stamp: FileStamp | None
    problem: str = ""


def hash_file(path: str | Path) -> str:
    """Hash of every byte, 32 hex digits."""
    digest = hashlib.blake2b(digest_size=16)
    with Path(path).open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def read_contents(
    video_uris: Iterable[str],
    known: Mapping[str, Content],
    *,
    fetch_uris: Mapping[str, str] | None = None,
    stamps: Mapping[str, RemoteStamp] | None = None,
    keep: Callable[[Mapping[str, Content]], object] = lambda _read: None,
    read_local: ReadLocal | None = None,
) -> dict[str, Content]:
    """Content by URI. `known` is what an earlier run saw; a file with the same stamp is not read.

    `fetch_uris` are the URIs that open remote files, with what must not be stored, and `stamps` what a listing said of them, by public
    URI. `keep` is called with what was read, some at a time, so that a run which is interrupted need not read it again. `read_local`
    reads local files; None = in threads of this process.
    """
    uris = sorted(set(video_uris))
    full, listed = fetch_uris or {}, stamps or {}
    contents: dict[str, Content] = {}
    # A remote or network file is waited for.
    with ThreadPoolExecutor(max_workers=max(os.cpu_count() or 1, _REMOTE_AT_ONCE)) as pool:
        for first in range(0, len(uris), _URIS_AT_ONCE):
            part = uris[first : first + _URIS_AT_ONCE]
            contents |= _unchanged(part, known, listed, pool)
            fresh = {
                uri: contents[uri]
                for uri in part
                if uri in contents and contents[uri] is not known.get(uri)
            }
            left = [uri for uri in part if uri not in contents]
            remote = [uri for uri in left if is_remote(uri)]
            asked = {u: pool.submit(_read_remote, full.get(u) or u, known.get(u)) for u in remote}
            local = [uri for uri in left if uri not in asked]
            read = (read_local or read_local_files)(local) if local else ()
            kept_s = time.monotonic()
            for uri, content in chain(read, ((u, one.result()) for u, one in asked.items())):
                contents[uri] = fresh[uri] = content
                if time.monotonic() > kept_s + _KEEP_EVERY_S:
                    keep(fresh)
                    fresh, kept_s = {}, time.monotonic()
            if fresh:
                keep(fresh)
    return contents


def read_local_files(
    uris: Sequence[str], *, num_threads: int | None = None
) -> Iterator[tuple[str, Content]]:
    """Contents of local files. Hashing lets go of the interpreter; None = a thread for each core."""
    with ThreadPoolExecutor(num_threads or os.cpu_count() or 1) as pool:
        yield from zip(uris, pool.map(_read_local, uris), strict=True)


def _unchanged(
    uris: Sequence[str],
    known: Mapping[str, Content],
    listed: Mapping[str, RemoteStamp],
    pool: ThreadPoolExecutor,
) -> dict[str, Content]:
    """Contents of those that a list or the file system tells all of; some files a task, since most tasks are short."""
    contents = {
        uri: _content_of_stamp(listed[uri], known.get(uri)) for uri in uris if uri in listed
    }
    local = [uri for uri in uris if uri in known and not is_remote(uri)]
    groups = [local[i : i + _STATS_AT_ONCE] for i in range(0, len(local), _STATS_AT_ONCE)]
    for part in pool.map(lambda group: _known_still(group, known), groups):
        contents |= part
    return contents


def _known_still(uris: Sequence[str], known: Mapping[str, Content]) -> dict[str, Content]:
    contents = {}
    for uri in uris:
        try:
            stamp = local_stamp(os.stat(path_of(uri)))  # noqa: PTH116 - of millions
        except (OSError, ValueError, DecodeError):  # said by the reading
            continue
        content = known[uri]
        if stamp.is_same(content.stamp):
            contents[uri] = content if content.stamp == stamp else replace(content, stamp=stamp)
    return contents


def _read_local(uri: str) -> Content:
    try:
        path = path_of(uri)
        stamp = local_stamp(path.stat())
        if not path.is_file():
            return Content(content_hash="", stamp=None, problem="not a file")
        return Content(content_hash=hash_file(path), stamp=stamp)
    except (OSError, ValueError, DecodeError) as error:  # ValueError: a null byte in the name
        return Content(content_hash="", stamp=None, problem=f"{type(error).__name__}: {error}")


def _read_remote(uri: str, known: Content | None) -> Content:
    try:
        remote = retry(lambda: stat_remote(uri), on=(SourceError,))
        if remote.version:
            return _content_of_stamp(remote, known)
        return Content(content_hash=_hash_remote(uri), stamp=remote_file_stamp(remote))
    except (SourceError, SourceGoneError) as error:
        return Content(content_hash="", stamp=None, problem=str(error))


def _content_of_stamp(remote: RemoteStamp, known: Content | None) -> Content:
    """Of a file whose server names its version."""
    stamp = remote_file_stamp(remote)
    if known is not None and known.stamp == stamp:
        return known
    return Content(content_hash=remote.content_hash, stamp=stamp)


def remote_file_stamp(remote: RemoteStamp) -> FileStamp:
    """The stamp of a remote file."""
    return FileStamp(size_bytes=remote.size_bytes, mtime_ns=0, version=remote.version)


def _hash_remote(uri: str) -> str:
    """Of every byte, for servers that name no version."""
    digest = hashlib.blake2b(digest_size=16)
    for chunk in read_remote(uri):
        digest.update(chunk)
    return digest.hexdigest()
