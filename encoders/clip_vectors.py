"""Spans of a video in, unit vectors out, decoded and encoded by one process on one device; runs in a killable child.

N clips, T frames, H W pixels, D clip vector.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from encoders.backends import EncoderBackend, open_backend
from encoders.canaries import check_canaries, draw_canaries
from encoders.decode import DecodedSpan, DecodeRequest
from encoders.decode_device import iter_device_spans
from encoders.encode_request import EncodeRequest, Encoding
from encoders.media import DecodeError, DecodeSetupError


@dataclass(frozen=True, kw_only=True, slots=True)
class _Decoded:
    """A clip that waits for its batch."""

    span: DecodedSpan
    frames_THWC: Tensor
    busy_s: float


class ClipEncoder:
    """An encoder that has proved on the bundle's canaries that it is the one it says. What it cannot do is a DecodeSetupError."""

    def __init__(self, encode: EncodeRequest, device: str) -> None:
        self._device = torch.device(device)
        try:
            self._backend: EncoderBackend = open_backend(
                encode.bundle_dir, encode.backend, device=device, num_threads=encode.num_threads
            )
            self._canary_min_cosine = check_canaries(Path(encode.bundle_dir), self._backend)
        except Exception as error:
            raise DecodeSetupError(f"{type(error).__name__}: {error}") from error
        self._canaries_NTHWC = torch.from_numpy(draw_canaries(self._backend.card.sampling))
        started = time.perf_counter()
        self._embed(self._canaries_NTHWC)
        self._ceiling_per_s = len(self._canaries_NTHWC) / (time.perf_counter() - started)

    def canary(self, number: int, span_number: int) -> _Decoded:
        """A drawn clip as if it had been decoded."""
        span = DecodedSpan(
            number=span_number,
            frames_THWC=None,
            frame_indices_T=None,
            error=None,
            backend_used="pyav",
            fallback_reason=None,
            num_frames_decoded=0,
        )
        return _Decoded(span=span, frames_THWC=self._canaries_NTHWC[number], busy_s=0.0)

    def encoded(self, clips: Sequence[_Decoded]) -> Iterator[DecodedSpan]:
        """The clips' spans with their vectors."""
        if not clips:
            return
        started = time.perf_counter()
        frames = [clip.frames_THWC.to(self._device) for clip in clips]
        vectors_ND = self._embed(torch.stack(frames))
        busy_s = (time.perf_counter() - started) / len(clips)
        for clip, vector_D in zip(clips, vectors_ND, strict=True):
            encoding = Encoding(
                vector_D=vector_D,
                backend=self._backend.kind,
                precision=self._backend.precision,
                decode_busy_s=clip.busy_s,
                embed_busy_s=busy_s,
                canary_min_cosine=self._canary_min_cosine,
                embed_ceiling_per_s=self._ceiling_per_s,
            )
            yield replace(clip.span, device_frames_THWC=None, encoding=encoding)

    def _embed(self, frames_NTHWC: Tensor) -> np.ndarray:
        try:
            return self._backend.embed_tensor(frames_NTHWC).cpu().numpy()
        except Exception as error:  # no clip is to blame: the run must end, and loudly
            raise DecodeSetupError(
                f"the encoder failed: {type(error).__name__}: {error}"
            ) from error


def _counted(clip: _Decoded, num_frames_decoded: int) -> _Decoded:
    return replace(clip, span=replace(clip.span, num_frames_decoded=num_frames_decoded))


_open_encoder = cache(ClipEncoder)


def iter_encoded_spans(request: DecodeRequest) -> Iterator[DecodedSpan]:
    """Each span with its `encoding` as soon as its batch is full, or with its error; canaries after the first clip.

    A video that fails in the middle raises when what it gave before has its vectors. Without spans no file is opened.
    """
    encode = request.encode
    if encode is None:
        raise ValueError("request.encode is None; vectors need an encoder")
    encoder = _open_encoder(replace(encode, canaries=()), request.device)
    riders = [
        encoder.canary(number, len(request.spans) + i) for i, number in enumerate(encode.canaries)
    ]
    waiting: list[_Decoded] = []
    failure: DecodeError | None = None
    spans = iter_device_spans(request) if request.spans else iter(())
    started = time.perf_counter()
    while True:
        try:
            span = next(spans, None)
        except DecodeError as error:
            failure, span = error, None
        if span is None:
            break
        if span.device_frames_THWC is None:
            yield span
        else:
            busy_s = time.perf_counter() - started
            clip = _Decoded(span=span, frames_THWC=span.device_frames_THWC, busy_s=busy_s)
            waiting += [clip, *(_counted(rider, span.num_frames_decoded) for rider in riders)]
            riders = []
        while len(waiting) >= encode.batch_size:
            yield from encoder.encoded(waiting[: encode.batch_size])
            waiting = waiting[encode.batch_size :]
        started = time.perf_counter()
    waiting += riders
    for first in range(0, len(waiting), encode.batch_size):
        yield from encoder.encoded(waiting[first : first + encode.batch_size])
    if failure is not None:
        raise failure
