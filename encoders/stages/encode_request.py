"""Requests for vectors to a process that decodes clips and encodes them too, and its replies: plain values, no torch."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from encoders.bundle.card import BundleMismatchError
from encoders.decoding.request import DecodedSpan, DecodeRequest, FrameCodec
from encoders.files import from_dict


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderOptions:
    """Which encoder makes vectors of spans, and how many clips at once."""

    bundle_dir: str
    backend: str
    """What runs the encoder: `auto`, `torch`, `compiled`, `onnx` or `tensorrt`."""
    num_threads: int | None = None
    """Threads of the encoder on a CPU. None = the encoder's own choice."""
    batch_size: int = 8
    """Number of clips that are encoded at once."""

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size is {self.batch_size}; it must be at least 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodeRequest:
    """Vectors of the spans of a DecodeRequest, whose device is the encoder's too."""

    decode: DecodeRequest
    encoder: EncoderOptions
    is_introduction: bool = False
    """Ask for one reply that says what the encoder is, with zeros for a vector; nothing is decoded."""
    ticket: int = 0
    """Comes back with every vector of this request, whichever request it comes with."""
    is_last: bool = True
    """Whether a batch that is not full is encoded at once; otherwise its clips wait for those of the next request."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Encoding:
    """A clip's unit vector [D] float32, and how it was made."""

    vector_D: np.ndarray
    vector_length: float
    """The length that the vector had before."""
    backend: str
    precision: str
    decode_busy_s: float
    """CPU-seconds where one core does it all, seconds elsewhere."""
    embed_busy_s: float
    """Seconds of the batch, shared evenly by its clips."""
    canary_min_cosine: float
    """The smallest cosine of the bundle's canaries with their vectors, when the encoder was opened."""
    embed_ceiling_per_s: float
    """Clips per second of this encoder on the canaries, alone."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodedSpan:
    """A decoded span without its frames, and its vector; a span with an error has none."""

    span: DecodedSpan
    encoding: Encoding | None
    ticket: int
    """The ticket of the request that the clip came with."""


def overlaps(device: str) -> bool:
    """Whether a process on this device decodes several videos while it encodes; on a CPU other processes use the cores."""
    return device != "cpu"


class VectorCodec:
    """EncodeRequest and EncodedSpan over the pipe of a sandbox; the payload is the vector."""

    setup_errors: tuple[type[Exception], ...] = (BundleMismatchError,)

    def __init__(self) -> None:
        self._frames = FrameCodec()

    def request_to_dict(self, request: EncodeRequest) -> dict[str, Any]:
        return asdict(request)

    def request_from_dict(self, values: dict[str, Any]) -> EncodeRequest:
        return from_dict(EncodeRequest, values, "request")

    def reply_to_message(self, reply: EncodedSpan) -> tuple[dict[str, Any], memoryview | bytes]:
        span, _ = self._frames.reply_to_message(reply.span)
        header = {"span": span, "encoding": None, "ticket": reply.ticket}
        if reply.encoding is None:
            return header, b""
        encoding = asdict(reply.encoding)
        vector_D = encoding.pop("vector_D")
        return header | {"encoding": encoding}, vector_D.tobytes()

    def reply_from_message(self, values: dict[str, Any], payload: bytearray) -> EncodedSpan:
        encoding = values["encoding"]
        if encoding is not None:
            encoding = Encoding(vector_D=np.frombuffer(payload, np.float32), **encoding)
        return EncodedSpan(
            span=self._frames.reply_from_message(values["span"], bytearray()),
            encoding=encoding,
            ticket=values["ticket"],
        )
