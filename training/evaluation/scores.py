"""Scores of evaluation rows: metrics with intervals, and the comparison of rows.

A row is a way to make a query vector: composed, or one of the controls that it must beat.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from encoders.metrics import average_precision_at_k, rank_gallery, recall_at_k
from training.annotations.triplets.table import Triplet
from training.configs import ClusterKind, IntervalConfig
from training.evaluation.intervals import Interval, interval, resampled_means
from training.evaluation.problem import RetrievalProblem

MAP_KS = (5, 10, 25, 50)
RECALL_KS = (1, 5, 10, 50)
METRICS = tuple(f"map@{k}" for k in MAP_KS) + tuple(f"recall@{k}" for k in RECALL_KS)
HEADLINE = "map@50"
DEPTH = 50


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoredRow:
    """One row's ranking of every query, and its metrics per query."""

    name: str
    places_NK: np.ndarray
    scores_NK: np.ndarray
    values_NV: np.ndarray
    """Values of METRICS, in their order."""


def score_row(name: str, queries_ND: np.ndarray, problem: RetrievalProblem) -> ScoredRow:
    """Rank the gallery for each query vector and score the rankings."""
    places_NK, scores_NK = rank_gallery(
        queries_ND, problem.gallery_MD, hidden=problem.hidden, k=DEPTH
    )
    values_NV = np.array(
        [
            _metrics_of(places[places >= 0].tolist(), targets)
            for places, targets in zip(places_NK, problem.targets, strict=True)
        ]
    )
    return ScoredRow(name=name, places_NK=places_NK, scores_NK=scores_NK, values_NV=values_NV)


def _metrics_of(ranking: list[int], targets: frozenset[int]) -> list[float]:
    return [average_precision_at_k(ranking, targets, k=k) for k in MAP_KS] + [
        recall_at_k(ranking, targets, k=k) for k in RECALL_KS
    ]


def summarize_rows(
    rows: Sequence[ScoredRow],
    problem: RetrievalProblem,
    config: IntervalConfig,
    *,
    change_by_pair: Mapping[tuple[str, str], str] | None = None,
) -> dict[str, Any]:
    """Summary of all rows as JSON: each metric with its bounds, and composed against the best other row.

    Repeated for label pairs seen and not seen in training, and with `change_by_pair` (label pair -> changed
    attributes) for each kind of change.
    """
    parts: dict[str, dict[str, np.ndarray]] = {"by_pairs": {}, "by_change": {}}
    if problem.seen_pairs:
        parts["by_pairs"] = {"seen": problem.is_seen_N, "unseen": ~problem.is_seen_N}
    if change_by_pair:
        changes_N = np.array(
            [
                change_by_pair.get((t.source_label or "", t.target_label or ""), "other")
                for t in problem.triplets
            ]
        )
        parts["by_change"] = {str(name): changes_N == name for name in np.unique(changes_N)}
    everything = np.ones(len(problem.triplets), bool)
    summary = _summarize_queries(rows, problem.triplets, everything, config)
    for kind, masks in parts.items():
        summary[kind] = {
            name: _summarize_queries(rows, problem.triplets, chosen_N, config)
            for name, chosen_N in masks.items()
            if chosen_N.any()
        }
    return summary


def _summarize_queries(
    rows: Sequence[ScoredRow],
    triplets: Sequence[Triplet],
    chosen_N: np.ndarray,
    config: IntervalConfig,
) -> dict[str, Any]:
    kept = [triplet for triplet, is_chosen in zip(triplets, chosen_N, strict=True) if is_chosen]
    values_NRV = np.stack([row.values_NV[chosen_N] for row in rows], axis=1)
    num_rows, num_metrics = values_NRV.shape[1:]
    resampled_BRV = resampled_means(
        values_NRV.reshape(len(kept), -1),
        _clusters(kept, config.resample_by),
        num_resamples=config.num_resamples,
        seed=config.seed,
    ).reshape(-1, num_rows, num_metrics)
    means_RV = values_NRV.mean(axis=0)
    out: dict[str, Any] = {
        "num_queries": len(kept),
        "num_query_clips": len({triplet.query_clip_id for triplet in kept}),
        "num_label_pairs": len({(t.source_label, t.target_label) for t in kept}),
        "rows": [
            {
                "name": row.name,
                **_flat(
                    {
                        metric: interval(
                            float(means_RV[r, v]), resampled_BRV[:, r, v], level=config.level
                        )
                        for v, metric in enumerate(METRICS)
                    }
                ),
            }
            for r, row in enumerate(rows)
        ],
    }
    names = [row.name for row in rows]
    headline = METRICS.index(HEADLINE)
    out.update(
        _compare(names, means_RV[:, headline], resampled_BRV[:, :, headline], out["rows"], config)
    )
    return out


def _compare(
    names: list[str],
    means_R: np.ndarray,
    resampled_BR: np.ndarray,
    rows: list[dict[str, Any]],
    config: IntervalConfig,
) -> dict[str, Any]:
    """Composed against the best of the other rows on the headline metric, paired."""
    others = [place for place, name in enumerate(names) if name != "composed"]
    if "composed" not in names or not others:
        return {}
    ours, best = names.index("composed"), max(others, key=lambda place: means_R[place])
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios_B = resampled_BR[:, ours] / resampled_BR[:, best]  # not finite where the other is 0
        ratio = float(means_R[ours] / means_R[best])
    gap = float(means_R[ours] - means_R[best])
    gaps_B = resampled_BR[:, ours] - resampled_BR[:, best]
    highest_other = max(rows[place][f"{HEADLINE}_high"] for place in others)
    return {
        "best_other": names[best],
        "composed_over_best_other": asdict(interval(ratio, ratios_B, level=config.level)),
        "composed_minus_best_other": asdict(interval(gap, gaps_B, level=config.level)),
        "intervals_are_disjoint": bool(rows[ours][f"{HEADLINE}_low"] > highest_other),
    }


def _flat(intervals: Mapping[str, Interval]) -> dict[str, float]:
    flat: dict[str, float] = {}
    for name, bounds in intervals.items():
        flat[name] = bounds.value
        flat[f"{name}_low"] = bounds.low
        flat[f"{name}_high"] = bounds.high
    return flat


def _clusters(triplets: Sequence[Triplet], kinds: Sequence[ClusterKind]) -> list[list[object]]:
    of: dict[ClusterKind, Any] = {
        "query": lambda t: t.query_id,
        "query_clip": lambda t: t.query_clip_id,
        "label_pair": lambda t: (t.source_label, t.target_label),
    }
    return [[of[kind](triplet) for triplet in triplets] for kind in kinds]


def finite(value: Any) -> Any:
    """Replace infinity and NaN by None, because JSON has neither; a ratio to zero becomes null."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
