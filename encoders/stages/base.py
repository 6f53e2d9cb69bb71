"""What the stages between clips and vectors share: plain classes, rows of Ray Data in, rows out, without Ray itself.

N clips, T frames, S frame size, D vector width. A clip that fails becomes a row with an error, never an exception; a set-up that
is broken (no bundle, a package missing) raises.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from encoders.clips import Clip
from encoders.decoding.request import DecodedSpan, DecodeRequest
from encoders.media.container import MediaLimits
from encoders.media.errors import DecodeError
from encoders.media.frame_index import Span
from encoders.media.sampling import SamplingConfig

# Columns of a video row that become columns of a clip row under another name.
_CLIP_COLUMNS = ("clip_ids", "spans")
MAX_DECODER_CRASHES_PER_VIDEO = 3
"""After the first crash, while the clips of the video are decoded one by one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipError:
    """Why a clip has no vector. Rows hold its fields in the struct column `error`; see NO_ERROR."""

    stage: str
    """Name of the stage that failed."""
    reason: str
    """Reason as one of a fixed set of words, for programs."""
    detail: str
    """Cause in a sentence, for people."""

    @property
    def is_by_limit(self) -> bool:
        """Whether MediaLimits, which are options, refused the clip: others may not."""
        return self.reason in ("limit_exceeded", "too_short")


def error_of(fields: Mapping[str, str]) -> ClipError | None:
    """The error that a row's column `error` holds; None = the clip is fine."""
    return ClipError(**fields) if fields["reason"] else None


# A struct in every row: a column of nulls has no type in Arrow, would come back from a NumPy batch as floats, and could then
# not be joined with the block of a clip that failed.
NO_ERROR = {"stage": "", "reason": "", "detail": ""}
DEAD_LETTER_COLUMNS = ("clip_id", "video_uri", "stage", "reason", "detail")


@dataclass(frozen=True, kw_only=True, slots=True)
class DeadLetter:
    """A clip that failed for good."""

    clip_id: str
    video_uri: str
    error: ClipError

    @classmethod
    def from_columns(cls, values: Mapping[str, str]) -> "DeadLetter":
        """The letter that `to_columns` wrote."""
        clip_id, video_uri, *error = (values[name] for name in DEAD_LETTER_COLUMNS)
        stage, reason, detail = error
        return cls(
            clip_id=clip_id,
            video_uri=video_uri,
            error=ClipError(stage=stage, reason=reason, detail=detail),
        )

    def to_columns(self) -> dict[str, str]:
        """As files hold it: DEAD_LETTER_COLUMNS."""
        return {"clip_id": self.clip_id, "video_uri": self.video_uri, **asdict(self.error)}


def split_rows(
    rows: Sequence[dict[str, Any]],
) -> tuple[list[dict[str, Any]], list[DeadLetter]]:
    """The rows without an error, and a dead letter for each of the others; both in the order of the rows."""
    good: list[dict[str, Any]] = []
    letters: list[DeadLetter] = []
    for row in rows:
        if (error := error_of(row["error"])) is None:
            good.append(row)
        else:
            clip_id, video_uri = str(row["clip_id"]), str(row["video_uri"])
            letters.append(DeadLetter(clip_id=clip_id, video_uri=video_uri, error=error))
    return good, letters


class ClipStage:
    """What the stages that decode have in common: rows of a video's clips in, the same rows with their outcomes out."""

    def __init__(
        self,
        *,
        sampling: SamplingConfig,
        backend: str,
        device: str = "cpu",
        limits: MediaLimits | None = None,
    ) -> None:
        if sampling.frame_size is None:
            raise ValueError("sampling.frame_size is None; a stage needs clips of one size")
        self._sampling = sampling
        self._frames_shape = (sampling.num_frames, sampling.frame_size, sampling.frame_size, 3)
        self._backend = backend
        self._device = device
        self._limits = limits or MediaLimits()

    def clips(self, video: str, clip_rows: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """The rows that are ready; `video` is where it lies on this machine.

        After a crash or a hang, each clip that had not come is decoded alone: a bad one costs no neighbour, and what a kill from
        outside took comes back.
        """
        raise NotImplementedError

    def flush(self) -> Iterator[dict[str, Any]]:
        """Rows that still wait for those of other videos."""
        yield from ()

    def busy_clock_s(self) -> float:
        """A clock of the decoding of this stage."""
        raise NotImplementedError

    def failed_rows(
        self, clip_rows: Sequence[dict[str, Any]], error: DecodeError, *, stage: str
    ) -> Iterator[dict[str, Any]]:
        """All clips of a video that failed before it could be decoded."""
        for clip in clip_rows:
            yield clip | self._failed(error, self._backend, 0.0, stage=stage)

    def _request(self, video: str, clip_rows: Sequence[dict[str, Any]]) -> DecodeRequest:
        return DecodeRequest(
            video=video,
            spans=tuple(Span(**clip["span"]) for clip in clip_rows),
            sampling=self._sampling,
            backend=self._backend,
            limits=self._limits,
            device=self._device,
        )

    def _failed(
        self, error: DecodeError, backend: str, busy_s: float, *, stage: str = "decode"
    ) -> dict[str, Any]:
        """The columns that the stage adds to a clip that failed."""
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
    return {"start_s": float(clip.start_s), "end_s": end_s}


def decoded_columns(span: DecodedSpan, busy_s: float) -> dict[str, Any]:
    """The columns of a clip without an error."""
    return {
        "decode_backend": span.backend_used,
        "decode_fallback_reason": span.fallback_reason or "",
        "decode_busy_s": busy_s,
        "frames_used": 0 if span.frame_indices_T is None else len(np.unique(span.frame_indices_T)),
        "error": NO_ERROR,
    }


def error_columns(error: DecodeError, backend: str, busy_s: float, *, stage: str) -> dict[str, Any]:
    """The same columns of a clip that failed."""
    return {
        "decode_backend": backend,
        "decode_fallback_reason": "",
        "decode_busy_s": busy_s,
        "frames_decoded": 0,
        "frames_used": 0,
        "error": asdict(ClipError(stage=stage, reason=error.reason, detail=error.detail)),
    }
