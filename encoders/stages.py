"""The two stages between clips and vectors, as plain classes: rows of Ray Data in, rows out, no Ray in sight.

N clips, T frames, S frame size, D vector width. A clip that fails becomes a row with a reason, never an exception; a setup that
is broken (no bundle, a package missing) raises.
"""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from encoders.decode import (
    DecodeBackendKind,
    DecodedSpan,
    DecodeError,
    DecodeRequest,
    MediaLimits,
    Span,
    iter_spans,
)
from encoders.isolate import DEFAULT_DEADLINE_S, DecoderDiedError, IsolatedDecoder, decoder_for
from encoders.sampling import SamplingConfig

# Columns of a video row that become columns of a clip row under another name.
_CLIP_COLUMNS = ("clip_ids", "starts_s", "ends_s")
MAX_DEATHS = 3
"""Of decoders that one video may cost after the first, while its clips are asked for one by one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DeadLetter:
    """A clip that failed for good."""

    clip_id: str
    video_uri: str
    stage: str
    reason: str
    detail: str

    @classmethod
    def of_row(cls, row: dict[str, Any]) -> "DeadLetter | None":
        """None for a row that is alive."""
        if not row["dead_reason"]:
            return None
        return cls(
            clip_id=row["clip_id"],
            video_uri=row["video_uri"],
            stage=row["dead_stage"],
            reason=row["dead_reason"],
            detail=row["dead_detail"],
        )


class ClipStage:
    """What the stages that decode have in common: rows of a video's clips in, the same rows with their outcomes out."""

    def __init__(
        self, *, sampling: SamplingConfig, backend: DecodeBackendKind, device: str = "cpu"
    ) -> None:
        if sampling.frame_size is None:
            raise ValueError("sampling.frame_size is None; a stage needs clips of one size")
        self._sampling = sampling
        self._backend: DecodeBackendKind = backend
        self._device = device
        self._limits = MediaLimits()

    def clips(self, video: str, clip_rows: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """The rows that are ready; `video` is where it lies on this machine.

        After a crash or a hang, each clip that had not come is asked for alone: a bad one costs no neighbour, and what a kill from
        outside took comes back.
        """
        raise NotImplementedError

    def flush(self) -> Iterator[dict[str, Any]]:
        """Rows that still wait for those of other videos."""
        yield from ()

    def busy_clock_s(self) -> float:
        """A clock of the decoding of this stage."""
        raise NotImplementedError

    def dead_rows(
        self, clip_rows: Sequence[dict[str, Any]], error: DecodeError, *, stage: str
    ) -> Iterator[dict[str, Any]]:
        """All clips of a video that failed before it could be decoded."""
        for clip in clip_rows:
            yield clip | self._dead(error, self._backend, 0.0) | {"dead_stage": stage}

    def _request(self, video: str, clip_rows: Sequence[dict[str, Any]]) -> DecodeRequest:
        return DecodeRequest(
            video=video,
            spans=tuple(
                Span(
                    start_s=clip["start_s"],
                    end_s=None if math.isnan(clip["end_s"]) else clip["end_s"],
                )
                for clip in clip_rows
            ),
            sampling=self._sampling,
            backend=self._backend,
            limits=self._limits,
            device=self._device,
        )

    def _dead(self, error: DecodeError, backend: str, busy_s: float) -> dict[str, Any]:
        raise NotImplementedError


class DecodeStage(ClipStage):
    """One video row in, one row per clip out, in the order in which the clips are ready.

    In: video_uri, clip_ids, starts_s, ends_s (None or NaN = to the end), and any other columns, which every clip row repeats.
    Out: clip_id, video_uri, start_s, end_s (NaN = to the end), frames (uint8 [T, S, S, 3] as bytes, empty when dead),
    decode_backend, decode_busy_s, frames_decoded (by the decoder since the clip before it), frames_used, dead_stage, dead_reason, dead_detail (empty when alive).
    """

    def __init__(
        self,
        *,
        sampling: SamplingConfig,
        backend: DecodeBackendKind = "pyav",
        isolate: bool = True,
        deadline_s: float = DEFAULT_DEADLINE_S,
        device: str = "cpu",
    ) -> None:
        super().__init__(sampling=sampling, backend=backend, device=device)
        self._iter_spans = iter_spans
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
            death = error
        num_deaths = 0
        for row in waiting.values():
            alone = {0: row}
            if num_deaths < MAX_DEATHS:
                try:
                    yield from self._decoded(video, [row], alone)
                except DecoderDiedError as error:
                    num_deaths, death = num_deaths + 1, error
            for lost in alone.values():  # not one that came before its decoder died
                yield lost | self._dead(death, self._backend, 0.0)

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
                yield row | self._dead(error, self._backend, busy_s)
            waiting.clear()

    def busy_clock_s(self) -> float:
        """CPU-seconds, its child's included; seconds where it uses a GPU or more threads."""
        if self._device != "cpu" or self._backend == "dali":
            return time.perf_counter()
        return time.process_time() + (0.0 if self._decoder is None else self._decoder.cpu_s())

    def _outcome(self, span: DecodedSpan, busy_s: float) -> dict[str, Any]:
        if span.error is not None or span.frames_THWC is None:
            error = span.error or DecodeError(
                "decoder_crashed", "no frames and no reason came back"
            )
            return self._dead(error, span.backend_used, busy_s)
        return decoded_columns(span, busy_s) | {"frames": span.frames_THWC.tobytes()}

    def _dead(self, error: DecodeError, backend: str, busy_s: float) -> dict[str, Any]:
        return dead_columns(error, backend, busy_s) | {"frames": b""}


class EmbedStage:
    """Frames in, unit vectors out. One instance per worker, so that weights load once.

    Takes the column `frames` away and adds `embedding` (float32 [N, D], zeros for a dead row), `embed_backend`,
    `embed_precision` and `embed_busy_s` (the batch's time, shared evenly by its clips).
    """

    def __init__(
        self, *, bundle_dir: str, backend: str = "onnx", device: str = "cpu", num_threads: int = 1
    ) -> None:
        from encoders.backends import open_backend  # torch and ONNX Runtime only where they embed

        self._backend = open_backend(
            Path(bundle_dir), backend, device=device, num_threads=num_threads
        )
        card = self._backend.card
        size = card.sampling.frame_size
        if size is None:
            raise ValueError(f"{bundle_dir}: frame_size is None; a stage needs clips of one size")
        self._frames_shape = (card.sampling.num_frames, size, size, 3)
        self._embedding_dim = card.embedding_dim

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        started = time.perf_counter()
        frames = batch.pop("frames")
        embedding_ND = np.zeros((len(frames), self._embedding_dim), np.float32)
        alive = [row for row in range(len(frames)) if len(frames[row])]
        if alive:
            frames_NTHWC = np.stack(
                [np.frombuffer(frames[row], np.uint8).reshape(self._frames_shape) for row in alive]
            )
            embedding_ND[alive] = self._backend.embed_clips(frames_NTHWC)
        batch["embedding"] = embedding_ND
        batch["embed_backend"] = np.array([self._backend.kind] * len(frames))
        batch["embed_precision"] = np.array([self._backend.precision] * len(frames))
        busy_s = (time.perf_counter() - started) / max(len(frames), 1)
        batch["embed_busy_s"] = np.full(len(frames), busy_s)
        return batch


def clip_rows_of(row: dict[str, Any]) -> list[dict[str, Any]]:
    """A video's row as one row per clip, nothing decoded yet."""
    passed = {name: value for name, value in row.items() if name not in _CLIP_COLUMNS}
    return [
        passed
        | {
            "clip_id": str(clip_id),
            "start_s": float(start_s),
            "end_s": math.nan if end_s is None else float(end_s),
        }
        for clip_id, start_s, end_s in zip(*(row[name] for name in _CLIP_COLUMNS), strict=True)
    ]


def decoded_columns(span: DecodedSpan, busy_s: float) -> dict[str, Any]:
    """What a living row says of its decoding."""
    return {
        "decode_backend": span.backend_used,
        "decode_fallback_reason": span.fallback_reason or "",
        "decode_busy_s": busy_s,
        "frames_used": 0 if span.frame_indices_T is None else len(np.unique(span.frame_indices_T)),
        "dead_stage": "",
        "dead_reason": "",
        "dead_detail": "",
    }


def dead_columns(error: DecodeError, backend: str, busy_s: float) -> dict[str, Any]:
    """What a dead row says instead."""
    return {
        "decode_backend": backend,
        "decode_fallback_reason": "",
        "decode_busy_s": busy_s,
        "frames_decoded": 0,
        "frames_used": 0,
        "dead_stage": "decode",
        "dead_reason": error.reason,
        "dead_detail": error.detail,
    }
