"""The videos of an archive whose files changed since a time."""

import os
import re
from dataclasses import replace
from datetime import datetime

from encoders.media.container import path_of
from encoders.media.errors import DecodeError
from indexing.sources.archive import Archive
from indexing.sources.uris import is_remote

_UNITS_S = {"m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def since_of(text: str, now_s: float) -> float:
    """Seconds since 1970 of a time such as 2026-11-30 or 2026-11-30T12:00+01:00 (local without an offset), or of so long ago: 36h, 7d.

    ValueError for another text.
    """
    if span := re.fullmatch(r"(\d+(?:\.\d+)?)([mhdw])", text):
        return now_s - float(span[1]) * _UNITS_S[span[2]]
    try:
        return datetime.fromisoformat(text).astimezone().timestamp()
    except ValueError:
        raise ValueError(
            f"since is {text!r}; give a time such as 2026-11-30 or 2026-11-30T12:00, or how long ago: 90m, 36h, 7d, 2w"
        ) from None


def changed_since(part: Archive, since_s: float) -> Archive:
    """The clips whose video changed then or later; a video of which that cannot be told is one of them."""
    times: dict[str, float | None] = {}
    for clip in part.clips:
        if clip.video_uri not in times:
            times[clip.video_uri] = _changed_s(part, clip.video_uri)
    clips = [clip for clip in part.clips if (at := times[clip.video_uri]) is None or at >= since_s]
    return replace(part, clips=tuple(clips))


def _changed_s(part: Archive, uri: str) -> float | None:
    """The last change of any kind of a local file: one that was moved here keeps the time of its content.

    A folder that was moved as a whole changes none of its files.
    """
    if is_remote(uri):
        stamp = part.stamps.get(uri)
        return stamp.modified_s if stamp else None
    try:
        return os.stat(path_of(uri)).st_ctime  # noqa: PTH116 - of millions
    except (OSError, ValueError, DecodeError):
        return None
