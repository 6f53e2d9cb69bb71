"""Videos whose pictures say their own number."""

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import numpy as np

_BITS, _CELL = 10, 16


def write_numbered_video(
    path: Path,
    rate: Fraction,
    num_frames: int,
    *,
    timecode: str = "",
    gaps: Mapping[int, int] | None = None,
) -> None:
    """Each frame shows its number as black and white cells; `gaps` are frames behind which so many are left out."""
    with av.open(str(path), "w") as container:
        writer = cast("Any", container)
        stream = writer.add_stream("libx264", rate=rate, options={"preset": "ultrafast", "bf": "2"})
        stream.width, stream.height, stream.pix_fmt = _BITS * _CELL, 2 * _CELL, "yuv420p"
        stream.codec_context.time_base = 1 / rate
        if timecode:
            stream.metadata["timecode"] = timecode
        place = 0
        for number in range(num_frames):
            bits = [(number >> bit) & 1 for bit in range(_BITS)]
            row = np.repeat(np.array(bits, np.uint8) * 219 + 16, _CELL)
            luma = np.tile(row, (2 * _CELL, 1))
            chroma = np.full((_CELL, _BITS * _CELL), 128, np.uint8)
            frame = av.VideoFrame.from_ndarray(np.concatenate([luma, chroma]), format="yuv420p")
            frame.pts, frame.time_base = place, 1 / rate
            place += 1 + (gaps or {}).get(number, 0)
            writer.mux(stream.encode(frame))
        writer.mux(stream.encode(None))


def read_numbered_video(path: Path) -> tuple[list[int], np.ndarray]:
    """What each frame says of itself, and when it is shown, in seconds after the first [F]; by PyAV's plain decoding alone."""
    with av.open(str(path)) as container:
        frames = [
            (_number_of(frame.to_ndarray(format="gray")), frame.time)
            for frame in container.decode(video=0)
        ]
    times_s = np.array([time for _, time in frames], np.float64)
    return [number for number, _ in frames], times_s - times_s[0]


def _number_of(luma_HW: np.ndarray) -> int:
    """What the picture says."""
    cells = luma_HW.reshape(2 * _CELL, _BITS, _CELL).mean(axis=(0, 2))
    return sum(1 << bit for bit, value in enumerate(cells) if value > 128)
