"""On one file: the frames of one pass are FFmpeg's in number, time and picture, and those that are sought are the same."""

import re
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import numpy as np

from encoders.decoding.pyav_video import PyavVideo
from encoders.media import packets
from encoders.media.container import MediaLimits
from encoders.media.frame_index import FrameIndex, forget_index
from tests.support.zoo.files import run

# Mean over a frame's pixels; numbered frames of 64 x 48 differ by tens.
_MAX_DIFFERENCE = 4


@dataclass(frozen=True, kw_only=True)
class Reference:
    """What FFmpeg's command shows of a file."""

    frames_FHWC: np.ndarray
    times_s: np.ndarray
    """After the first frame."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Of one file."""

    num_frames: int
    """Frames that were compared with FFmpeg's."""
    wrong: tuple[str, ...]
    """What differs, a line for each frame."""


def reference(path: Path, folder: Path) -> Reference:
    """Every frame that FFmpeg shows, as RGB, by the arithmetic that we ask of it too."""
    raw = folder / "reference.rgb"
    said = run(
        *("-loglevel", "info", "-i", path, "-map", "0:v:0", "-fps_mode", "passthrough"),
        *("-vf", "showinfo=checksum=0,scale=in_color_matrix=bt601:flags=accurate_rnd+full_chroma_int+bilinear,format=rgb24"),
        *("-f", "rawvideo", raw),
    )  # fmt: skip
    times = [float(t) for t in re.findall(r"showinfo.* pts_time:(-?[\d.]+(?:e[-+]\d+)?)", said)]
    size = re.findall(r"Stream #0:0.*rawvideo.* (\d+)x(\d+)", said)[-1]
    width, height = int(size[0]), int(size[1])
    frames = np.frombuffer(raw.read_bytes(), np.uint8).reshape(-1, height, width, 3)
    raw.unlink()
    return Reference(frames_FHWC=frames, times_s=np.array(times) - times[0])


def compare(path: Path, folder: Path, *, seed: int = 0) -> Comparison:
    """`folder` is for work files; `seed` draws the sets of frames that are sought."""
    expected = reference(path, folder)
    forget_index()
    with closing(PyavVideo(path, MediaLimits())) as video:
        index = video.index
        if index.num_frames != len(expected.frames_FHWC):
            count = f"{index.num_frames} frames instead of {len(expected.frames_FHWC)}"
            return Comparison(num_frames=index.num_frames, wrong=(count,))
        one_pass = dict(video.read_frames(range(index.num_frames)))
    wrong = _wrong_times(index, expected)
    for number in range(index.num_frames):
        frame_HWC = one_pass[number]
        if frame_HWC is None:
            wrong.append(f"frame {number} is missing")
        elif (difference := _difference(frame_HWC, expected.frames_FHWC[number])) >= _MAX_DIFFERENCE:  # fmt: skip
            wrong.append(f"frame {number} differs by {difference:.1f}")
    wrong += _wrong_seeks(path, one_pass, np.random.default_rng(seed))
    return Comparison(num_frames=index.num_frames, wrong=tuple(wrong))


def _wrong_times(index: FrameIndex, expected: Reference) -> list[str]:
    tick_s = max(float(index.time_base), 0.001)
    is_near = np.abs(index.shown_times_s - expected.times_s) <= 1.01 * tick_s
    if (np.diff(expected.times_s) <= 0).any():
        # FFmpeg's command gives made-up times on as they are.
        is_near |= np.abs(index.shown_times_s - np.arange(index.num_frames) / 25) <= 0.041
    return [
        f"frame {n} at {index.shown_times_s[n]:.4f} s instead of {expected.times_s[n]:.4f} s"
        for n in np.flatnonzero(~is_near)
    ]


def _wrong_seeks(
    path: Path, one_pass: dict[int, np.ndarray | None], rng: np.random.Generator
) -> list[str]:
    wrong = []
    for kept_bytes in (packets._KEPT_BYTES, 0):
        for most in (1, 2, 5):
            numbers = sorted(rng.choice(len(one_pass), min(most, len(one_pass)), replace=False))
            forget_index()
            with (
                patch.object(packets, "_KEPT_BYTES", kept_bytes),
                closing(PyavVideo(path, MediaLimits())) as video,
            ):
                frames = dict(video.read_frames(int(number) for number in numbers))
            for number in numbers:
                sought, passed = frames.get(int(number)), one_pass[int(number)]
                if sought is None or passed is None or not np.array_equal(sought, passed):
                    wrong.append(f"frame {number} sought among {numbers} is another")
    return wrong


def _difference(frame_HWC: np.ndarray, expected_HWC: np.ndarray) -> float:
    if frame_HWC.shape != expected_HWC.shape:
        return float("inf")
    return float(np.abs(frame_HWC.astype(int) - expected_HWC).mean())
