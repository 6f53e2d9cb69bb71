"""Moments of a video: what the moment head of a bundle proposes, and which moments are replays of which."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from encoders.decoding.isolated import IsolatedTimeline
from encoders.decoding.request import TimelineBlock, TimelineRequest
from encoders.files import hash_file
from encoders.media.container import MediaLimits
from encoders.media.errors import DecodeError
from encoders.video_encoder.proposals import Moment, find_moments

Seconds = tuple[float, float]
"""Start and end of a clip."""
_MAX_GAP_S = 20.0
"""A replay is shown before the next action, or so soon after the action that nothing else can be meant."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cut:
    """The clips of a video, in the order of time."""

    spans: list[Seconds]
    replay_of: dict[int, int] = field(default_factory=dict)
    """Number of a span that is a replay -> number of the span that it shows again."""


class MomentFinder:
    """The moment head of a bundle. Threads may share it."""

    def __init__(self, bundle: Path) -> None:
        """BundleMismatchError for a bundle without a head."""
        from encoders.bundle.moments import MOMENT_WEIGHTS, load_moment_head  # and torch

        self._head = load_moment_head(bundle)
        self.config = self._head.config
        self.key = hash_file(bundle / MOMENT_WEIGHTS) + repr(self.config)
        """Changes with everything that decides what a moment is."""

    def find(self, blocks: Iterable[TimelineBlock]) -> list[Moment]:
        """Moments in the glances of a video, in the order of time."""
        from encoders.video_encoder.moment_head import curves_of_video  # and torch

        times: list[np.ndarray] = []

        def glances() -> Iterator[np.ndarray]:
            for block in blocks:
                if block.frames_THWC is not None:
                    times.append(block.times_s[:-1])
                    yield block.frames_THWC

        curves_TK = curves_of_video(self._head, glances())
        return find_moments(
            curves_TK,
            np.concatenate(times) if times else np.zeros(0),
            duration_s=self.config.duration_s,
            min_score=self.config.min_score,
        )

    def request(self, video: str, limits: MediaLimits) -> TimelineRequest:
        """What `find` wants to see of a video."""
        return TimelineRequest(
            video=video,
            reads_frames=True,
            frames_per_s=self.config.glances_per_s,
            frame_size=self.config.glance_size,
            resize="swscale_area",
            limits=limits,
        )


def best_span(
    bundle: Path, video: str, limits: MediaLimits, *, deadline_s: float
) -> Seconds | None:
    """The moment of a short video with the highest score; None where there is none, or the file is no video."""
    finder = MomentFinder(bundle)
    try:
        with IsolatedTimeline(deadline_s=deadline_s) as decoder:
            moments = finder.find(decoder.iter_blocks(finder.request(video, limits)))
    except DecodeError:
        return None
    best = max(moments, key=lambda moment: moment.score, default=None)
    return None if best is None else (max(best.start_s, 0.0), best.end_s)


def cut_of_moments(moments: Sequence[Moment], end_s: float) -> Cut:
    """Spans within the video; a replay belongs to the last live moment before it, where that is near."""
    spans: list[Seconds] = []
    replay_of: dict[int, int] = {}
    live = -1
    for number, moment in enumerate(moments):
        spans.append((max(moment.start_s, 0.0), min(moment.end_s, end_s)))
        if not moment.is_replay:
            live = number
        elif live >= 0 and moment.start_s - spans[number - 1][1] <= _MAX_GAP_S:
            replay_of[number] = live
    return Cut(spans=spans, replay_of=replay_of)
