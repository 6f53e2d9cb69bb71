"""Writes small videos whose frames show their own number, so that a test can check which frame was decoded."""

from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

_BLOCKS = 4  # 4 x 4 blocks = a 16-bit number


def numbered_frame(number: int, width: int, height: int) -> np.ndarray:
    """Gray blocks on the left and right extremes: bit 1 bright, bit 0 dark; the lowest bit is the top left block."""
    bits = (number >> np.arange(_BLOCKS * _BLOCKS)) & 1
    rows = np.arange(height) * _BLOCKS // height
    columns = np.arange(width) * _BLOCKS // width
    gray = np.where(bits.reshape(_BLOCKS, _BLOCKS)[rows][:, columns], 220, 30)
    return np.repeat(gray[..., None], 3, axis=2).astype(np.uint8)


def read_number(frame_HWC: np.ndarray) -> int:
    """The number in a frame of any size; asserts that each block is clearly bright or dark."""
    height, width = frame_HWC.shape[:2]
    number = 0
    for bit in range(_BLOCKS * _BLOCKS):
        y = int((bit // _BLOCKS + 0.5) * height / _BLOCKS)
        x = int((bit % _BLOCKS + 0.5) * width / _BLOCKS)
        value = float(frame_HWC[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2].mean())
        assert abs(value - 125) > 45, f"block {bit} is neither bright nor dark: {value}"
        number |= int(value > 125) << bit
    return number


def read_numbers(frames_THWC: np.ndarray) -> list[int]:
    return [read_number(frame) for frame in frames_THWC]


@dataclass(frozen=True, kw_only=True)
class VideoSpec:
    num_frames: int = 50
    codec: str = "libx264"
    width: int = 64
    height: int = 48
    fps: int = 25
    pts: tuple[int, ...] | None = None
    """Presentation times in ticks of 1/fps; None = 0, 1, 2, ..."""
    options: dict[str, str] = field(default_factory=dict)
    rotation: int | None = None
    """Degrees counter-clockwise in the display matrix."""
    hflip: bool = False
    pix_fmt: str = "yuv420p"
    container_options: dict[str, str] = field(default_factory=dict)
    color_range: int | None = None
    """1 = limited, 2 = full."""
    colorspace: int | None = None
    """FFmpeg's number: 1 = BT.709, 5 = BT.601."""
    picture: str = "number"
    """`number`, or `gradient`: smooth colours for comparing pixels."""


def gradient_frame(number: int, width: int, height: int) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width]
    return np.stack(
        [
            40 + 160 * x / width,
            40 + 160 * y / height,
            128 + 80 * np.sin(number / 5 + x / width * 3),
        ],
        axis=2,
    ).astype(np.uint8)


def write_video(path: Path, spec: VideoSpec) -> Path:
    draw = {"number": numbered_frame, "gradient": gradient_frame}[spec.picture]
    with av.open(str(path), "w", container_options=spec.container_options) as container:
        stream = container.add_stream(spec.codec, rate=spec.fps, options=spec.options)
        stream.width, stream.height, stream.pix_fmt = spec.width, spec.height, spec.pix_fmt
        stream.time_base = stream.codec_context.time_base = Fraction(1, spec.fps)
        if spec.colorspace is not None:
            stream.codec_context.colorspace = spec.colorspace
            stream.codec_context.color_range = spec.color_range
        if spec.rotation is not None:
            stream.set_display_rotation(spec.rotation, hflip=spec.hflip)
        for number in range(spec.num_frames):
            frame = av.VideoFrame.from_ndarray(draw(number, spec.width, spec.height), "rgb24")
            if spec.colorspace is not None:
                frame = frame.reformat(format=spec.pix_fmt)
                frame.colorspace, frame.color_range = spec.colorspace, spec.color_range
            frame.pts = spec.pts[number] if spec.pts else number
            frame.time_base = Fraction(1, spec.fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path
