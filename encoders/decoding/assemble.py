"""From the frames of a video, as they come, to blocks of frames: a frame that several spans want is decoded and resized once.

Letters: T frames, H W pixels, C = 3 (RGB).
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from encoders.decoding.backends import FrameSource
from encoders.decoding.frames.pixels import resize_frame
from encoders.decoding.request import DecodedSpan, DecodeRequest
from encoders.media.errors import DecodeError
from encoders.media.frame_index import frames_in_span, plan_spans


class Canvas(Protocol):
    """Where frames are resized and put together into clips: the host's memory, or a device's."""

    @property
    def has_buffers(self) -> bool:
        """Whether a FrameSource may write frames of the wanted size straight into their clips."""
        ...

    def resized(self, frame_HWC: Any) -> Any:
        """A frame of a FrameSource at the size that is wanted."""
        ...

    def empty(self, shape: tuple[int, ...]) -> Any:
        """Memory for uint8 frames."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class HostCanvas:
    """NumPy arrays."""

    frame_size: int | None

    @property
    def has_buffers(self) -> bool:
        """See Canvas."""
        return self.frame_size is not None

    def resized(self, frame_HWC: np.ndarray) -> np.ndarray:
        """See Canvas."""
        return resize_frame(frame_HWC, self.frame_size)

    def empty(self, shape: tuple[int, ...]) -> np.ndarray:
        """See Canvas."""
        return np.empty(shape, np.uint8)


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
        self._out_HWC: np.ndarray | None = None
        self.error: DecodeError | None = None

    def out_buffer(self, frame_number: int, size: int) -> np.ndarray:
        """The first of its places; what `take` gets back of it stays there."""
        if self.frames_THWC is None:
            self.frames_THWC = self._canvas.empty((len(self.frame_indices_T), size, size, 3))
        out_HWC = self._out_HWC = self.frames_THWC[self._places[frame_number][0]]
        return out_HWC

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
        places = self._places[frame_number]
        for place in places[1:] if frame_HWC is self._out_HWC else places:
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
            has_all_frames=span.error is None
            and len(frames_in_span(source.index, request.spans[span.number])) <= most,
        )

    sampling = request.sampling
    rng = None if request.jitter_seed is None else np.random.default_rng(request.jitter_seed)
    most = request.max_all_frames
    plans = plan_spans(source.index, request.spans, sampling.num_frames, request.limits, rng, most)
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

    def out_buffer_for(frame_number: int) -> np.ndarray | None:
        size = sampling.frame_size
        if size is None or not canvas.has_buffers:
            return None
        return spans_by_frame[frame_number][0].out_buffer(frame_number, size)

    for frame_number, read_HWC in source.read_frames(spans_by_frame, out_buffer_for):
        frame_HWC = None if read_HWC is None else canvas.resized(read_HWC)
        spans = spans_by_frame.pop(frame_number)
        for span in spans:
            span.take(frame_number, frame_HWC, source.last_error or "its data are damaged")
        # Only after every span has copied it: the frame may lie in the first span's own array.
        yield from (finished(span) for span in spans if span.num_missing == 0)
