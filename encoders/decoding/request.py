"""What is asked of a decoder, and what comes back of each span. Letters: T frames, H W pixels, C = 3 (RGB)."""

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from encoders.media.container import DecodeBackendKind, MediaLimits
from encoders.media.errors import DecodeError
from encoders.media.frame_index import Span
from encoders.media.sampling import SamplingConfig
from encoders.stages.encode_request import EncodeRequest, Encoding

if TYPE_CHECKING:
    from torch import Tensor


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
    """Seconds at which the frames are shown, and the end of the last one; only where a whole video is read (`iter_timeline`)."""
    device_frames_THWC: "Tensor | None" = None
    """The frames on the device that decoded them, instead of `frames_THWC` (`iter_device_spans`)."""
    encoding: Encoding | None = None
    """The clip's vector, instead of frames (`iter_encoded_spans`)."""


def span_from_dict(values: dict[str, Any], payload: bytearray) -> DecodedSpan:
    """The span that `span_to_dict` and `payload_of` wrote."""
    shape, indices, error = values.pop("shape"), values.pop("frame_indices"), values.pop("error")
    times_s, encoding = values.pop("times_s"), values.pop("encoding")
    if encoding is not None:
        encoding = Encoding(vector_D=np.frombuffer(payload, np.float32), **encoding)
    return DecodedSpan(
        encoding=encoding,
        frames_THWC=None if shape is None else np.frombuffer(payload, np.uint8).reshape(shape),
        frame_indices_T=None if indices is None else np.array(indices, np.int64),
        error=None if error is None else DecodeError(*error),
        times_s=None if times_s is None else np.array(times_s),
        **values,
    )


def request_to_dict(request: DecodeRequest) -> dict[str, Any]:
    """The request as JSON can hold it."""
    return asdict(request)


def request_from_dict(values: dict[str, Any]) -> DecodeRequest:
    """The request that `request_to_dict` wrote."""
    encode = values["encode"]
    return DecodeRequest(
        **values
        | {
            "spans": tuple(Span(**span) for span in values["spans"]),
            "sampling": SamplingConfig(**values["sampling"]),
            "limits": MediaLimits(**values["limits"]),
            "encode": encode and EncodeRequest(**encode | {"canaries": tuple(encode["canaries"])}),
        }
    )


def span_to_dict(span: DecodedSpan) -> dict[str, Any]:
    """All but the frames, or the vector, themselves."""
    frames, indices, error = span.frames_THWC, span.frame_indices_T, span.error
    encoding = None
    if span.encoding is not None:
        encoding = asdict(span.encoding)
        del encoding["vector_D"]
    return {
        "number": span.number,
        "shape": None if frames is None else list(frames.shape),
        "frame_indices": None if indices is None else indices.tolist(),
        "error": None if error is None else [error.reason, error.detail],
        "backend_used": span.backend_used,
        "fallback_reason": span.fallback_reason,
        "num_frames_decoded": span.num_frames_decoded,
        "times_s": None if span.times_s is None else span.times_s.tolist(),
        "encoding": encoding,
    }


def payload_of(span: DecodedSpan) -> memoryview | bytes:
    """The bytes of the vector or of the frames."""
    if span.encoding is not None:
        return span.encoding.vector_D.tobytes()
    return b"" if span.frames_THWC is None else span.frames_THWC.reshape(-1).data
