"""A folder of videos looked up by name: of data sets, whose videos may be missing, and of any table, whose cells name them in many ways."""

import difflib
import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from encoders.files import is_file
from encoders.media.container import VIDEO_SUFFIXES
from encoders.media.video_files import videos_below


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


class VideoNames:
    """The videos below a folder, by path, file name and name without ending."""

    def __init__(self, videos: str) -> None:
        self._root = videos
        self._is_remote = "://" in videos
        self._by_name: dict[str, set[str]] = defaultdict(set)
        self._name_by_uri: dict[str, str] = {}
        if self._is_remote:
            return
        folder = Path(videos)
        if not folder.is_dir():
            raise ValueError(f"videos is {videos!r}; it must be a folder or a URI")
        self.paths = sorted(path for path in videos_below(folder) if path.is_file())
        for path in self.paths:
            inner = path.relative_to(folder)
            self._name_by_uri.setdefault(str(path.resolve()), inner.as_posix())
            for name in (inner.as_posix(), inner.with_suffix("").as_posix(), path.name, path.stem):
                self._by_name[_normal(name)].add(str(path.resolve()))
        if not self.paths:
            raise ValueError(
                f"videos is {videos!r}, which has no video files ({', '.join(sorted(VIDEO_SUFFIXES))})"
            )

    def has(self, name: str) -> bool:
        """Whether a cell names a video of the folder; of a remote one nothing is known."""
        return bool(name) and any(one in self._by_name for one in _names_meant(name))

    def name(self, uri: str) -> str:
        """The path of a video below the folder, or its file name where it lies elsewhere."""
        inner = uri.removeprefix(f"{self._root.rstrip('/')}/") if self._is_remote else ""
        if inner and inner != uri:
            return inner
        return self._name_by_uri.get(uri, PurePosixPath(uri).name)

    def uri(self, name: str) -> str:
        """The video that a cell names; ValueError where it is none or several."""
        if "://" in name:
            return name
        if self._is_remote:
            return f"{self._root.rstrip('/')}/{name.lstrip('/')}"
        if Path(name).is_absolute() and is_file(name):
            return name
        for candidate in _names_meant(name):
            found = self._by_name.get(candidate, set())
            if len(found) == 1:
                return next(iter(found))
            if found:
                raise ValueError(
                    f"{name!r} names {len(found)} videos below {self._root}: {', '.join(sorted(found)[:3])}"
                )
        near = _nearest(PurePosixPath(_normal(name)).stem, self._by_name)
        hint = f"; the nearest name is {near!r}" if near else ""
        raise ValueError(
            f"{name!r} is not among the {len(self.paths)} videos of {self._root}{hint}"
        )


def _nearest(name: str, known: Iterable[str]) -> str | None:
    """Whatever the case of its letters."""
    by_lower = {text.lower(): text for text in known}
    near = difflib.get_close_matches(name.lower(), by_lower, n=1)
    return by_lower[near[0]] if near else None


def _normal(name: str) -> str:
    """Slashes of either kind, and letters with marks in one form: macOS writes them in two parts."""
    return unicodedata.normalize("NFC", name.replace("\\", "/"))


def _names_meant(name: str) -> list[str]:
    """The names below the folder that a cell may stand for; what is behind a point is left out where it is the ending of a video."""
    plain = PurePosixPath(_normal(name))
    is_video = plain.suffix.lower() in VIDEO_SUFFIXES
    return [str(plain), plain.name, *([plain.stem] if is_video else [])]
