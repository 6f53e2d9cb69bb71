"""The fingerprint of a source: while it stays the same, so do all its clips and their videos, as far as lists and file stamps tell.

It is over the bytes of a table of clips, or the names of files, and over the stamps of the videos in their order. `read_fingerprint`
takes a small part of the time of planning; planning makes the same one on its way.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from encoders.clips import read_video_uris, table_files
from encoders.media.container import path_of
from encoders.media.errors import DecodeError
from indexing.sources.archive import TABLE, iter_archive, video_files
from indexing.sources.content import FileStamp, local_stamp, remote_file_stamp
from indexing.sources.remote import SourceError
from indexing.sources.uris import is_remote

_CHUNK_BYTES = 1 << 20


class Fingerprint:
    """Add each video of the source in its order."""

    def __init__(self, source: str) -> None:
        self.is_table = Path(source).suffix == TABLE
        self._is_known = not (self.is_table and is_remote(source))
        self._digest = hashlib.blake2b(source.encode(errors="surrogateescape"), digest_size=16)
        self._last = ""
        if self.is_table and self._is_known:
            for path in table_files(Path(source)):
                with path.open("rb") as file:
                    while chunk := file.read(_CHUNK_BYTES):
                        self._digest.update(chunk)

    def add(self, name: str, stamp: FileStamp | None) -> None:
        """The URI of a video in a table (clips of one video that follow each other count once), else the id of its clip."""
        if name == self._last:
            return
        self._last = name
        if stamp is None:
            self._is_known = False
            return
        text = f"{name}\0{stamp.size_bytes}\0{stamp.mtime_ns}\0{stamp.version}\n"
        self._digest.update(text.encode(errors="surrogateescape"))

    def value(self) -> str:
        """Hex digits, or "" where it cannot be told."""
        return self._digest.hexdigest() if self._is_known else ""


def read_fingerprint(source: str) -> str:
    """The fingerprint of a source as it is now, or "" where only planning can tell."""
    try:
        fingerprint = Fingerprint(source)
        for name, stamp in _stamps(source, is_table=fingerprint.is_table):
            fingerprint.add(name, stamp)
            if stamp is None:
                break
    except (SourceError, OSError, ValueError, DecodeError):  # planning says what is wrong
        return ""
    return fingerprint.value()


def _stamps(source: str, *, is_table: bool) -> Iterator[tuple[str, FileStamp | None]]:
    if is_table:
        if is_remote(source):
            return
        for uri in _without_repeats(read_video_uris(Path(source))):
            yield uri, None if is_remote(uri) else local_stamp(os.stat(path_of(uri)))  # noqa: PTH116 - of millions
    elif is_remote(source):
        for part in iter_archive(source):
            for clip in part.clips:
                listed = part.stamps.get(clip.video_uri)
                yield clip.clip_id, remote_file_stamp(listed) if listed else None
    else:
        base, files = video_files(source)
        start = len(str(base)) + 1
        for file in files:
            yield str(file)[start:], local_stamp(file.stat())


def _without_repeats(names: Iterable[str]) -> Iterator[str]:
    last = ""
    for name in names:
        if name != last:
            last = name
            yield name
