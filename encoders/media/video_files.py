"""Video files below a folder, by their names; links to folders are followed, each folder once."""

import logging
import os
from collections import deque
from collections.abc import Iterator
from pathlib import Path, PurePath

from encoders.media.container import VIDEO_SUFFIXES

logger = logging.getLogger(__name__)


def videos_below(folder: Path) -> Iterator[Path]:
    """The files below a folder that are named as videos."""
    return (file for file in files_below(folder) if is_video_name(file))


def is_video_name(path: PurePath) -> bool:
    """Whether a file of this name is listed as a video."""
    return path.suffix.lower() in VIDEO_SUFFIXES


def files_below(folder: Path) -> Iterator[Path]:
    """Every file below a folder, each folder's in the order of names.

    Links to folders are followed, each folder once: loops end, and real folders come before links.
    """
    seen: set[tuple[int, int]] = set()
    links = deque([folder])
    while links:
        top = links.popleft()
        opened = [_entries(top, seen)]
        while opened:
            entry = next(opened[-1], None)
            path = None if entry is None else Path(entry.path)
            if entry is None or path is None:
                opened.pop()
            elif not _is_folder(entry):
                yield path
            elif entry.is_symlink():
                links.append(path)
            else:
                opened.append(_entries(path, seen))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # of a link that leads to itself
        return False


def _entries(folder: Path, seen: set[tuple[int, int]]) -> Iterator[os.DirEntry[str]]:
    """None of a folder that was seen before, or that cannot be listed."""
    try:
        status = folder.stat()
        if (status.st_dev, status.st_ino) in seen:
            return iter(())
        seen.add((status.st_dev, status.st_ino))
        with os.scandir(folder) as entries:
            return iter(sorted(entries, key=lambda entry: entry.name))
    except OSError as error:
        logger.warning("%s is left out: %s", escaped(str(folder)), error.strerror)
        return iter(())


def escaped(name: str) -> str:
    """Bytes that are not UTF-8 as %XX; Python has them as lone surrogates."""
    return "".join(
        f"%{ord(char) - 0xDC00:02X}" if 0xDC80 <= ord(char) <= 0xDCFF else char for char in name
    )
