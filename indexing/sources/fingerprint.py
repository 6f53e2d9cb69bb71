"""The fingerprint of a source: while it stays the same, so do all its clips and their videos, as far as lists and file stamps tell.

It is over the bytes of a table of clips, or the ids of clips of whole files, and over the places and stamps of the videos in their
order. `read_fingerprint` takes a small part of the time of planning; planning makes the same one on its way.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path

from encoders.clips import Clip, read_video_uris, table_files
from encoders.media.container import path_of
from encoders.media.errors import DecodeError
from indexing.sources.archive import is_table, iter_archive, name_below, uri_of, video_files
from indexing.sources.content import FileStamp, local_stamp, remote_file_stamp
from indexing.sources.remote import SourceError
from indexing.sources.uris import is_remote, public_uri

_CHUNK_BYTES = 1 << 20


class Fingerprint:
    """Add each video of the source in its order."""

    def __init__(self, source: str) -> None:
        self.is_remote = is_remote(source)
        self.is_table = is_table(source)
        self._is_known = not (self.is_table and self.is_remote)
        self._digest = hashlib.blake2b(public_uri(source).encode(errors="surrogateescape"))
        self._last = ""
        if self.is_table and self._is_known and Path(source).exists():
            for path in table_files(Path(source)):
                with path.open("rb") as file:
                    while chunk := file.read(_CHUNK_BYTES):
                        self._digest.update(chunk)

    def add(self, clip: Clip, stamp: FileStamp | None) -> None:
        """A planned clip; None = its video has no stamp."""
        self.add_video("" if self.is_table else clip.clip_id, clip.video_uri, stamp)

    def add_video(self, clip_id: str, video_uri: str, stamp: FileStamp | None) -> None:
        """In a table, whose bytes say the ids, clips of one video that follow each other count once."""
        name = f"{clip_id}\0{video_uri}"
        if name == self._last:
            return
        self._last = name
        if stamp is None:
            self._is_known = False
            return
        self._digest.update(
            f"{name}\0{stamp.size_bytes}\0{stamp.mtime_ns}\0{stamp.version}\n".encode()
        )

    def value(self) -> str:
        """Hex digits, or "" where it cannot be told."""
        return self._digest.hexdigest()[:32] if self._is_known else ""


def read_fingerprint(source: str) -> str:
    """The fingerprint of a source as it is now, or "" where only planning can tell."""
    try:
        fingerprint = Fingerprint(source)
        for clip_id, video_uri, stamp in _videos(source, fingerprint):
            fingerprint.add_video(clip_id, video_uri, stamp)
            if stamp is None:
                break
    except (SourceError, OSError, ValueError, DecodeError):  # planning says what is wrong
        return ""
    return fingerprint.value()


def _videos(source: str, fingerprint: Fingerprint) -> Iterator[tuple[str, str, FileStamp | None]]:
    if fingerprint.is_remote:
        if fingerprint.is_table:
            return
        for part in iter_archive(source):
            for clip in part.clips:
                listed = part.stamps.get(clip.video_uri)
                yield clip.clip_id, clip.video_uri, remote_file_stamp(listed) if listed else None
    elif fingerprint.is_table:
        for uri, _ in groupby(read_video_uris(Path(source))):
            yield "", uri, None if is_remote(uri) else local_stamp(os.stat(path_of(uri)))  # noqa: PTH116 - of millions
    else:
        base, files = video_files(source)
        for folder, members in groupby(files, key=lambda file: file.parent):
            yield from _files_of(folder, members, base)


def _files_of(
    folder: Path, files: Iterable[Path], base: Path
) -> Iterator[tuple[str, str, FileStamp | None]]:
    """As `clip_of_file` names them; the folder's own place is asked for once."""
    real = folder.resolve()
    for file in files:
        place = file.resolve() if file.is_symlink() else real / file.name
        yield name_below(base, file), uri_of(place), local_stamp(file.stat())
