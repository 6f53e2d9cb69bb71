"""Lists the clips of an archive, part by part: a clips.parquet, or a file, folder or glob of videos, local or remote."""

import glob
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from itertools import chain, islice
from pathlib import Path, PurePosixPath

from cluster.repetition import retry
from encoders.clips import Clip, iter_clips
from encoders.media.container import VIDEO_SUFFIXES
from encoders.media.video_files import escaped, files_below, is_video_name, videos_below
from indexing.sources.remote import (
    RemoteStamp,
    SourceError,
    SourceGoneError,
    list_remote,
    read_remote,
)
from indexing.sources.uris import (
    HTTP_SCHEMES,
    NAMING_PARAMETERS,
    is_remote,
    name_of,
    public_uri,
    unsigned_uri,
)

_AT_ONCE = 4096
TABLE = ".parquet"
"""Ending of a table of clips, and of a folder of its files."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ArchiveRequest:
    """What a command says of its archive, and what its run folder knows."""

    source: str
    """Absolute path or public URI of the clips."""
    name: str | None = None
    """Name that the user gave; "" = the archive without a name, None = choose."""
    is_moved: bool = False
    """The user says that the archive is the recorded one, although its source is another."""
    recorded: tuple[str, str] | None = None
    """(name, source) of the run folder's last run."""
    is_recorded_here: bool = True
    """Whether that run wrote into a collection of this name at this address; one server may have several addresses."""

    @property
    def likely_name(self) -> str:
        """Before the collection is asked."""
        if self.name is not None:
            return self.name
        return self.recorded[0] if self.recorded and self.is_recorded_here else ""

    def __post_init__(self) -> None:
        if self.name and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", self.name):
            raise ValueError(
                f"archive is {self.name!r}; it must be 1 to 64 letters, digits, '.', '_' or '-', beginning with a letter or digit"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Archive:
    """Clips, with URIs that may be stored, and what opens those that are remote."""

    clips: tuple[Clip, ...]
    fetch_uris: dict[str, str] = field(default_factory=dict, repr=False)
    """Public URI -> the URI as it was given, where that has credentials or a signature. Never stored or logged."""
    stamps: Mapping[str, RemoteStamp] = field(default_factory=dict, repr=False)
    """Public URI -> what identifies the file, of those whose list had it: they need not be asked for it one by one."""


def is_table(source: str) -> bool:
    """Whether a source is named as a table of clips, and not as videos."""
    return (name_of(source) if is_remote(source) else Path(source)).suffix == TABLE


def list_archive(source: str | Path) -> Archive:
    """All clips at once. ValueError when there are no clips; OSError when a remote place cannot be listed."""
    parts = list(iter_archive(source))
    clips = tuple(clip for part in parts for clip in part.clips)
    first: dict[str, int] = {}
    for number, clip in enumerate(clips):
        if (earlier := first.setdefault(clip.clip_id, number)) != number:
            raise ValueError(
                f"{public_uri(str(source))}: clips {earlier + 1} and {number + 1} both have clip_id {clip.clip_id!r}; it must be unique"
            )
    return Archive(
        clips=clips,
        fetch_uris={uri: given for part in parts for uri, given in part.fetch_uris.items()},
        stamps={uri: stamp for part in parts for uri, stamp in part.stamps.items()},
    )


def iter_archive(source: str | Path) -> Iterator[Archive]:
    """Parts of some thousand clips, in the order of the source. Errors as those of `list_archive`; an id may come twice."""
    text = str(source)
    if not text.strip():
        raise ValueError(
            "no place of clips is given; give a clips.parquet, a file, folder or glob of videos, or a URI"
        )
    try:
        parts = _remote_parts(text) if is_remote(text) else _local_parts(text)
        names = _OwnNames()
        for clips, stamps in parts:
            names.require(clips)
            yield _public(clips, stamps)
    except SourceGoneError as error:
        raise ValueError(str(error)) from None


def _public(clips: Sequence[Clip], stamps: Mapping[str, RemoteStamp]) -> Archive:
    public: list[Clip] = []
    fetch_uris: dict[str, str] = {}
    for clip in clips:
        uri = public_uri(clip.video_uri)
        if uri != clip.video_uri:
            fetch_uris[uri] = clip.video_uri
            clip = replace(clip, video_uri=uri)
        public.append(clip)
    return Archive(clips=tuple(public), fetch_uris=fetch_uris, stamps=stamps)


_Part = tuple[Sequence[Clip], Mapping[str, RemoteStamp]]


def _local_parts(text: str) -> Iterator[_Part]:
    path = Path(text)
    if is_table(text) and path.exists():
        for clips in iter_clips(path):
            yield clips, {}
        return
    base, files = video_files(text)
    clips = (clip_of_file(file, base) for file in files)
    while part := list(islice(clips, _AT_ONCE)):
        yield part, {}


def video_files(text: str) -> tuple[Path, Iterator[Path]]:
    """The folder that clips are named from, and the videos of a file, folder or glob; ValueError where there are none."""
    path = Path(text)
    if path.is_dir():
        base, files = path, videos_below(path)
    elif glob.has_magic(text):
        base = Path(*_parts_before_magic(path))
        pattern = path.relative_to(base).parts
        if "**" in pattern:
            below = files_below(base)
            files = (file for file in below if _fits(file.relative_to(base).parts, pattern))
        else:
            files = iter(sorted(base.glob("/".join(pattern))))
    elif path.is_file() and is_video_name(path):
        base, files = path.parent, iter([path])
    else:
        raise ValueError(
            f"{text!r} has no clips; give a clips.parquet, a video file, a folder of videos "
            "or a glob such as 'videos/**/*.mp4'"
        )
    # A link that leads nowhere is a video that cannot be read, and is told as such.
    files = (file for file in files if file.is_file() or not file.exists())
    first = next(files, None)
    if first is None:
        raise ValueError(f"{text!r} has no video files ({', '.join(VIDEO_SUFFIXES)})")
    return base, chain([first], files)


def clip_of_file(file: Path, base: Path) -> Clip:
    """The clip of a whole file, named by its path below a folder; a link that leads nowhere is itself the file that cannot be read."""
    path = file.resolve() if file.exists() else file.absolute()
    return Clip(clip_id=name_below(base, file), video_uri=uri_of(path))


def name_below(base: Path, file: Path) -> str:
    """The path below a folder; where its bytes are not UTF-8, `./` and the path with these bytes escaped, as no other path begins."""
    name = file.relative_to(base).as_posix()
    return name if escaped(name) == name else f"./{escaped(name.replace('%', '%25'))}"


def uri_of(path: Path) -> str:
    """The path; where its bytes are not UTF-8, which neither Arrow nor Milvus stores, a file:// URI with these bytes escaped."""
    return str(path) if escaped(str(path)) == str(path) else path.as_uri()


def _remote_parts(uri: str) -> Iterator[_Part]:
    path = name_of(uri)
    if is_table(uri):
        for table in _remote_tables(uri):
            base = uri.partition("?")[0].rstrip("/").rpartition("/")[0]
            yield from ((clips, {}) for clips in _read_remote_clips(table, base))
        return
    if path.suffix.lower() in VIDEO_SUFFIXES and not glob.has_magic(str(path)):
        yield [Clip(clip_id=path.name, video_uri=uri)], {}
        return
    base = uri
    if glob.has_magic(str(path)):
        plain = PurePosixPath(*_parts_before_magic(Path(path)))
        base = uri[: uri.index(str(path))] + str(plain)
    root = name_of(base)
    files = (
        (file, stamp)
        for file, stamp in list_remote(base)
        if is_video_name(name_of(file)) and (base == uri or _fits(name_of(file).parts, path.parts))
    )
    is_empty = True
    while part := list(islice(files, _AT_ONCE)):
        is_empty = False
        stamps = {public_uri(file): stamp for file, stamp in part if stamp is not None}
        yield (
            [Clip(clip_id=str(name_of(f).relative_to(root)), video_uri=f) for f, _ in part],
            stamps,
        )
    if is_empty:
        raise ValueError(f"{public_uri(uri)!r} has no video files ({', '.join(VIDEO_SUFFIXES)})")


def _remote_tables(uri: str) -> list[str]:
    """The table itself, or the files of a folder NAME.parquet/."""
    if not uri.endswith("/"):
        return [uri]
    files = sorted(file for file, _ in list_remote(uri) if name_of(file).suffix == TABLE)
    if not files:
        raise ValueError(f"{public_uri(uri)!r} has no {TABLE} file; expected a table of clips")
    return files


def _read_remote_clips(uri: str, base: str) -> Iterator[list[Clip]]:
    """Relative URIs in the table are relative to the remote folder `base`."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder).resolve() / "clips.parquet"
        retry(lambda: _download(uri, path), on=(SourceError,))
        for clips in iter_clips(path):
            yield [
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


def _download(uri: str, path: Path) -> None:
    with path.open("wb") as file:
        for chunk in read_remote(uri):
            file.write(chunk)


class _OwnNames:
    """The stored names of videos whose URIs may have more than is stored: those of http, and with user info or a query."""

    def __init__(self) -> None:
        self._unsigned: dict[str, int] = {}

    def require(self, clips: Iterable[Clip]) -> None:
        """ValueError where two videos would be stored under one URI."""
        for clip in clips:
            uri = clip.video_uri
            if not is_remote(uri):
                continue
            public = public_uri(uri)
            if public == uri and not uri.lower().startswith(HTTP_SCHEMES):
                continue
            unsigned = hash(unsigned_uri(uri))
            if self._unsigned.setdefault(public, unsigned) != unsigned:
                raise ValueError(
                    f"clip {clip.clip_id!r}: another clip's video differs from {public!r} only in parameters of the query that are "
                    "not stored, since they may be secrets; give each video a path of its own, or name it by one of the "
                    f"parameters {', '.join(NAMING_PARAMETERS)}"
                )
