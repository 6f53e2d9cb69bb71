"""Places that are watched: a local folder, whose kernel tells what changes, and what can only be listed again and again."""

import logging
import stat
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Protocol

from watchfiles import watch

from cluster.storage import file_system_of
from encoders.clips import Clip
from encoders.media.video_files import is_video_name, videos_below
from indexing.sources.archive import (
    Archive,
    clip_of_file,
    list_archive,
)
from indexing.sources.content import FileStamp, local_stamp, read_contents
from indexing.sources.remote import SourceError
from indexing.sources.uris import is_remote, name_of
from indexing.sources.watching.whole_files import reason_to_wait

logger = logging.getLogger(__name__)
_TICK_MS, _STEP_MS = 1000, 100
_SHARE_OF_A_CORE = 1 / 200
"""That listing may take, which bounds how often a large place is listed."""
_LOCAL_RELIST_S = 600.0
"""Of a folder whose changes the kernel tells, in case that it did not."""
# Their changes by other machines are told to nobody here.
_NETWORK_FILE_SYSTEMS = ("nfs", "cifs", "smb", "9p", "ceph", "gluster", "lustre", "afs", "beegfs", "gpfs", "fuse")  # fmt: skip
Stamps = Mapping[str, FileStamp]


class Place(Protocol):
    """Video files by their names, which are paths below the place."""

    def list(self) -> Stamps:
        """All of them; OSError where it cannot be reached."""
        ...

    def look(self, name: str) -> FileStamp | None:
        """The file as it is now; None where there is none. OSError where the place cannot be reached."""
        ...

    def reason_to_wait(self, name: str) -> str:
        """Why a file is not whole yet, or ""."""
        ...

    def archive(self, names: Iterable[str]) -> Archive:
        """The clips of these files, one each."""
        ...

    def clip_id(self, name: str) -> str:
        """Of the clip of a file, whether or not it is there."""
        ...

    def changes(self) -> Iterator[set[str]]:
        """Names of files that may have changed, at least every second, without end.

        A name that ends with / stands for all files below it, and LIST_AGAIN asks for a listing.
        """
        ...


LIST_AGAIN = "/"
_UNKNOWN = FileStamp(size_bytes=-1, mtime_ns=-1)
"""Of a file that is there, and that may not be asked."""


def open_place(source: str, *, poll_s: float) -> Place:
    """ValueError for what is not a folder."""
    if is_remote(source):
        return Bucket(source, poll_s=poll_s)
    if not Path(source).is_dir():
        raise ValueError(
            f"{source!r} cannot be watched; give a folder of videos, or one of object storage such as s3://BUCKET/FOLDER"
        )
    return Folder(Path(source), poll_s=poll_s)


class _Relisting:
    """When a place is listed again: seldom enough to take a small share of a core."""

    def __init__(self, least_s: float) -> None:
        self._least_s = least_s
        self._due_s = time.monotonic() + least_s
        self._soonest_s = self._cpu_s = 0.0

    def __enter__(self) -> None:
        self._cpu_s = time.thread_time()

    def __exit__(self, *_: object) -> None:
        self._soonest_s = time.monotonic() + (time.thread_time() - self._cpu_s) / _SHARE_OF_A_CORE
        self._due_s = max(time.monotonic() + self._least_s, self._soonest_s)

    def bring_forward(self) -> None:
        """As soon as listing takes no more than its share."""
        self._due_s = min(self._due_s, self._soonest_s)

    def is_due(self) -> bool:
        return time.monotonic() >= self._due_s


class Folder:
    """A local folder, or one of a network file system."""

    def __init__(self, folder: Path, *, poll_s: float) -> None:
        self._base = folder.absolute()
        self._told = tells_changes(folder)
        self._relisting = _Relisting(_LOCAL_RELIST_S if self._told else poll_s)
        self._device = folder.stat().st_dev

    def list(self) -> dict[str, FileStamp]:
        with self._relisting:
            self._require_base()
            stamps = {}
            for path in videos_below(self._base):
                if (stamp := _stamp(path)) is not None:
                    stamps[str(path.relative_to(self._base))] = stamp
            return stamps

    def look(self, name: str) -> FileStamp | None:
        self._require_base()
        return _stamp(self._base / name)

    def reason_to_wait(self, name: str) -> str:
        return reason_to_wait(self._base / name)

    def archive(self, names: Iterable[str]) -> Archive:
        return Archive(clips=tuple(clip_of_file(self._base / name, self._base) for name in names))

    def clip_id(self, name: str) -> str:
        return clip_of_file(self._base / name, self._base).clip_id

    def changes(self) -> Iterator[set[str]]:
        events = self._events() if self._told else _ticks()
        for names in events:
            yield names | {LIST_AGAIN} if self._relisting.is_due() else names

    def _events(self) -> Iterator[set[str]]:
        told = watch(
            self._base,
            watch_filter=None,
            step=_STEP_MS,
            rust_timeout=_TICK_MS,
            yield_on_timeout=True,
            ignore_permission_denied=True,
        )
        for changes in told:
            names: set[str] = set()
            for _kind, text in changes:
                path = Path(text)
                if self._is_linked(path):  # listed once, under which name a listing knows
                    self._relisting.bring_forward()
                elif is_video_name(path):
                    names.add(str(path.relative_to(self._base)))
                elif path.is_dir():  # the files that came with it are not told one by one
                    names.update(str(file.relative_to(self._base)) for file in videos_below(path))
                elif path != self._base and not path.exists():
                    names.add(f"{path.relative_to(self._base)}/")
            yield names

    def _is_linked(self, path: Path) -> bool:
        """Whether it is, or is below, a link to a folder that is there."""
        inner = path.relative_to(self._base).parts
        folders = [self._base.joinpath(*inner[:depth]) for depth in range(1, len(inner) + 1)]
        return any(folder.is_symlink() and folder.is_dir() for folder in folders)

    def _require_base(self) -> None:
        """A folder that was unmounted is not one whose files were deleted."""
        if self._base.stat().st_dev != self._device:
            raise SourceError(f"{self._base} is on another device than before; was it unmounted?")


class Bucket:
    """A folder of object storage. An object is whole as soon as it is listed."""

    def __init__(self, uri: str, *, poll_s: float) -> None:
        self._uri = uri
        self._root = name_of(uri)
        self._relisting = _Relisting(poll_s)
        self._archive = Archive(clips=())
        self._clips: dict[str, Clip] = {}
        self._stamps: dict[str, FileStamp] = {}

    def list(self) -> dict[str, FileStamp]:
        with self._relisting:
            try:
                archive = list_archive(self._uri)
            except ValueError as error:  # nothing is there, which may be a mistake
                raise SourceError(str(error)) from error
            uris = (clip.video_uri for clip in archive.clips)
            contents = read_contents(uris, {}, fetch_uris=archive.fetch_uris, stamps=archive.stamps)
            self._archive = archive
            self._clips = {clip.clip_id: clip for clip in archive.clips}
            self._stamps = {
                clip_id: contents[clip.video_uri].stamp or self._stamps.get(clip_id, _UNKNOWN)
                for clip_id, clip in self._clips.items()
            }
            return self._stamps

    def look(self, name: str) -> FileStamp | None:
        return self._stamps.get(name)

    def reason_to_wait(self, name: str) -> str:
        return ""

    def archive(self, names: Iterable[str]) -> Archive:
        clips = tuple(self._clips[name] for name in names)
        uris = {clip.video_uri for clip in clips}
        return Archive(
            clips=clips,
            fetch_uris={u: full for u, full in self._archive.fetch_uris.items() if u in uris},
            stamps={uri: stamp for uri, stamp in self._archive.stamps.items() if uri in uris},
        )

    def clip_id(self, name: str) -> str:
        return name

    def changes(self) -> Iterator[set[str]]:
        for names in _ticks():
            yield names | {LIST_AGAIN} if self._relisting.is_due() else names


def tells_changes(folder: Path) -> bool:
    """Whether the kernel tells all changes below a folder; those of a network file system are made elsewhere too."""
    return not file_system_of(folder).startswith(_NETWORK_FILE_SYSTEMS)


def _ticks() -> Iterator[set[str]]:
    while True:
        time.sleep(_TICK_MS / 1000)
        yield set()


def _stamp(path: Path) -> FileStamp | None:
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError:
        return _UNKNOWN
    return local_stamp(status) if stat.S_ISREG(status.st_mode) else None
