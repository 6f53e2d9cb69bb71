"""Where is the video of this name? A folder of files, one per name, and the list of those that are not there."""

import os
from pathlib import Path

_ENDINGS = (".mp4", ".mov", ".mkv", ".webm")


class VideoFolder:
    """Names without ending -> paths; a name without a file gets the path where it would be, and is listed."""

    def __init__(self, folder: Path, *, must_exist: bool = True) -> None:
        self._folder = folder.absolute()
        self._file_by_name: dict[str, str] = {}
        self.missing: dict[str, list[str]] = {}
        """Name of a missing video -> the clips that need it."""
        if not folder.is_dir():
            if must_exist:
                raise ValueError(f"{folder}: no such folder of videos")
            return
        with os.scandir(folder) as entries:
            files = sorted(entry.name for entry in entries)
        for ending in reversed(_ENDINGS):
            found = [name for name in files if name.endswith(ending)]
            self._file_by_name |= {name.removesuffix(ending): name for name in found}

    def uri(self, name: str, *, needed_by: str) -> str:
        """An absolute path below the folder."""
        if name in (".", "..") or any(char in name for char in "/\\\0"):
            raise ValueError(f"a video is named {name!r}; it must be no path")
        file = self._file_by_name.get(name)
        if file is None:
            self.missing.setdefault(name, []).append(needed_by)
            file = name + _ENDINGS[0]
        return str(self._folder / file)
