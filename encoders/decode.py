"""Spans of one video to blocks of frames, through one of two backends that return the same frames.

Letters: N spans, T frames, H W pixels, C = 3 (RGB).
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, get_args

import numpy as np

from encoders.encode_request import EncodeRequest, Encoding
from encoders.frame_image import resize_frame
from encoders.frame_plan import FrameIndex, Span, plan_spans
from encoders.media import DecodeBackendKind, DecodeError, DecodeReason, MediaLimits, local_path
from encoders.sampling import SamplingConfig

if TYPE_CHECKING:
    from torch import Tensor

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
class DecodeRequest:
    """All that decides which frames come out; the same request gives the same frames."""

    video: str
    spans: tuple[Span, ...]
    sampling: SamplingConfig
    backend: DecodeBackendKind = "pyav"
    limits: MediaLimits = field(default_factory=MediaLimits)
    device: str = "cpu"
    """Where the dali backend decodes, and an encoder runs: `cpu` or `cuda`."""
    jitter_seed: int | None = None
    """None = the middle frame of each interval; a number = a random one (training)."""
    encode: EncodeRequest | None = None
    """Vectors instead of frames; only `iter_encoded_spans` takes it."""

    def __post_init__(self) -> None:
        if self.backend not in get_args(DecodeBackendKind):
            allowed = ", ".join(get_args(DecodeBackendKind))
            raise ValueError(f"backend is {self.backend!r}; choose one of {allowed}")


@dataclass(frozen=True, kw_only=True, slots=True)
class DecodedSpan:
    """One span of a request: its frames, or why it has none."""

    number: int
    """Which span of the request."""
    frames_THWC: np.ndarray | None
    frame_indices_T: np.ndarray | None
    error: DecodeError | None
    backend_used: DecodeBackendKind
    fallback_reason: str | None
    num_frames_decoded: int
    """Frames that came out of the decoder for the whole video so far."""
    times_s: np.ndarray | None = None
    """Seconds at which the frames are shown, and the end of the last one; only where a whole video is read (timeline.py)."""
    device_frames_THWC: "Tensor | None" = None
    """The frames on the device that decoded them, instead of `frames_THWC` (decode_device.py)."""
    encoding: Encoding | None = None
    """The clip's vector, instead of frames (clip_vectors.py)."""


class FrameSource(Protocol):
    """What a backend is: an open video that gives its frames by number."""

    @property
    def index(self) -> FrameIndex: ...
    @property
    def backend_used(self) -> DecodeBackendKind: ...
    @property
    def fallback_reason(self) -> str | None: ...
    @property
    def num_frames_decoded(self) -> int: ...
    @property
    def last_error(self) -> str: ...

    def read_frames(self, numbers: Iterable[int]) -> Iterator[tuple[int, Any]]:
        """(number, RGB frame as shown [H, W, 3]) in any order; None for a frame that cannot be decoded.

        An array, or a tensor where the source keeps its frames on a device. With resize "swscale_area" of the size that is wanted, otherwise of the video's own size.
        """
        ...


class Canvas(Protocol):
    """Where pictures are resized and put together into clips: the host's memory, or a device's."""

    def resized(self, picture_HWC: Any) -> Any:
        """A picture of a FrameSource at the size that is wanted."""
        ...

    def empty(self, shape: tuple[int, ...]) -> Any:
        """Room for uint8 frames."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class HostCanvas:
    """NumPy arrays."""

    frame_size: int | None

    def resized(self, picture_HWC: np.ndarray) -> np.ndarray:
        """See Canvas."""
        return resize_frame(picture_HWC, self.frame_size)

    def empty(self, shape: tuple[int, ...]) -> np.ndarray:
        """See Canvas."""
        return np.empty(shape, np.uint8)


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


class _OpenSpan:
    """A span whose frames are still coming."""

    def __init__(self, number: int, frame_indices_T: np.ndarray, canvas: Canvas) -> None:
        self.number = number
        self._canvas = canvas
        self.frame_indices_T = frame_indices_T
        self._places: defaultdict[int, list[int]] = defaultdict(list)
        for place, frame_number in enumerate(frame_indices_T.tolist()):
            self._places[frame_number].append(place)
        self.num_missing = len(self._places)
        self.frames_THWC: Any = None
        """Of the canvas's kind."""
        self.error: DecodeError | None = None

    def take(self, frame_number: int, frame_HWC: Any, why_missing: str) -> None:
        self.num_missing -= 1
        if frame_HWC is None:
            self.error = DecodeError(
                "corrupt_container", f"frame {frame_number} cannot be decoded: {why_missing}"
            )
            return
        if self.frames_THWC is None:
            self.frames_THWC = self._canvas.empty((len(self.frame_indices_T), *frame_HWC.shape))
        if self.frames_THWC.shape[1:] != frame_HWC.shape:
            self.error = DecodeError(
                "codec_unsupported", f"frame {frame_number} has another size; set a frame_size"
            )
            return
        for place in self._places[frame_number]:
            self.frames_THWC[place] = frame_HWC


def assemble(request: DecodeRequest, source: FrameSource, canvas: Canvas) -> Iterator[DecodedSpan]:
    """One pass over the sorted union of all frames; a frame that several spans want is decoded and resized once."""

    def finished(span: _OpenSpan) -> DecodedSpan:
        frames_THWC = span.frames_THWC if span.error is None else None
        is_on_host = isinstance(frames_THWC, np.ndarray)
        return DecodedSpan(
            number=span.number,
            frames_THWC=frames_THWC if is_on_host else None,
            device_frames_THWC=None if is_on_host else frames_THWC,
            frame_indices_T=span.frame_indices_T if span.error is None else None,
            error=span.error,
            backend_used=source.backend_used,
            fallback_reason=source.fallback_reason,
            num_frames_decoded=source.num_frames_decoded,
        )

    sampling = request.sampling
    rng = None if request.jitter_seed is None else np.random.default_rng(request.jitter_seed)
    plans = plan_spans(source.index, request.spans, sampling.num_frames, request.limits, rng)
    spans_by_frame: defaultdict[int, list[_OpenSpan]] = defaultdict(list)
    for number, plan in enumerate(plans):
        if isinstance(plan, DecodeError):
            span = _OpenSpan(number, np.empty(0, np.int64), canvas)
            span.error = plan
            yield finished(span)
            continue
        span = _OpenSpan(number, plan, canvas)
        for frame_number in np.unique(plan).tolist():
            spans_by_frame[frame_number].append(span)
    for frame_number, picture_HWC in source.read_frames(spans_by_frame):
        frame_HWC = None if picture_HWC is None else canvas.resized(picture_HWC)
        for span in spans_by_frame.pop(frame_number):
            span.take(frame_number, frame_HWC, source.last_error or "its data are damaged")
            if span.num_missing == 0:
                yield finished(span)
