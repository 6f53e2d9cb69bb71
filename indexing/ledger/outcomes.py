"""Outcomes of the clips of a run: result batches to ledger lines, and every dead letter of the archive."""

from collections.abc import Collection, Mapping, Sequence
from typing import get_args

import numpy as np

from encoders.media.errors import DecodeReason
from encoders.stages.base import ClipError, DeadLetter, error_of
from indexing.ledger.ledger import Ledger, Outcome
from indexing.ledger.planned_clip import PlannedClip
from indexing.ledger.reconcile import Comparison

ALL_REASONS = "all"
REASONS: tuple[str, ...] = tuple(sorted(get_args(DecodeReason)))


def outcomes_of_batch(batch: Mapping[str, np.ndarray]) -> list[Outcome]:
    """One line per row that came out of the write stage."""
    return [
        Outcome(
            clip_key=str(batch["clip_key"][i]),
            clip_id=str(clip_id),
            video_uri=str(batch["video_uri"][i]),
            row_digest=str(batch["row_digest"][i]),
            error=error_of(error),
        )
        for i, (clip_id, error) in enumerate(zip(batch["clip_id"], batch["error"], strict=True))
    ]


def dead_letters_of(comparison: Comparison, ledger: Ledger) -> list[DeadLetter]:
    """All clips of the archive that have no row for a reason, from this run or an earlier one."""
    letters = [ledger.dead_letter(planned_clip.clip_key) for planned_clip in comparison.dead]
    return letters + [
        DeadLetter(
            clip_id=planned_clip.clip.clip_id,
            video_uri=planned_clip.clip.video_uri,
            error=ClipError(stage="plan", reason="fetch_failed", detail=planned_clip.problem),
        )
        for planned_clip in comparison.unreadable
    ]


def checked_reasons(reasons: Sequence[str]) -> tuple[str, ...]:
    """ValueError for a reason that no dead letter can have."""
    for reason in reasons:
        if reason not in (ALL_REASONS, *REASONS):
            raise ValueError(
                f"reason {reason!r} is unknown; choose of {', '.join((ALL_REASONS, *REASONS))}"
            )
    return tuple(reasons)


def dead_to_retry(
    dead: Sequence[PlannedClip], ledger: Ledger, reasons: Collection[str]
) -> list[PlannedClip]:
    """The dead clips whose recorded reason is one of these ("all" = any)."""
    return [
        planned_clip
        for planned_clip in dead
        if ALL_REASONS in reasons
        or ledger.dead_letter(planned_clip.clip_key).error.reason in reasons
    ]
