"""Curves of a moment head to moments: pairs of a start and an end, the overlapping ones suppressed. NumPy only.

T glances, P proposals, K curves in the order of CURVES.
"""

from dataclasses import dataclass

import numpy as np

from encoders.metrics import temporal_iou

_MIN_PEAK = 0.1
_SUPPRESSION = 0.3
"""Sigma of soft-NMS (Bodla et al., ICCV 2017, equation 3): a score falls by exp(-IoU^2 / sigma)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Moment:
    """A span that nobody gave; seconds of its video."""

    start_s: float
    end_s: float
    score: float
    """0 to 1."""
    is_replay: bool


def find_moments(
    probabilities_TK: np.ndarray,
    times_s: np.ndarray,
    *,
    duration_s: tuple[float, float],
    min_score: float,
) -> list[Moment]:
    """Moments in the order of time. `times_s` [T] are the seconds at which the glances are shown.

    A proposal is a peak of the start curve with a later peak of the end curve, no nearer and no farther than `duration_s`. Its score
    is the geometric mean of four probabilities: of both peaks, and of the action between them, on average and where it is lowest.
    """
    if len(times_s) < 3:
        return []
    action_T, start_T, end_T, replay_T = probabilities_TK.T
    starts, ends = _peaks(start_T), _peaks(end_T)
    steps = np.arange(len(times_s))
    # A peak before the first glance, or after the last, is at it.
    starts_s, ends_s = (np.interp(at, steps, times_s) for at, _ in (starts, ends))
    # Smooth, so that one odd glance does not divide a moment, and a wipe of three does.
    smooth_T = np.convolve(np.pad(action_T, 1, mode="edge"), np.ones(3) / 3, mode="valid")
    spans: list[tuple[float, float]] = []
    scores: list[float] = []
    is_replay: list[bool] = []
    for start_s, start_at, start_p in zip(starts_s, *starts, strict=True):
        lengths_s = ends_s - start_s
        for i in np.flatnonzero((lengths_s >= duration_s[0]) & (lengths_s <= duration_s[1])):
            inner = slice(
                int(np.ceil(start_at)), max(int(np.floor(ends[0][i])), int(np.ceil(start_at)) + 1)
            )
            within = slice(inner.start + 1, max(inner.stop - 1, inner.start + 2))
            parts = (start_p, ends[1][i], action_T[inner].mean(), smooth_T[within].min(initial=1.0))
            spans.append((float(start_s), float(ends_s[i])))
            scores.append(float(np.prod(parts) ** 0.25))
            is_replay.append(bool(replay_T[inner].mean() > 0.5))
    if not spans:
        return []
    kept = soft_nms(np.array(spans), np.array(scores), min_score=min_score)
    moments = [
        Moment(start_s=spans[i][0], end_s=spans[i][1], score=score, is_replay=is_replay[i])
        for i, score in kept
    ]
    return sorted(moments, key=lambda moment: moment.start_s)


def soft_nms(
    spans_P2: np.ndarray, scores_P: np.ndarray, *, min_score: float
) -> list[tuple[int, float]]:
    """(proposal, its score then), best first: each that is taken lowers the scores of those that it overlaps."""
    scores_P = scores_P.astype(np.float64).copy()
    kept: list[tuple[int, float]] = []
    while len(scores_P):
        best = int(scores_P.argmax())
        if scores_P[best] < min_score:
            break
        kept.append((best, float(scores_P[best])))
        # Only those near it in time overlap at all.
        near = np.flatnonzero(
            (spans_P2[:, 0] < spans_P2[best, 1]) & (spans_P2[:, 1] > spans_P2[best, 0])
        )
        iou = temporal_iou(spans_P2[best : best + 1], spans_P2[near])[0]
        scores_P[near] *= np.exp(-(iou**2) / _SUPPRESSION)
        scores_P[best] = -1.0
    return kept


def _peaks(curve_T: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the curve has peaks, between the glances too, and how high: the top of the parabola through three log-odds."""
    odds_T = np.log(np.clip(curve_T, 1e-6, 1 - 1e-6) / (1 - np.clip(curve_T, 1e-6, 1 - 1e-6)))
    padded = np.pad(odds_T, 1, constant_values=-np.inf)
    is_peak_T = (odds_T > padded[:-2]) & (odds_T >= padded[2:]) & (curve_T >= _MIN_PEAK)
    at = np.flatnonzero(is_peak_T)
    left, middle, right = padded[at], padded[at + 1], padded[at + 2]
    with np.errstate(invalid="ignore", divide="ignore"):
        shift = 0.5 * (left - right) / (left - 2 * middle + right)
    return at + np.where(np.isfinite(shift), np.clip(shift, -0.5, 0.5), 0.0), curve_T[at]
