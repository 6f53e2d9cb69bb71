"""Content hashes of video files, over every byte; an unchanged file is not read again."""

import hashlib
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from cluster.retry import retry
from encoders.media.container import path_of
from encoders.media.errors import DecodeError
from indexing.sources.remote import SourceError, SourceGoneError, read_remote, stat_remote
from indexing.sources.uris import is_remote

_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class FileStamp:
    """How a file that was already hashed is recognised."""

    size_bytes: int
    mtime_ns: int
    version: str = ""
    """Of a remote file, whose mtime_ns is 0."""


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
    num_threads: int = 4,
) -> dict[str, Content]:
    """Content by URI. `known` is what an earlier run saw; a file with the same stamp is not read.

    `fetch_uris` are the URIs that open remote files, with what must not be stored, by public URI.
    """
    uris = sorted(set(video_uris))
    full = dict(fetch_uris or {})
    with ThreadPoolExecutor(max_workers=num_threads) as pool:
        contents = pool.map(lambda uri: _read(uri, full.get(uri) or uri, known.get(uri)), uris)
        return dict(zip(uris, contents, strict=True))


def _read(uri: str, fetch_uri: str, known: Content | None) -> Content:
    if is_remote(uri):
        return _read_remote(fetch_uri, known)
    try:
        path = path_of(uri)
        status = path.stat()
        stamp = FileStamp(size_bytes=status.st_size, mtime_ns=status.st_mtime_ns)
        if known is not None and known.stamp == stamp:
            return known
        if not path.is_file():
            return Content(content_hash="", stamp=None, problem="not a file")
        return Content(content_hash=hash_file(path), stamp=stamp)
    except (OSError, ValueError, DecodeError) as error:  # ValueError: a null byte in the name
        return Content(content_hash="", stamp=None, problem=f"{type(error).__name__}: {error}")


def _read_remote(uri: str, known: Content | None) -> Content:
    try:
        remote = retry(lambda: stat_remote(uri), on=(SourceError,))
        stamp = FileStamp(size_bytes=remote.size_bytes, mtime_ns=0, version=remote.version)
        if known is not None and known.stamp == stamp and remote.version:
            return known
        content_hash = remote.content_hash if remote.version else _hash_remote(uri)
        return Content(content_hash=content_hash, stamp=stamp)
    except (SourceError, SourceGoneError) as error:
        return Content(content_hash="", stamp=None, problem=str(error))


def _hash_remote(uri: str) -> str:
    """Of every byte, for servers that name no version."""
    digest = hashlib.blake2b(digest_size=16)
    for chunk in read_remote(uri):
        digest.update(chunk)
    return digest.hexdigest()
