"""A folder of videos looked up by name, with a list of the missing ones."""

import os
from pathlib import Path

from encoders.media.container import VIDEO_SUFFIXES


class VideoFolder:
    """Maps names without extension to paths; a missing video gets its expected path and is listed."""

    def __init__(self, folder: Path, *, must_exist: bool = True) -> None:
        self._folder = folder.absolute()
        self._file_by_name: dict[str, str] = {}
        self.missing: dict[str, list[str]] = {}
        """Ids of the clips that need a missing video, by its name."""
        if not folder.is_dir():
            if must_exist:
                raise ValueError(f"{folder}: the folder of videos does not exist")
            return
        with os.scandir(folder) as entries:
            files = sorted(entry.name for entry in entries)
        for suffix in reversed(VIDEO_SUFFIXES):
            matches = [name for name in files if name.lower().endswith(suffix)]
            self._file_by_name |= {name[: -len(suffix)]: name for name in matches}

    def uri(self, name: str, *, needed_by: str) -> str:
        """The absolute path of a video below the folder."""
        if name in (".", "..") or any(char in name for char in "/\\\0"):
            raise ValueError(f"a video is named {name!r}; it must not be a path")
        file = self._file_by_name.get(name)
        if file is None:
            self.missing.setdefault(name, []).append(needed_by)
            file = name + VIDEO_SUFFIXES[0]
        return str(self._folder / file)
