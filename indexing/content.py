"""What a video file contains, as a hash of every byte; an unchanged file is not read a second time."""

import hashlib
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class FileStamp:
    """How a file that was already hashed is recognised."""

    size_bytes: int
    mtime_ns: int


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
    num_threads: int = 4,
) -> dict[str, Content]:
    """Content by URI. `known` is what an earlier run saw; a file with the same stamp is not read."""
    uris = sorted(set(video_uris))
    with ThreadPoolExecutor(max_workers=num_threads) as pool:
        return dict(zip(uris, pool.map(lambda uri: _read(uri, known.get(uri)), uris), strict=True))


def _read(uri: str, known: Content | None) -> Content:
    if "://" in uri and not uri.startswith("file://"):
        return Content(content_hash="", stamp=None, problem="only local files can be indexed")
    path = Path(uri.removeprefix("file://"))
    try:
        status = path.stat()
        stamp = FileStamp(size_bytes=status.st_size, mtime_ns=status.st_mtime_ns)
        if known is not None and known.stamp == stamp:
            return known
        if not path.is_file():
            return Content(content_hash="", stamp=None, problem="not a file")
        return Content(content_hash=hash_file(path), stamp=stamp)
    except OSError as error:
        return Content(content_hash="", stamp=None, problem=f"{type(error).__name__}: {error}")
