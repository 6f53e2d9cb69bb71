"""What is asked of a decoder, and what comes back of each span. Letters: T frames, H W pixels, C = 3 (RGB)."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, get_args

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
    """Seconds at which the frames are shown, and the end of the last one; only where a whole video is read (timeline.py)."""
    device_frames_THWC: "Tensor | None" = None
    """The frames on the device that decoded them, instead of `frames_THWC` (decode_device.py)."""
    encoding: Encoding | None = None
    """The clip's vector, instead of frames (clip_vectors.py)."""
