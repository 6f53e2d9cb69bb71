"""The two stages between clips and vectors, as plain classes: rows of Ray Data in, rows out, no Ray in sight.

N clips, T frames, S frame size, D vector width. A clip that fails becomes a row with a reason, never an exception; a setup that
is broken (no bundle, a package missing) raises.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from encoders.clips import Clip
from encoders.decoding.request import DecodedSpan, DecodeRequest
from encoders.media.container import DecodeBackendKind, MediaLimits
from encoders.media.errors import DecodeError
from encoders.media.frame_index import Span
from encoders.media.sampling import SamplingConfig

# Columns of a video row that become columns of a clip row under another name.
_CLIP_COLUMNS = ("clip_ids", "spans")
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
            spans=tuple(Span(**clip["span"]) for clip in clip_rows),
            sampling=self._sampling,
            backend=self._backend,
            limits=self._limits,
            device=self._device,
        )

    def _dead(self, error: DecodeError, backend: str, busy_s: float) -> dict[str, Any]:
        raise NotImplementedError


def clip_rows_of(row: dict[str, Any]) -> list[dict[str, Any]]:
    """A video's row as one row per clip, nothing decoded yet."""
    passed = {name: value for name, value in row.items() if name not in _CLIP_COLUMNS}
    return [
        passed | {"clip_id": str(clip_id), "span": span}
        for clip_id, span in zip(row["clip_ids"], row["spans"], strict=True)
    ]


def span_row(clip: Clip) -> dict[str, float | None]:
    """The clip's span as rows hold it: the fields of `Span`, a struct in Arrow with a null end for "to the end"."""
    end_s = None if clip.end_s is None else float(clip.end_s)
    return asdict(Span(start_s=float(clip.start_s), end_s=end_s))


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
