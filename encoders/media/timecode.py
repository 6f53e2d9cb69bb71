"""Times as people and programs write them: seconds, and SMPTE timecode (hours:minutes:seconds:frames, drop-frame or not).

Drop-frame leaves out the labels of the first 2 (at 59.94, 4) frames of every minute but each tenth one, so that the label of a frame
keeps step with the clock at 29.97 frames per second. No frame is dropped.
"""

import re
from fractions import Fraction

_WHOLE = r"\d{1,12}"
"""More digits are no time of a video, and may not fit a float."""
_NUMBER = rf"(?:{_WHOLE}(?:[.,]\d*)?|[.,]\d+)"
_CLOCK = re.compile(rf"(?:(?:(?P<hours>{_WHOLE}):)?(?P<minutes>{_WHOLE}):)?(?P<seconds>{_NUMBER})")
_UNITS = re.compile(
    rf"(?=.)(?:(?P<hours>{_WHOLE})h)?(?:(?P<minutes>{_WHOLE})m)?(?:(?P<seconds>{_NUMBER})s)?"
)
_TIMECODE = re.compile(r"(\d{1,2})[:;](\d{2})[:;](\d{2})([:;.,])(\d{2,3})")
TIMECODE_PATTERN = r"\d{1,2}[:;]\d{2}[:;]\d{2}[:;]\d{2,3}"
"""A regular expression of the labels that are no time in seconds: a point or comma before the frames would be decimals."""
_LABELS_DROPPED_PER_MINUTE = {Fraction(30000, 1001): 2, Fraction(60000, 1001): 4}


def parse_seconds(text: str) -> float:
    """12, 12.5, .5, 0:01, 1:02:03.5, 00:01:02,500, 90s or 1h2m3.5s as seconds; ValueError for anything else."""
    plain = text.strip()
    clock, units = _CLOCK.fullmatch(plain), _UNITS.fullmatch(plain.lower())
    matched = clock or units
    if matched is None or not text.isascii():
        raise ValueError(
            f"time {text!r} must be seconds (12.5), MM:SS, HH:MM:SS or 1h2m3s, with decimals behind '.' or ','"
        )
    hours, minutes = int(matched["hours"] or 0), int(matched["minutes"] or 0)
    seconds = float((matched["seconds"] or "0").replace(",", "."))
    is_clock = clock is not None and matched["minutes"] is not None
    if (clock is not None and matched["hours"] is not None and minutes > 59) or (
        is_clock and seconds >= 60
    ):
        raise ValueError(f"time {text!r} has 60 or more minutes or seconds behind a colon")
    return 3600.0 * hours + 60.0 * minutes + seconds


def can_drop_frames(rate: Fraction) -> bool:
    """Whether drop-frame timecode exists at this many frames per second: at 29.97 and 59.94."""
    return rate in _LABELS_DROPPED_PER_MINUTE


def timecode_of(frame: int, rate: Fraction, *, is_drop_frame: bool) -> str:
    """The label of a frame, counted from 00:00:00:00; after 24 hours it begins anew. ";" before the frames marks drop-frame."""
    per_second = round(rate)
    if is_drop_frame:
        dropped = _dropped(rate)
        per_minute, per_ten_minutes = 60 * per_second - dropped, 600 * per_second - 9 * dropped
        tens, rest = divmod(frame % (144 * per_ten_minutes), per_ten_minutes)
        minutes = max(rest - dropped, 0) // per_minute
        frame = tens * 600 * per_second + rest + minutes * dropped
    seconds, frames = divmod(frame, per_second)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    separator = ";" if is_drop_frame else ":"
    return f"{hours % 24:02}:{minutes:02}:{seconds:02}{separator}{frames:02}"


def frame_of(timecode: str, rate: Fraction) -> tuple[int, bool]:
    """The frame of a label, counted from 00:00:00:00, and whether the label is drop-frame. ValueError for what is not a timecode."""
    matched = _TIMECODE.fullmatch(timecode.strip())
    if matched is None:
        raise ValueError(
            f"timecode is {timecode!r}; it must be HH:MM:SS:FF, or HH:MM:SS;FF for drop-frame"
        )
    hours, minutes, seconds, frames = (int(matched[group]) for group in (1, 2, 3, 5))
    per_second = round(rate)
    if minutes > 59 or seconds > 59 or frames >= per_second:
        raise ValueError(
            f"timecode {timecode!r} does not exist at {float(rate):.3f} frames per second"
        )
    frame = ((hours * 60 + minutes) * 60 + seconds) * per_second + frames
    is_drop_frame = matched[4] != ":" and can_drop_frames(rate)
    if is_drop_frame:
        all_minutes = hours * 60 + minutes
        frame -= _dropped(rate) * (all_minutes - all_minutes // 10)
        if seconds == 0 and frames < _dropped(rate) and minutes % 10:
            raise ValueError(f"timecode {timecode!r} is one that drop-frame leaves out")
    return frame, is_drop_frame


def _dropped(rate: Fraction) -> int:
    if rate not in _LABELS_DROPPED_PER_MINUTE:
        raise ValueError(
            f"rate is {float(rate):.3f}; drop-frame timecode exists at 29.97 and 59.94 only"
        )
    return _LABELS_DROPPED_PER_MINUTE[rate]
