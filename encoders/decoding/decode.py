"""Spans of one video to blocks of frames, through one of the decode backends, which return the same frames.

Letters: N spans, T frames, H W pixels, C = 3 (RGB).
"""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from encoders.decoding.assemble import HostCanvas, assemble
from encoders.decoding.backends import DecodeBackendKind, decode_backend
from encoders.decoding.frames.pixels import resize_frame
from encoders.decoding.request import (
    DecodedSpan,
    DecodeRequest,
    TimelineBlock,
    TimelineRequest,
)
from encoders.media.container import MediaLimits, local_path
from encoders.media.errors import DecodeError, DecodeReason
from encoders.media.frame_index import Span
from encoders.media.sampling import SamplingConfig

__all__ = [
    "DecodeBackendKind",
    "DecodeError",
    "DecodeReason",
    "DecodeRequest",
    "DecodedClips",
    "DecodedSpan",
    "MediaLimits",
    "Span",
    "collect_spans",
    "decode_clips",
    "iter_spans",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class DecodedClips:
    """All spans of a video, in the order of the request; a span with an error has black frames."""

    frames_NTHWC: np.ndarray
    frame_indices_NT: np.ndarray
    errors: tuple[DecodeError | None, ...]
    backend_used: str
    fallback_reason: str | None
    num_frames_decoded: int


def decode_clips(  # noqa: PLR0913 - a flat call for people; programs build a DecodeRequest
    video: str | Path,
    spans: Sequence[Span],
    sampling: SamplingConfig,
    *,
    backend: DecodeBackendKind = "pyav",
    limits: MediaLimits | None = None,
    device: str = "cpu",
    rng: np.random.Generator | None = None,
) -> DecodedClips:
    """Raises DecodeError for the whole video; an error of one span is in `errors`. `rng` jitters the frames for training."""
    request = DecodeRequest(
        video=str(video),
        spans=tuple(spans),
        sampling=sampling,
        backend=backend,
        limits=limits or MediaLimits(),
        device=device,
        jitter_seed=None if rng is None else int(rng.integers(2**62)),
    )
    return collect_spans(request, iter_spans(request))


def collect_spans(request: DecodeRequest, spans: Iterator[DecodedSpan]) -> DecodedClips:
    """The spans as one block; they may come in any order."""
    decoded = sorted(spans, key=lambda span: span.number)
    if not decoded:
        raise ValueError(f"{request.video}: spans is empty; at least one span is needed")
    num_frames, size = request.sampling.num_frames, request.sampling.frame_size or 1
    shapes = [span.frames_THWC.shape for span in decoded if span.frames_THWC is not None]
    frames_NTHWC = np.zeros((len(decoded), *(shapes or [(num_frames, size, size, 3)])[0]), np.uint8)
    frame_indices_NT = np.zeros((len(decoded), num_frames), np.int64)
    for row, span in enumerate(decoded):
        if span.frames_THWC is not None and span.frame_indices_T is not None:
            frames_NTHWC[row] = span.frames_THWC
            frame_indices_NT[row] = span.frame_indices_T
    return DecodedClips(
        frames_NTHWC=frames_NTHWC,
        frame_indices_NT=frame_indices_NT,
        errors=tuple(span.error for span in decoded),
        backend_used=decoded[-1].backend_used,
        fallback_reason=decoded[-1].fallback_reason,
        num_frames_decoded=max(span.num_frames_decoded for span in decoded),
    )


def iter_spans(request: DecodeRequest) -> Iterator[DecodedSpan]:
    """Each span as soon as its last frame is decoded: memory holds the spans that overlap, not the whole video."""
    from encoders.decoding.pyav_video import PyavVideo  # av only where it decodes

    backend = decode_backend(request.backend)
    path = local_path(request.video)
    with closing(PyavVideo(path, request.limits, request.sampling)) as video:
        source = backend.open_source(video, request.device, False)
        yield from assemble(request, source, HostCanvas(frame_size=request.sampling.frame_size))


def iter_timeline(request: TimelineRequest) -> Iterator[TimelineBlock]:
    """First a block without frames, whose times are the video's first and last second; then the frames in blocks, if asked for.

    A frame that cannot be decoded is left out of its block. DecodeError for a file that cannot be read at all.
    """
    from encoders.decoding.pyav_video import PyavVideo  # av only where it decodes

    sampling = SamplingConfig(
        num_frames=request.frames_per_block, frame_size=request.frame_size, resize=request.resize
    )
    with closing(PyavVideo(local_path(request.video), request.limits, sampling)) as video:
        shown_s = video.index.shown_times_s
        request.limits.check(max_duration_s=shown_s[-1])
        step_s = float(np.median(np.diff(shown_s))) if len(shown_s) > 1 else 0.0
        times_s = np.append(shown_s, shown_s[-1] + step_s)
        nothing = np.empty(0, np.int64)
        yield TimelineBlock(frames_THWC=None, frame_indices_T=nothing, times_s=times_s[[0, -1]])
        if not request.reads_frames:
            return
        numbers: list[int] = []
        frames: list[np.ndarray] = []
        last = -1
        every = 1
        if request.frames_per_s is not None and step_s > 0:
            every = max(1, round(1 / (step_s * request.frames_per_s)))
        for number, frame_HWC in video.read_frames(range(0, len(shown_s), every)):
            if frame_HWC is not None and number > last:  # a second reading comes too late
                last = number
                numbers.append(number)
                frames.append(resize_frame(frame_HWC, request.frame_size))
            if len(numbers) == request.frames_per_block:
                yield _block(numbers, frames, times_s)
                numbers, frames = [], []
        if numbers:
            yield _block(numbers, frames, times_s)


def _block(numbers: list[int], frames: list[np.ndarray], times_s: np.ndarray) -> TimelineBlock:
    return TimelineBlock(
        frames_THWC=np.stack(frames),
        frame_indices_T=np.array(numbers, np.int64),
        times_s=times_s[[*numbers, numbers[-1] + 1]],
    )
