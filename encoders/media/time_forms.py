"""Seconds from the forms in which people and programs write times."""

import re

_NUMBER = r"(?:\d+(?:[.,]\d*)?|[.,]\d+)"
_TIME = re.compile(rf"(?:(?:(?P<hours>\d+):)?(?P<minutes>\d+):)?(?P<seconds>{_NUMBER})")
TIME_PATTERN = rf"(?:(?:\d+:)?\d+:)?{_NUMBER}"
"""A regular expression that matches what parse_seconds reads."""


def parse_seconds(text: str) -> float:
    """12, 12.5, .5, 0:01, 1:02:03.5 or 00:01:02,500 as seconds; ValueError for anything else."""
    matched = _TIME.fullmatch(text.strip()) if text.isascii() else None
    if matched is None:
        raise ValueError(
            f"time {text!r} must be seconds (12.5), MM:SS or HH:MM:SS, with decimals behind '.' or ','"
        )
    hours, minutes = int(matched["hours"] or 0), int(matched["minutes"] or 0)
    seconds = float(matched["seconds"].replace(",", "."))
    is_clock = matched["minutes"] is not None
    if (matched["hours"] is not None and minutes > 59) or (is_clock and seconds >= 60):
        raise ValueError(f"time {text!r} has 60 or more minutes or seconds behind a colon")
    return 3600.0 * hours + 60.0 * minutes + seconds
