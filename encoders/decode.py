"""Spans of one video to blocks of frames, through one of two backends that return the same frames.

Letters: N spans, T frames, H W pixels, C = 3 (RGB).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from encoders.decode_request import DecodedSpan, DecodeRequest
from encoders.decode_spans import HostCanvas, assemble
from encoders.frame_plan import Span
from encoders.media import DecodeBackendKind, DecodeError, DecodeReason, MediaLimits, local_path
from encoders.sampling import SamplingConfig

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
    yield from _BACKENDS[request.backend](local_path(request.video), request)


def _iter_pyav(path: Path, request: DecodeRequest) -> Iterator[DecodedSpan]:
    from encoders.decode_pyav import PyavVideo  # av only where it decodes

    with closing(PyavVideo(path, request.limits, request.sampling)) as video:
        yield from assemble(request, video, HostCanvas(frame_size=request.sampling.frame_size))


def _iter_dali(path: Path, request: DecodeRequest) -> Iterator[DecodedSpan]:
    from encoders.decode_dali import DaliVideo  # dali only where it decodes
    from encoders.decode_pyav import PyavVideo

    with closing(PyavVideo(path, request.limits, request.sampling)) as video:
        source = DaliVideo(video, request.device)
        yield from assemble(request, source, HostCanvas(frame_size=request.sampling.frame_size))


_BACKENDS: dict[DecodeBackendKind, Callable[[Path, DecodeRequest], Iterator[DecodedSpan]]] = {
    "dali": _iter_dali,
    "pyav": _iter_pyav,
}
