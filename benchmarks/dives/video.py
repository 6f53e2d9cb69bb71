"""How frames become a real video file: H.264 in MP4 or VP9 in WebM, written whole or not at all."""

import platform
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, cast

import av
import numpy as np

from benchmarks.dives.motion.execution import FPS
from cluster.storage import atomic_path

Codec = Literal["h264", "vp9"]


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoFormat:
    """One way to encode; one thread per file, because archives are written file by file in parallel."""

    encoder: str
    suffix: str
    container: str
    options: tuple[tuple[str, str], ...]


FORMATS: dict[str, VideoFormat] = {
    # veryfast at this size costs a quarter of the rendering; it writes B-frames, as real archives have.
    "h264": VideoFormat(
        encoder="libx264",
        suffix=".mp4",
        container="mp4",
        options=(("preset", "veryfast"), ("crf", "23")),
    ),
    "vp9": VideoFormat(
        encoder="libvpx-vp9",
        suffix=".webm",
        container="webm",
        options=(("crf", "32"), ("b", "0"), ("deadline", "realtime"), ("cpu-used", "8")),
    ),
}


def find_format(codec: str) -> VideoFormat:
    """ValueError names what is allowed."""
    if codec not in FORMATS:
        raise ValueError(f"codec is {codec!r}; choose one of {', '.join(FORMATS)}")
    return FORMATS[codec]


def write_video(path: Path, chunks_THWC: Iterable[np.ndarray], *, codec: str) -> int:
    """Encode uint8 RGB chunks [T, H, W, C] one after the other at 25 fps; returns the number of frames.

    The file appears under its name only when it is complete. Same frames, same bytes.
    """
    chosen = find_format(codec)
    num_frames = 0
    options = {"fflags": "+bitexact"}
    with (
        atomic_path(path) as temporary,
        av.open(str(temporary), "w", format=chosen.container, options=options) as container,
    ):
        stream: Any = None
        for chunk_THWC in chunks_THWC:
            if stream is None:
                stream = _open_stream(container, chosen, chunk_THWC.shape[2:0:-1])
            for frame_HWC in chunk_THWC:
                frame = av.VideoFrame.from_ndarray(frame_HWC, format="rgb24")
                frame.pts, frame.time_base = num_frames, Fraction(1, FPS)
                container.mux(stream.encode(frame))
                num_frames += 1
        if stream is None:
            raise ValueError(f"{path}: frames are empty; at least one is needed")
        container.mux(stream.encode())
    return num_frames


def _open_stream(container: Any, chosen: VideoFormat, size: tuple[int, ...]) -> Any:
    stream = cast("Any", container.add_stream(chosen.encoder, rate=FPS))
    stream.width, stream.height = size
    stream.pix_fmt = "yuv420p"
    stream.options = dict(chosen.options)
    if chosen.encoder == "libx264" and platform.machine() in ("x86_64", "AMD64"):
        # With AVX-512 and B-frames the same frames became different bytes from run to run where the width was no multiple of
        # 128 (seen with x264 of PyAV 18.1). With these instructions, which every machine has, they never did.
        stream.options = {**stream.options, "x264-params": "asm=sse4.2"}
    stream.codec_context.thread_count = 1
    return stream
