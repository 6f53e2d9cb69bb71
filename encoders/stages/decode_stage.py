"""Decode stage: batches of clip rows to batches with frames, and an error for each clip that failed."""

import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from encoders.decoding.backends import decode_backend
from encoders.decoding.decode import iter_spans
from encoders.decoding.isolated import IsolatedDecoder, decoder_for
from encoders.decoding.request import DecodedSpan
from encoders.decoding.sandbox.process import DEFAULT_DEADLINE_S, DecoderDiedError
from encoders.media.container import MediaLimits
from encoders.media.errors import DecodeError
from encoders.media.sampling import SamplingConfig
from encoders.stages.base import (
    MAX_DECODER_CRASHES_PER_VIDEO,
    ClipStage,
    clip_rows_of,
    decoded_columns,
    error_columns,
)


class DecodeStage(ClipStage):
    """One video row in, one row per clip out, in the order in which the clips are ready.

    In: video_uri, clip_ids, spans (see `span_row`), and any other columns, which every clip row repeats.
    Out: clip_id, video_uri, span, frames (uint8 [T, S, S, 3], zeros with an error),
    decode_backend, decode_busy_s, frames_decoded (by the decoder since the clip before it), frames_used,
    error (the fields of a ClipError, empty = fine; see NO_ERROR).
    """

    def __init__(
        self,
        *,
        sampling: SamplingConfig,
        backend: str = "pyav",
        isolate: bool = True,
        deadline_s: float = DEFAULT_DEADLINE_S,
        device: str = "cpu",
        limits: MediaLimits | None = None,
    ) -> None:
        super().__init__(sampling=sampling, backend=backend, device=device, limits=limits)
        self._iter_spans = iter_spans
        # One shape for all rows, so that Arrow holds the column as fixed-shape tensors.
        self._no_frames_THWC = np.zeros(self._frames_shape, np.uint8)
        self._decoder: IsolatedDecoder | None = None
        if isolate:
            self._decoder = decoder_for(device, deadline_s=deadline_s)
            self._iter_spans = self._decoder.iter_spans

    def __call__(self, row: dict[str, Any]) -> Iterator[dict[str, Any]]:
        yield from self.clips(row["video_uri"], clip_rows_of(row))

    def clips(self, video: str, clip_rows: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """See ClipStage; all rows of the video."""
        waiting = dict(enumerate(clip_rows))
        try:
            yield from self._decoded(video, clip_rows, waiting)
            return
        except DecoderDiedError as error:
            crash = error
        num_crashes = 0
        for row in waiting.values():
            alone = {0: row}
            if num_crashes < MAX_DECODER_CRASHES_PER_VIDEO:
                try:
                    yield from self._decoded(video, [row], alone)
                except DecoderDiedError as error:
                    num_crashes, crash = num_crashes + 1, error
            for lost in alone.values():  # not one that came before its decoder died
                yield lost | self._failed(crash, self._backend, 0.0)

    def _decoded(
        self,
        video: str,
        clip_rows: Sequence[dict[str, Any]],
        waiting: dict[int, dict[str, Any]],
    ) -> Iterator[dict[str, Any]]:
        """What came is taken out of `waiting`. DecoderDiedError leaves the rest there."""
        started, num_decoded = time.perf_counter(), 0
        try:
            for span in self._iter_spans(self._request(video, clip_rows)):
                del waiting[span.number]
                outcome = self._outcome(span, time.perf_counter() - started)
                outcome["frames_decoded"] = span.num_frames_decoded - num_decoded
                yield clip_rows[span.number] | outcome
                started, num_decoded = time.perf_counter(), span.num_frames_decoded
        except DecoderDiedError:
            raise
        except DecodeError as error:
            busy_s = (time.perf_counter() - started) / max(len(waiting), 1)
            for row in waiting.values():
                yield row | self._failed(error, self._backend, busy_s)
            waiting.clear()

    def busy_clock_s(self) -> float:
        """CPU-seconds, its child's included; seconds where it uses a GPU or more threads."""
        if self._device != "cpu" or decode_backend(self._backend).has_own_threads:
            return time.perf_counter()
        return time.process_time() + (0.0 if self._decoder is None else self._decoder.cpu_s())

    def _outcome(self, span: DecodedSpan, busy_s: float) -> dict[str, Any]:
        if span.error is not None or span.frames_THWC is None:
            error = span.error or DecodeError(
                "decoder_crashed", "no frames and no reason came back"
            )
            return self._failed(error, span.backend_used, busy_s)
        return decoded_columns(span, busy_s) | {"frames": span.frames_THWC}

    def _failed(
        self, error: DecodeError, backend: str, busy_s: float, *, stage: str = "decode"
    ) -> dict[str, Any]:
        return error_columns(error, backend, busy_s, stage=stage) | {"frames": self._no_frames_THWC}
