"""Lists the clips of an archive: a clips.parquet, or a file, folder or glob of videos, local or remote."""

import glob
import logging
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path, PurePath, PurePosixPath

from cluster.retry import retry
from encoders.clips import Clip, read_clips
from encoders.media.container import VIDEO_SUFFIXES
from indexing.sources.remote import (
    RemoteStamp,
    SourceError,
    SourceGoneError,
    list_remote,
    read_remote,
)
from indexing.sources.uris import NAMING_PARAMETERS, is_remote, name_of, public_uri, unsigned_uri

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Archive:
    """The clips, with URIs that may be stored, and what opens those that are remote."""

    clips: tuple[Clip, ...]
    fetch_uris: dict[str, str] = field(default_factory=dict, repr=False)
    """Public URI -> the URI as it was given, with its credentials or signature. Never stored or logged."""
    stamps: Mapping[str, RemoteStamp] = field(default_factory=dict, repr=False)
    """Public URI -> what identifies the file, of those whose list had it: they need not be asked for it one by one."""


def list_archive(source: str | Path) -> Archive:
    """ValueError when there are no clips; OSError when a remote place cannot be listed."""
    text = str(source)
    try:
        clips, stamps = _list_remote(text) if is_remote(text) else (list_clips(text), {})
    except SourceGoneError as error:
        raise ValueError(str(error)) from None
    _require_own_names(clips)
    remote = {
        public_uri(clip.video_uri): clip.video_uri for clip in clips if is_remote(clip.video_uri)
    }
    public = tuple(
        replace(clip, video_uri=public_uri(clip.video_uri)) if is_remote(clip.video_uri) else clip
        for clip in clips
    )
    return Archive(clips=public, fetch_uris=remote, stamps=stamps)


def list_clips(source: str | Path) -> list[Clip]:
    """A clips.parquet, or a folder or glob of videos (one clip per file, named by its path)."""
    text = str(source)
    path = Path(text)
    if path.is_file() and path.suffix == ".parquet":
        return read_clips(path)
    if path.is_dir():
        base = path
        files = videos_below(path)
    elif glob.has_magic(text):
        base = Path(*_parts_before_magic(path))
        pattern = path.relative_to(base).parts
        if "**" in pattern:
            below = _files_below(base)
            files = [file for file in below if _fits(file.relative_to(base).parts, pattern)]
        else:
            files = list(base.glob("/".join(pattern)))
    elif path.is_file() and is_video_name(path):
        base, files = path.parent, [path]
    else:
        raise ValueError(
            f"{text!r} has no clips; give a clips.parquet, a video file, a folder of videos "
            "or a glob such as 'videos/**/*.mp4'"
        )
    files = sorted(file for file in files if file.is_file())
    if not files:
        raise ValueError(f"{text!r} has no video files ({', '.join(VIDEO_SUFFIXES)})")
    clips: dict[str, Clip] = {}
    for file in files:
        clip = clip_of_file(file, base)
        if clip.clip_id in clips:  # one of them is not UTF-8; `sorted` has it behind the other
            logger.warning(
                "%s is left out: another file is really named so; rename one", clip.clip_id
            )
        else:
            clips[clip.clip_id] = clip
    return list(clips.values())


def clip_of_file(file: Path, base: Path) -> Clip:
    """The clip of a whole file, named by its path below a folder."""
    clip_id = _escaped(file.relative_to(base).as_posix())
    return Clip(clip_id=clip_id, video_uri=_uri_of(file.resolve()))


def videos_below(folder: Path) -> list[Path]:
    """The files below a folder that are named as videos."""
    return [file for file in _files_below(folder) if is_video_name(file)]


def is_video_name(path: PurePath) -> bool:
    """Whether a file of this name is listed as a video."""
    return path.suffix.lower() in VIDEO_SUFFIXES


def _files_below(folder: Path) -> Iterator[Path]:
    """Every file below a folder. Links to folders are followed, each folder once: loops end, and real folders come before links."""
    seen: set[tuple[int, int]] = set()
    folders, links = [folder], deque[Path]()
    while folders or links:
        current = folders.pop() if folders else links.popleft()
        try:
            status = current.stat()
            entries = sorted(current.iterdir())
        except OSError as error:
            logger.warning("%s is left out: %s", _escaped(str(current)), error.strerror)
            continue
        if (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        for entry in entries:
            if not entry.is_dir():
                yield entry
            elif entry.is_symlink():
                links.append(entry)
            else:
                folders.append(entry)


def _uri_of(path: Path) -> str:
    """The path; where its bytes are not UTF-8, which neither Arrow nor Milvus stores, a file:// URI with these bytes escaped."""
    return str(path) if _escaped(str(path)) == str(path) else path.as_uri()


def _escaped(name: str) -> str:
    """Bytes that are not UTF-8 as %XX; Python has them as lone surrogates."""
    return "".join(
        f"%{ord(char) - 0xDC00:02X}" if 0xDC80 <= ord(char) <= 0xDCFF else char for char in name
    )


def _list_remote(uri: str) -> tuple[list[Clip], dict[str, RemoteStamp]]:
    """The clips, and the stamps that came with their list by public URI."""
    path = name_of(uri)
    if path.suffix == ".parquet":
        return _read_remote_clips(uri), {}
    if path.suffix.lower() in VIDEO_SUFFIXES and not glob.has_magic(str(path)):
        return [Clip(clip_id=path.name, video_uri=uri)], {}
    base = uri
    if glob.has_magic(str(path)):
        plain = PurePosixPath(*_parts_before_magic(Path(path)))
        base = uri[: uri.index(str(path))] + str(plain)
    files = retry(lambda: list_remote(base), on=(SourceError,))
    if base != uri:
        files = {u: stamp for u, stamp in files.items() if _fits(name_of(u).parts, path.parts)}
    files = {u: s for u, s in files.items() if is_video_name(name_of(u))}
    if not files:
        raise ValueError(f"{public_uri(uri)!r} has no video files ({', '.join(VIDEO_SUFFIXES)})")
    root = name_of(base)
    clips = [Clip(clip_id=str(name_of(uri).relative_to(root)), video_uri=uri) for uri in files]
    return clips, {public_uri(uri): stamp for uri, stamp in files.items() if stamp is not None}


def _read_remote_clips(uri: str) -> list[Clip]:
    """Relative URIs in the table are relative to its remote folder."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder).resolve() / "clips.parquet"
        path.write_bytes(retry(lambda: b"".join(read_remote(uri)), on=(SourceError,)))
        clips = read_clips(path)
        base = uri.partition("?")[0].rpartition("/")[0]
        return [
            replace(clip, video_uri=f"{base}/{Path(clip.video_uri).relative_to(path.parent)}")
            if Path(clip.video_uri).is_relative_to(path.parent)
            else clip
            for clip in clips
        ]


def _fits(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """As local globs: `**` is any number of folders, also none, and `*` goes no further than its own part of the path."""
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return any(_fits(parts[i:], pattern[1:]) for i in range(len(parts) + 1))
    return bool(parts) and fnmatchcase(parts[0], pattern[0]) and _fits(parts[1:], pattern[1:])


def _parts_before_magic(path: Path) -> Sequence[str]:
    parts: list[str] = []
    for part in path.parts[:-1]:
        if glob.has_magic(part):
            break
        parts.append(part)
    return parts


def _require_own_names(clips: Iterable[Clip]) -> None:
    """ValueError where two videos would be stored under one URI."""
    named: dict[str, str] = {}
    remote = {clip.video_uri: clip.clip_id for clip in clips if is_remote(clip.video_uri)}
    for uri, clip_id in remote.items():
        public, unsigned = public_uri(uri), unsigned_uri(uri)
        if named.setdefault(public, unsigned) != unsigned:
            raise ValueError(
                f"clip {clip_id!r}: another clip's video differs from {public!r} only in parameters of the query that are "
                "not stored, since they may be secrets; give each video a path of its own, or name it by one of the "
                f"parameters {', '.join(NAMING_PARAMETERS)}"
            )
