"""Seconds from the forms in which people and programs write times."""

import re

_NUMBER = r"(?:\d+(?:[.,]\d*)?|[.,]\d+)"
_CLOCK = re.compile(rf"(?:(?:(?P<hours>\d+):)?(?P<minutes>\d+):)?(?P<seconds>{_NUMBER})")
_UNITS = re.compile(rf"(?=.)(?:(?P<hours>\d+)h)?(?:(?P<minutes>\d+)m)?(?:(?P<seconds>{_NUMBER})s)?")


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
