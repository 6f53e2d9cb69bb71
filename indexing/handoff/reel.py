"""A list of cuts as one MP4 file, cut after cut, exact to the frame and without sound."""

import os
from collections.abc import Sequence
from pathlib import Path

from encoders.decoding.trim import join_frames
from indexing.handoff.cuts import Cut, Pick, make_cuts

SOUND_NOTE = "without sound"
"""What a person is told of the file."""
_DEADLINE_S = 60.0
_DEADLINE_OF_A_SECOND_S = 20.0


def require_reel(path: Path) -> None:
    """ValueError for a file name that does not end in .mp4, or a folder that does not exist."""
    if path.suffix.lower() != ".mp4":
        raise ValueError(f"reel is {str(path)!r}; its name must end in .mp4")
    if not path.resolve().parent.is_dir():
        raise ValueError(f"reel is {str(path)!r}, and there is no folder {path.resolve().parent}")


def render_reel(picks: Sequence[Pick], path: Path) -> list[Cut]:
    """Write `path`, whole or not at all; the cuts in it, in the size of the first one.

    ValueError for spans without frames, DecodeError for a video that cannot be read or takes too long.
    """
    require_reel(path)
    cuts = make_cuts(picks)
    if path.exists() and any(path.samefile(pick.path) for pick in picks):
        raise ValueError(f"reel is {str(path)!r}, one of the videos that it is made of; name another file")  # fmt: skip
    seconds = sum(cut.end_s - cut.start_s for cut in cuts)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        join_frames(
            [(cut.source.path, cut.frames) for cut in cuts],
            temporary,
            deadline_s=_DEADLINE_S + _DEADLINE_OF_A_SECOND_S * seconds,
        )
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return cuts
