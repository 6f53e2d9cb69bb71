"""What is asked of a process that decodes clips and encodes them too, and what comes back with each: plain values, no torch."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodeRequest:
    """Which encoder makes vectors of a request's spans, and how many clips at once."""

    bundle_dir: str
    backend: str
    """`auto`, `torch`, `onnx` or `tensorrt`."""
    num_threads: int | None = None
    batch_size: int = 8
    canaries: tuple[int, ...] = ()
    """Drawn clips that ride in the same batches; their spans are numbered on after those of the video."""
    ticket: int = 0
    """Comes back with every vector of this request, whichever request it comes with."""
    is_last: bool = True
    """Whether a batch that is not full is encoded at once; otherwise its clips wait for those of the next request."""

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size is {self.batch_size}; it must be at least 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class Encoding:
    """A clip's unit vector [D] float32, and how it was made."""

    vector_D: np.ndarray
    ticket: int
    """Of the request that asked for the clip."""
    backend: str
    precision: str
    decode_busy_s: float
    """CPU-seconds where one core does it all, seconds elsewhere."""
    embed_busy_s: float
    """The batch's, shared evenly by its clips."""
    canary_min_cosine: float
    """Of the bundle's canaries with their vectors, when the encoder was opened."""
    embed_ceiling_per_s: float
    """Clips per second of this encoder on the canaries, alone."""
