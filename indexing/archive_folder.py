"""An archive folder: `archive.json` names the bundle, the collection and the videos, so that searching needs nothing else; and the
options by which commands are told what to search.

Paths below the folder are stored relative to it: the folder can be moved. Rows of the collection keep the paths of the videos as
they were indexed; `relocate` answers with where they are now.
"""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import tyro

from encoders.files import atomic_file, from_dict, read_json

ARCHIVE_NAME = "archive.json"
_FORMAT = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class _Record:
    """archive.json as it is stored."""

    format: int
    bundle: str
    milvus_uri: str
    """A folder, relative to the archive where it lies below it, or the address of a server."""
    collection: str
    videos: str
    """Where the videos are: relative to the archive where they lie below it."""
    indexed_from: str
    """The folder or URI that `videos` was when the collection was made; paths in its rows begin with it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Archive:
    """All that a search of one archive needs; paths are absolute."""

    folder: Path
    bundle: Path
    milvus_uri: str
    collection: str
    videos: str
    """A folder or URI."""
    indexed_from: str

    @property
    def moved_videos(self) -> tuple[str, str] | None:
        """(what paths in the collection begin with, what to put in its place); None where nothing was moved."""
        return None if self.videos == self.indexed_from else (self.indexed_from, self.videos)


def relocate(video_uri: str, moved: tuple[str, str] | None) -> str:
    """`video_uri` with the beginning `moved[0]` replaced by `moved[1]`; any other URI as it is."""
    if moved is None:
        return video_uri
    old, new = moved
    if video_uri == old:
        return new
    rest = video_uri.removeprefix(old.rstrip("/") + "/")
    return video_uri if rest == video_uri else f"{new.rstrip('/')}/{rest}"


def is_archive(path: str | Path) -> bool:
    """Whether a local folder has an archive.json."""
    return "://" not in str(path) and (Path(path) / ARCHIVE_NAME).is_file()


def write_archive(archive: Archive) -> None:
    """Write `archive.json` into `archive.folder`, as a whole."""
    folder = archive.folder.resolve()
    record = _Record(
        format=_FORMAT,
        bundle=_stored(archive.bundle, folder),
        milvus_uri=_stored(archive.milvus_uri, folder),
        collection=archive.collection,
        videos=_stored(archive.videos, folder),
        indexed_from=archive.indexed_from,
    )
    with atomic_file(folder / ARCHIVE_NAME) as temporary:
        Path(temporary).write_text(json.dumps(asdict(record), indent=1) + "\n")


def read_archive(folder: str | Path, *, videos_root: str | None = None) -> Archive:
    """Read an archive folder; `videos_root` tells where its videos are now. ValueError says what is wrong with it."""
    folder = Path(folder).resolve()
    path = folder / ARCHIVE_NAME
    if not path.is_file():
        raise ValueError(
            f"{folder} is not an archive: {ARCHIVE_NAME} is missing; `tfcovr build VIDEOS --out {folder}` makes one"
        )
    content = read_json(path)
    if content.get("format") != _FORMAT:
        raise ValueError(
            f"{path} is none that `tfcovr build` of this version wrote: format must be {_FORMAT}"
        )
    record = from_dict(_Record, content, str(path))
    bundle = Path(_absolute(record.bundle, folder))
    if not bundle.is_dir():
        raise ValueError(f"{path}: bundle {bundle} is missing; copy the whole archive folder")
    videos = record.videos if videos_root is None else videos_root
    if videos_root is not None and "://" not in videos_root:
        videos = str(Path(videos_root).resolve())
        if not Path(videos).is_dir():
            raise ValueError(f"videos_root is {videos_root!r}; it must be a folder or a URI")
    return Archive(
        folder=folder,
        bundle=bundle,
        milvus_uri=_absolute(record.milvus_uri, folder),
        collection=record.collection,
        videos=_absolute(videos, folder),
        indexed_from=record.indexed_from,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class ArchiveOptions:
    """An archive folder, or what it would name."""

    archive: tyro.conf.Positional[Path | None] = None
    """Folder that `tfcovr build` made; it names bundle, collection and videos."""
    bundle: Path | None = None
    """Without an archive folder: the bundle that indexed the archive, or one with the same encoder id."""
    milvus_uri: str = ""
    """Without an archive folder: Milvus to search, a folder (Milvus Lite) or http://HOST:19530."""
    videos_root: str | None = None
    """Where the videos of the archive folder are now, if they were moved."""
    collection: str | None = None
    """Without an archive folder: the collection to search, or an alias of it; None = clips."""

    def located(self) -> Archive:
        """The archive of the folder, or of the options that name its parts; ValueError where it is both or neither."""
        if self.archive is not None:
            if self.bundle is not None or self.milvus_uri or self.collection is not None:
                raise ValueError(
                    "give an archive folder, or --bundle, --milvus-uri and --collection; not both"
                )
            return read_archive(self.archive, videos_root=self.videos_root)
        if self.bundle is None or not self.milvus_uri:
            raise ValueError(
                "give an archive folder (`tfcovr build` makes one), or --bundle and --milvus-uri"
            )
        if self.videos_root is not None:
            raise ValueError("videos_root is for an archive folder")
        return Archive(
            folder=Path(),
            bundle=self.bundle,
            milvus_uri=self.milvus_uri,
            collection="clips" if self.collection is None else self.collection,
            videos="",
            indexed_from="",
        )


def _stored(path: str | Path, folder: Path) -> str:
    text = str(path)
    if "://" in text:
        return text
    resolved = Path(text).resolve()
    return os.path.relpath(resolved, folder) if resolved.is_relative_to(folder) else str(resolved)


def _absolute(path: str, folder: Path) -> str:
    return path if "://" in path else str((folder / path).resolve())
