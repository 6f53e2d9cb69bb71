"""CMX 3600 edit decision lists: one event per cut, timecodes of source and reel."""

import re
from collections.abc import Sequence

from encoders.decoding.source import Source
from encoders.media.timecode import timecode_of
from indexing.handoff.cuts import Cut, one_line, sources_of, timecode_timing, timing_of

_MAX_EVENTS = 999
_MAX_REEL = 8
_MAX_RATE = 100
"""Frames are written with two digits."""
_FIRST_HOUR_S = 3600


def write_edl(cuts: Sequence[Cut], title: str) -> str:
    """The list as text. ValueError for more than 999 cuts, and for frame rates that are several, variable, or have no timecode of two digits."""
    if len(cuts) > _MAX_EVENTS:
        raise ValueError(
            f"there are {len(cuts)} spans; an EDL has at most {_MAX_EVENTS}, other formats have no limit"
        )
    rate, is_drop_frame = timecode_timing(cuts, max_rate=_MAX_RATE)
    reels = reel_names(sources_of(cuts))
    lines = [
        f"TITLE: {one_line(title)}",
        f"FCM: {'DROP FRAME' if is_drop_frame else 'NON-DROP FRAME'}",
        "",
    ]
    place = _FIRST_HOUR_S * round(rate)
    if is_drop_frame:  # the frame that is called 01:00:00;00
        place -= 54 * (2 if round(rate) == 30 else 4)
    for number, cut in enumerate(cuts, start=1):
        first = timing_of(cut.source).first_frame
        frames = (
            first + cut.frames.start, first + cut.frames.stop, place, place + len(cut.frames),
        )  # fmt: skip
        codes = " ".join(timecode_of(frame, rate, is_drop_frame=is_drop_frame) for frame in frames)
        lines.append(f"{number:03}  {reels[cut.source.path]:<8} V     C        {codes}")
        lines.append(f"* FROM CLIP NAME: {one_line(cut.source.path.name)}")
        lines.append(f"* COMMENT: {cut.name}")
        place += len(cut.frames)
    return "\n".join(lines) + "\n"


def reel_names(sources: Sequence[Source]) -> dict[object, str]:
    """Path -> reel, at most eight letters and digits, each another one."""
    names: dict[object, str] = {}
    for source in sources:
        text = source.times.reel or source.path.stem
        plain = re.sub(r"[^A-Z0-9_]", "", text.upper())[:_MAX_REEL] or "REEL"
        name, number = plain, 1
        while name in names.values():
            number += 1
            name = f"{plain[: _MAX_REEL - len(str(number))]}{number}"
        names[source.path] = name
    return names
