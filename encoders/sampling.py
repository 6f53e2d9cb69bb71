"""Which frames of a clip the encoder sees: T positions, spread evenly over the clip as in the TF-CoVR release."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplingConfig:
    """How a clip becomes a block of frames; part of the encoder id."""

    num_frames: int
    """Frames per clip (T)."""
    frame_size: int | None
    """Frames are resized to a square of this many pixels, the aspect ratio not kept, as in the release. None = native size."""

    def __post_init__(self) -> None:
        if self.num_frames < 1:
            raise ValueError(f"num_frames is {self.num_frames}; it must be at least 1")
        if self.frame_size is not None and self.frame_size < 1:
            raise ValueError(f"frame_size is {self.frame_size}; it must be None or at least 1")


def sample_positions(
    num_frames_in_clip: int, num_frames: int, *, rng: np.random.Generator | None = None
) -> np.ndarray:
    """Positions [T] int64 within the clip, in temporal order.

    The clip is cut into T intervals with integer bounds; each gives its middle frame, or with `rng` (training) a random one.
    A clip with fewer frames than T repeats its frames cyclically, with or without `rng`.
    """
    if num_frames_in_clip < 1 or num_frames < 1:
        raise ValueError(
            f"num_frames_in_clip is {num_frames_in_clip} and num_frames is {num_frames}; both must be at least 1"
        )
    if num_frames_in_clip < num_frames:
        return np.arange(num_frames, dtype=np.int64) % num_frames_in_clip
    bounds = np.linspace(0, num_frames_in_clip, num_frames + 1).astype(np.int64)
    first, end = bounds[:-1], bounds[1:]
    if rng is None:
        return (first + end - 1) // 2
    return rng.integers(first, end)
