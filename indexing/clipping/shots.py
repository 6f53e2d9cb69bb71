"""Shot detection by PySceneDetect's adaptive detector over small frames.

It compares the change between two frames with the changes around it, so that a fast camera movement is not taken for a cut.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

_TICKS_PER_S = 1_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class ShotSettings:
    """What counts as a cut."""

    ratio: float = 3.0
    """How many times the change of the frames around it."""
    min_change: float = 15.0
    """Of colour and brightness, out of 255."""
    min_shot_s: float = 0.6
    """No second cut within so many seconds."""

    def __post_init__(self) -> None:
        for name in ("ratio", "min_change", "min_shot_s"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above 0")


def find_cuts(frames: Iterable[tuple[float, np.ndarray]], settings: ShotSettings) -> list[float]:
    """(second, RGB frame [H, W, 3]) in order -> the seconds at which a new shot begins, the first shot's not among them."""
    detector, timecode_of = _detector(settings)
    cuts_s: list[float] = []
    for time_s, frame_HWC in frames:
        detected = detector.process_frame(
            timecode_of(time_s), np.ascontiguousarray(frame_HWC[..., ::-1])
        )
        cuts_s += [float(cut.seconds) for cut in detected]
    return cuts_s


def _detector(settings: ShotSettings) -> tuple[Any, Any]:
    try:
        from scenedetect.common import FrameTimecode, Timecode
        from scenedetect.detectors import AdaptiveDetector
    except ImportError as error:
        raise ImportError(
            "cutting by shots needs the package 'scenedetect-headless': pip install -e '.[shots]'"
        ) from error

    def timecode_of(time_s: float) -> FrameTimecode:
        ticks = round(time_s * _TICKS_PER_S)
        return FrameTimecode(Timecode(pts=ticks, time_base=Fraction(1, _TICKS_PER_S)), fps=25.0)

    detector = AdaptiveDetector(
        adaptive_threshold=settings.ratio,
        min_content_val=settings.min_change,
        min_scene_len=settings.min_shot_s,
    )
    return detector, timecode_of
