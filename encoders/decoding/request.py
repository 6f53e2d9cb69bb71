"""Requests for frames and for timelines, their replies, and the codecs that carry both to a sandbox and back.

Letters: T frames, H W pixels, C = 3 (RGB).
"""

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from encoders.decoding.backends import decode_backend
from encoders.files import from_dict
from encoders.media.container import MediaLimits
from encoders.media.errors import DecodeError
from encoders.media.frame_index import Span
from encoders.media.sampling import Resize, SamplingConfig

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class DecodeRequest:
    """All that decides which frames come out; the same request gives the same frames."""

    video: str
    spans: tuple[Span, ...]
    sampling: SamplingConfig
    backend: str = "pyav"
    """Name of a backend of `encoders.decoding.backends`."""
    limits: MediaLimits = field(default_factory=MediaLimits)
    device: str = "cpu"
    """Where a backend that can use a GPU decodes: `cpu`, `cuda` or `cuda:N`."""
    max_all_frames: int = 0
    """A span of at most so many frames comes whole, instead of `sampling.num_frames` of it; see DecodedSpan.has_all_frames."""
    jitter_seed: int | None = None
    """None = the middle frame of each interval; a number = a random one (training)."""

    def __post_init__(self) -> None:
        decode_backend(self.backend)


@dataclass(frozen=True, kw_only=True, slots=True)
class DecodedSpan:
    """One span of a request: its frames, or why it has none."""

    number: int
    """Position of the span in the request."""
    frames_THWC: np.ndarray | None
    frame_indices_T: np.ndarray | None
    error: DecodeError | None
    backend_used: str
    fallback_reason: str | None
    num_frames_decoded: int
    """Frames that came out of the decoder for the whole video so far."""
    has_all_frames: bool = False
    """Whether these are all frames of the span, each once."""
    device_frames_THWC: "Tensor | None" = None
    """The frames on the device that decoded them, instead of `frames_THWC` (`iter_device_spans`)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TimelineRequest:
    """A whole video: its first and last second, and its frames in blocks where they are wanted."""

    video: str
    reads_frames: bool
    """Whether the frames are decoded too, not only the times of the first and the last."""
    frames_per_block: int = 256
    """Maximum number of frames in a block."""
    frames_per_s: float | None = None
    """Every so many-th frame, so that about so many come a second. None = all."""
    frame_size: int | None = None
    """Frames are resized to a square of this many pixels. None = native size."""
    resize: Resize = "pillow_bicubic"
    """How frames are resized; see SamplingConfig."""
    limits: MediaLimits = field(default_factory=MediaLimits)

    def __post_init__(self) -> None:
        if self.frames_per_s is not None and not self.frames_per_s > 0:
            raise ValueError(f"frames_per_s is {self.frames_per_s}; it must be above 0, or None")


@dataclass(frozen=True, kw_only=True, slots=True)
class TimelineBlock:
    """Frames of a video, in order. The first block of a video has no frames, and the video's first and last second."""

    frames_THWC: np.ndarray | None
    frame_indices_T: np.ndarray
    times_s: np.ndarray
    """Seconds at which the frames are shown, and when the frame behind the last one is [T + 1]."""


class FrameCodec:
    """DecodeRequest and DecodedSpan over the pipe; the payload is the frames."""

    setup_errors: tuple[type[Exception], ...] = ()

    def request_to_dict(self, request: DecodeRequest) -> dict[str, Any]:
        return asdict(request)

    def request_from_dict(self, values: dict[str, Any]) -> DecodeRequest:
        return from_dict(DecodeRequest, values, "request")

    def reply_to_message(self, reply: DecodedSpan) -> tuple[dict[str, Any], memoryview | bytes]:
        frames, indices, error = reply.frames_THWC, reply.frame_indices_T, reply.error
        header = {
            "number": reply.number,
            "shape": None if frames is None else list(frames.shape),
            "frame_indices": None if indices is None else indices.tolist(),
            "error": None if error is None else [error.reason, error.detail],
            "backend_used": reply.backend_used,
            "fallback_reason": reply.fallback_reason,
            "num_frames_decoded": reply.num_frames_decoded,
            "has_all_frames": reply.has_all_frames,
        }
        return header, _payload(frames)

    def reply_from_message(self, values: dict[str, Any], payload: bytearray) -> DecodedSpan:
        shape, indices, error = (values.pop(name) for name in ("shape", "frame_indices", "error"))
        return DecodedSpan(
            frames_THWC=_frames(shape, payload),
            frame_indices_T=None if indices is None else np.array(indices, np.int64),
            error=None if error is None else DecodeError(*error),
            **values,
        )


class TimelineCodec:
    """TimelineRequest and TimelineBlock over the pipe; the payload is the frames."""

    setup_errors: tuple[type[Exception], ...] = ()

    def request_to_dict(self, request: TimelineRequest) -> dict[str, Any]:
        return asdict(request)

    def request_from_dict(self, values: dict[str, Any]) -> TimelineRequest:
        return from_dict(TimelineRequest, values, "request")

    def reply_to_message(self, reply: TimelineBlock) -> tuple[dict[str, Any], memoryview | bytes]:
        header = {
            "shape": None if reply.frames_THWC is None else list(reply.frames_THWC.shape),
            "frame_indices": reply.frame_indices_T.tolist(),
            "times_s": reply.times_s.tolist(),
        }
        return header, _payload(reply.frames_THWC)

    def reply_from_message(self, values: dict[str, Any], payload: bytearray) -> TimelineBlock:
        return TimelineBlock(
            frames_THWC=_frames(values["shape"], payload),
            frame_indices_T=np.array(values["frame_indices"], np.int64),
            times_s=np.array(values["times_s"]),
        )


def _payload(frames_THWC: np.ndarray | None) -> memoryview | bytes:
    """The frames as they lie in memory, not copied."""
    return b"" if frames_THWC is None else frames_THWC.reshape(-1).data


def _frames(shape: list[int] | None, payload: bytearray) -> np.ndarray | None:
    return None if shape is None else np.frombuffer(payload, np.uint8).reshape(shape)
