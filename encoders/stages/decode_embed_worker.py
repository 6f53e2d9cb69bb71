"""Spans of videos in, unit vectors out, decoded and encoded by one process on one device; runs in a killable child.

Clips of several videos share batches: what one request leaves of a batch waits here for the next. N clips, T frames, H W pixels, D
clip vector.
"""

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from encoders.backends.base import EncoderBackend, embed_with_length
from encoders.backends.registry import open_backend
from encoders.bundle.canaries import check_encoder, worker_clock
from encoders.decoding.decode import iter_spans
from encoders.decoding.request import DecodedSpan, DecodeRequest
from encoders.media.errors import DecodeError, DecodeSetupError, DeviceLostError, is_device_lost
from encoders.stages.encode_request import (
    EncodedSpan,
    EncodeRequest,
    EncoderOptions,
    Encoding,
    overlaps,
)
from encoders.stages.overlap import OverlappedEncoder

if TYPE_CHECKING:
    from torch import Tensor

logger = logging.getLogger(__name__)
# How NumPy, ONNX Runtime, torch and CUDA say it.
_NO_MEMORY = re.compile(
    r"out of memory|bad_alloc|(fail\w* to|cannot|can't|unable to) allocate", re.IGNORECASE
)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Decoded:
    """A clip that waits for its batch."""

    span: DecodedSpan
    busy_s: float
    ticket: int


class FrameTransport(Protocol):
    """How frames get from a decoder to an encoder."""

    def iter_spans(self, request: DecodeRequest) -> Iterator[DecodedSpan]: ...

    def frames_of(self, span: DecodedSpan) -> Any:
        """[T, H, W, 3]; None where the span has an error."""
        ...

    def with_frames(self, span: DecodedSpan, frames_THWC: np.ndarray) -> DecodedSpan:
        """The span with these frames."""
        ...

    def wait_for(self, frames_THWC: Any) -> None:
        """Until they are written."""
        ...

    def stream(self) -> AbstractContextManager[object]:
        """Work of the device that waits for no other thread's."""
        ...

    def embed(
        self, backend: EncoderBackend, frames: Sequence[Any]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Unit vectors [N, D] and the lengths [N] that they had."""
        ...


class HostFrames:
    """In the memory of this process, without torch, which takes seconds to load."""

    def iter_spans(self, request: DecodeRequest) -> Iterator[DecodedSpan]:
        return iter_spans(request)

    def frames_of(self, span: DecodedSpan) -> np.ndarray | None:
        return span.frames_THWC

    def with_frames(self, span: DecodedSpan, frames_THWC: np.ndarray) -> DecodedSpan:
        return replace(span, frames_THWC=frames_THWC)

    def wait_for(self, frames_THWC: np.ndarray) -> None:
        del frames_THWC

    def stream(self) -> AbstractContextManager[object]:
        return nullcontext()

    def embed(
        self, backend: EncoderBackend, frames: Sequence[np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        return embed_with_length(backend, np.stack(frames))


class DeviceFrames:
    """In the memory of the device that decodes."""

    def __init__(self, device: str) -> None:
        import torch

        self._device = torch.device(device)

    def iter_spans(self, request: DecodeRequest) -> Iterator[DecodedSpan]:
        from encoders.decoding.device import iter_device_spans

        return iter_device_spans(request)

    def frames_of(self, span: DecodedSpan) -> "Tensor | None":
        return span.device_frames_THWC

    def with_frames(self, span: DecodedSpan, frames_THWC: np.ndarray) -> DecodedSpan:
        import torch

        return replace(span, device_frames_THWC=torch.from_numpy(frames_THWC))

    def wait_for(self, frames_THWC: "Tensor") -> None:
        import torch

        if frames_THWC.is_cuda:
            torch.cuda.current_stream(frames_THWC.device).synchronize()

    def stream(self) -> AbstractContextManager[object]:
        import torch

        if self._device.type != "cuda":
            return nullcontext()
        return torch.cuda.stream(torch.cuda.Stream(self._device))

    def embed(
        self, backend: EncoderBackend, frames: "Sequence[Tensor]"
    ) -> tuple[np.ndarray, np.ndarray]:
        import torch

        frames_NTHWC = torch.stack([clip_THWC.to(self._device) for clip_THWC in frames])
        unit_ND, length_N = backend.embed_tensor_with_length(frames_NTHWC)
        return unit_ND.cpu().numpy(), length_N.cpu().numpy()


class ClipEncoder:
    """An encoder that passed the canary check of its bundle, and the clips that wait for their batch.

    What it cannot do is a DecodeSetupError; its cause says more.
    """

    def __init__(self, options: EncoderOptions, device: str, transport: FrameTransport) -> None:
        self.clock_s = worker_clock(device, options.num_threads)
        self._transport = transport
        try:
            self._backend: EncoderBackend = open_backend(
                options.bundle_dir, options.backend, device=device, num_threads=options.num_threads
            )
            self._canary_check = check_encoder(
                options.bundle_dir, self._backend, clock_s=self.clock_s, embed=self._embed_canaries
            )
        except Exception as error:
            raise DecodeSetupError(f"{type(error).__name__}: {error}") from error
        self._waiting: list[_Decoded] = []
        self._batch_size = options.batch_size

    @property
    def batch_size(self) -> int:
        """Clips that are encoded at once; fewer than were asked for where they did not fit."""
        return self._batch_size

    def stream(self) -> AbstractContextManager[object]:
        """See OverlappedEncoder."""
        return self._transport.stream()

    def num_bytes(self, span: DecodedSpan) -> int:
        """Of the span's frames, which are there in full when this returns."""
        frames_THWC = self._transport.frames_of(span)
        if frames_THWC is None:
            return 0
        self._transport.wait_for(frames_THWC)
        return frames_THWC.nbytes

    def spans(self, request: DecodeRequest) -> Iterator[DecodedSpan]:
        """The request's spans with their frames where the encoder takes them, or with an error."""
        return self._transport.iter_spans(request) if request.spans else iter(())

    def add(self, span: DecodedSpan, ticket: int, busy_s: float) -> bool:
        """Let a clip wait for its batch; False for one without frames."""
        if self._transport.frames_of(span) is None:
            return False
        self._waiting.append(_Decoded(span=span, busy_s=busy_s, ticket=ticket))
        return True

    def introduction(self) -> EncodedSpan:
        """What the encoder is, as the reply for a clip with zeros for a vector."""
        vector_D = np.zeros(self._backend.card.embedding_dim, np.float32)
        return EncodedSpan(
            span=_empty_span(),
            encoding=self._encoding((vector_D, 1.0), decode_s=0.0, embed_s=0.0),
            ticket=0,
        )

    def encoded(self, *, is_last: bool) -> Iterator[EncodedSpan | None]:
        """The spans of every full batch with their vectors, of the last one also where it is not full; None before each batch."""
        while len(self._waiting) >= (1 if is_last else self._batch_size):
            now = self._waiting[: self._batch_size]
            self._waiting = self._waiting[self._batch_size :]
            yield None  # from here on it is the encoder's time
            yield from self._encoded(now)

    def _encoded(self, clips: Sequence[_Decoded]) -> Iterator[EncodedSpan]:
        started = self.clock_s()
        vectors_ND, length_N = self._embed([clip.span for clip in clips])
        busy_s = (self.clock_s() - started) / len(clips)
        for clip, vector_D, length in zip(clips, vectors_ND, length_N.tolist(), strict=True):
            encoding = self._encoding((vector_D, length), decode_s=clip.busy_s, embed_s=busy_s)
            span = replace(clip.span, frames_THWC=None, device_frames_THWC=None)
            yield EncodedSpan(span=span, encoding=encoding, ticket=clip.ticket)

    def _encoding(
        self,
        vector_and_length: tuple[np.ndarray, float],
        *,
        decode_s: float,
        embed_s: float,
    ) -> Encoding:
        return Encoding(
            vector_D=vector_and_length[0],
            vector_length=vector_and_length[1],
            backend=self._backend.kind,
            precision=self._backend.precision,
            decode_busy_s=decode_s,
            embed_busy_s=embed_s,
            canary_min_cosine=self._canary_check.min_cosine,
            embed_ceiling_per_s=self._canary_check.clips_per_s,
        )

    def _embed_canaries(self, frames_NTHWC: np.ndarray) -> np.ndarray:
        """[N, D]; the frames go where decoded ones lie."""
        transport = self._transport
        spans = [transport.with_frames(_empty_span(), frames_THWC) for frames_THWC in frames_NTHWC]
        return transport.embed(self._backend, [transport.frames_of(span) for span in spans])[0]

    def _embed(self, spans: Sequence[DecodedSpan]) -> tuple[np.ndarray, np.ndarray]:
        try:
            return self._transport.embed(
                self._backend, [self._transport.frames_of(span) for span in spans]
            )
        except Exception as error:
            if is_device_lost(error):  # ends this process, and the clips are tried one by one
                raise DeviceLostError(f"while {len(spans)} clips were encoded: {error}") from error
            if not (isinstance(error, MemoryError) or _NO_MEMORY.search(str(error))):
                # No clip is to blame: the run must end, and loudly.
                raise DecodeSetupError(
                    f"the encoder failed: {type(error).__name__}: {error}"
                ) from error
            if len(spans) == 1:
                raise MemoryError(f"one clip alone: {error}") from error
            return self._embed_in_halves(spans, error)

    def _embed_in_halves(
        self, spans: Sequence[DecodedSpan], error: Exception
    ) -> tuple[np.ndarray, np.ndarray]:
        """Also from now on: a batch that does not fit once will not fit again."""
        half = len(spans) // 2
        self._batch_size = min(self._batch_size, half)
        logger.warning("%d clips at once are too many (%s); now %d", len(spans), error, half)
        vectors, lengths = zip(self._embed(spans[:half]), self._embed(spans[half:]), strict=True)
        return np.concatenate(vectors), np.concatenate(lengths)


def _empty_span() -> DecodedSpan:
    return DecodedSpan(
        number=0,
        frames_THWC=None,
        frame_indices_T=None,
        error=None,
        backend_used="pyav",
        fallback_reason=None,
        num_frames_decoded=0,
    )


@cache
def _open_overlapped(options: EncoderOptions, device: str) -> OverlappedEncoder:
    return OverlappedEncoder(_open_encoder(options, device))


@cache
def _open_encoder(options: EncoderOptions, device: str) -> ClipEncoder:
    return ClipEncoder(options, device, HostFrames() if device == "cpu" else DeviceFrames(device))


def iter_encoded_spans(request: EncodeRequest) -> Iterator[EncodedSpan | None]:
    """Each span with its vector as soon as its batch is full, also those that earlier requests left, or with its error.

    None for a clip that was decoded and waits, and before a batch is encoded. Without spans no file is opened. On a CPU, whose cores
    other workers use, one thing is done after the other, and a video that fails in the middle raises when all that it gave before
    has its vectors; elsewhere see OverlappedEncoder.
    """
    encoder = _open_encoder(request.encoder, request.decode.device)
    if request.is_introduction:
        yield encoder.introduction()
        return
    if overlaps(request.decode.device):
        yield from _open_overlapped(request.encoder, request.decode.device).iter_encoded(request)
        return
    failure: DecodeError | None = None
    spans = encoder.spans(request.decode)
    started = encoder.clock_s()
    while True:
        try:
            span = next(spans, None)
        except DecodeError as error:
            failure, span = error, None
        if span is not None:
            if not encoder.add(span, request.ticket, encoder.clock_s() - started):
                yield EncodedSpan(span=span, encoding=None, ticket=request.ticket)
                continue
            yield None
        is_over = span is None
        is_last = is_over and (request.is_last or failure is not None)
        yield from encoder.encoded(is_last=is_last)
        if is_over:
            break
        started = encoder.clock_s()
    if failure is not None:
        raise failure
