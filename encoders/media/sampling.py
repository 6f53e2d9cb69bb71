"""Which frames of a clip the encoder sees: T positions, spread evenly over the clip as in the TF-CoVR release."""

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np

Resize = Literal["pillow_bicubic", "swscale_area"]
Color = Literal["bt601", "file"]


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplingConfig:
    """How a clip becomes a block of frames; part of the encoder id."""

    num_frames: int
    """Frames per clip (T)."""
    frame_size: int | None
    """Frames are resized to a square of this many pixels, the aspect ratio not kept, as in the release. None = native size."""
    resize: Resize = "pillow_bicubic"
    """How: pillow_bicubic as the release and CLIP do it; swscale_area averages while FFmpeg converts the colours, which makes
    decoding of large frames up to 1.7 times as fast. Frames that have the size already are the same with both."""
    color: Color = "bt601"
    """Matrix from Y'CbCr to RGB: bt601 takes every file for BT.601, as decord and so the release do; file takes the one that the file
    names (BT.601, BT.709, BT.2020 non-constant, SMPTE 240M, FCC), and BT.601 where it names none, as FFmpeg does. The range is the
    file's own with both. Of HDR (PQ, HLG) matrix and range are undone and nothing else: no tone mapping, no change of primaries."""

    def __post_init__(self) -> None:
        if self.num_frames < 1:
            raise ValueError(f"num_frames is {self.num_frames}; it must be at least 1")
        if self.frame_size is not None and self.frame_size < 1:
            raise ValueError(f"frame_size is {self.frame_size}; it must be None or at least 1")
        if self.resize not in get_args(Resize):
            raise ValueError(
                f"resize is {self.resize!r}; choose one of {', '.join(get_args(Resize))}"
            )
        if self.color not in get_args(Color):
            raise ValueError(f"color is {self.color!r}; choose one of {', '.join(get_args(Color))}")


def sampling_to_dict(sampling: SamplingConfig) -> dict[str, Any]:
    """As cards keep it. What was the only choice once is not named, so that encoders from before there was another keep their ids."""
    values = asdict(sampling)
    if sampling.resize == "pillow_bicubic":
        del values["resize"]
    if sampling.color == "bt601":
        del values["color"]
    return values


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
