"""Ranking metrics: AP@k, mAP@k, Recall@k and bootstrap intervals, defined here only."""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

_RESAMPLES_AT_ONCE = 64


def average_precision_at_k(ranking: Sequence[Any], relevant: Collection[Any], *, k: int) -> float:
    """Sum of the precision at each hit in the first k, divided by min(k, number of relevant items)."""
    hits = _hits(ranking, relevant, k)
    precision_at_hit = np.cumsum(hits)[hits] / (np.flatnonzero(hits) + 1)
    return float(precision_at_hit.sum() / min(k, len(relevant)))


def mean_average_precision_at_k(
    ranked_ids: Sequence[Sequence[Any]], relevant_ids: Sequence[Collection[Any]], *, k: int
) -> float:
    """Mean of AP@k over queries."""
    if not len(ranked_ids):
        raise ValueError("there are no queries; a mean needs at least one")
    return float(
        np.mean(
            [
                average_precision_at_k(ranking, relevant, k=k)
                for ranking, relevant in zip(ranked_ids, relevant_ids, strict=True)
            ]
        )
    )


def recall_at_k(ranking: Sequence[Any], relevant: Collection[Any], *, k: int) -> float:
    """1 when at least one relevant item is among the first k, else 0: what Recall@k means in composed retrieval."""
    return float(_hits(ranking, relevant, k).any())


def bootstrap_interval(
    values: Sequence[float] | np.ndarray,
    *,
    num_resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[float, float]:
    """Percentile bootstrap interval (low, high) of the mean of per-query values."""
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; it must lie between 0 and 1")
    if num_resamples < 1:
        raise ValueError(f"num_resamples is {num_resamples}; it must be at least 1")
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or not len(values):
        raise ValueError(f"values have shape {values.shape}; they must be a list of at least one")
    rng = np.random.default_rng(seed)
    means: list[np.ndarray] = []
    for start in range(0, num_resamples, _RESAMPLES_AT_ONCE):
        count = min(_RESAMPLES_AT_ONCE, num_resamples - start)
        means.append(values[rng.integers(len(values), size=(count, len(values)))].mean(axis=1))
    low, high = np.quantile(np.concatenate(means), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _hits(ranking: Sequence[Any], relevant: Collection[Any], k: int) -> np.ndarray:
    if k < 1:
        raise ValueError(f"k is {k}; it must be at least 1")
    if not len(relevant):
        raise ValueError("a query has no relevant items; leave it out of the evaluation")
    first = list(ranking[:k])
    if len(set(first)) != len(first):
        raise ValueError("the ranking names an item twice; a gallery holds each clip once")
    wanted = set(relevant)
    return np.fromiter((item in wanted for item in first), dtype=bool, count=len(first))


_BLOCK_BYTES = 128 * 2**20


def rank_gallery(
    queries_ND: np.ndarray,
    gallery_MD: np.ndarray,
    *,
    hidden: Sequence[Sequence[int]],
    k: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Places of the k best entries per query and their scores, [N, min(k, M)], best first.

    `hidden` names, per query, the entries that must not be found (the query clip itself): place -1 and
    score -inf take the end of a ranking where fewer than k entries are left.
    """
    if queries_ND.shape[1] != gallery_MD.shape[1]:
        raise ValueError(
            f"queries are {queries_ND.shape[1]} wide and the gallery {gallery_MD.shape[1]}; they must agree"
        )
    k = min(k, len(gallery_MD))
    places_NK = np.empty((len(queries_ND), k), np.int64)
    scores_NK = np.empty((len(queries_ND), k), np.float32)
    step = max(1, _BLOCK_BYTES // (4 * max(1, len(gallery_MD))))
    gallery_DM = np.ascontiguousarray(gallery_MD.T, dtype=np.float32)
    for start in range(0, len(queries_ND), step):
        block = slice(start, start + step)
        scores_BM = queries_ND[block].astype(np.float32) @ gallery_DM
        if not np.isfinite(scores_BM).all():
            raise ValueError("a query or gallery vector is not finite")
        for row, places in enumerate(hidden[block]):
            scores_BM[row, list(places)] = -np.inf
        places_NK[block], scores_NK[block] = _best(scores_BM, k)
    places_NK[np.isneginf(scores_NK)] = -1
    return places_NK, scores_NK


def _best(scores_BM: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k highest of each row, equal scores in gallery order."""
    if k < scores_BM.shape[1]:
        candidates_BK = np.sort(np.argpartition(scores_BM, -k, axis=1)[:, -k:], axis=1)
    else:
        candidates_BK = np.broadcast_to(np.arange(k), scores_BM.shape)
    values_BK = np.take_along_axis(scores_BM, candidates_BK, axis=1)
    order_BK = np.argsort(-values_BK, axis=1, kind="stable")
    places_BK = np.take_along_axis(candidates_BK, order_BK, axis=1)
    # Entries that tie with the k-th best: the partition took some of them, not the first of them.
    lowest_B1 = values_BK.min(axis=1, keepdims=True)
    for row in np.flatnonzero((scores_BM >= lowest_B1).sum(axis=1) > k):
        places_BK[row] = np.argsort(-scores_BM[row], kind="stable")[:k]
    return places_BK, np.take_along_axis(scores_BM, places_BK, axis=1)


RELEASE_KS = (5, 10, 25, 50)
RECALL_ANY_KS = (1, *RELEASE_KS)
_OWN_PENALTY = 100.0
_RELEASE_DEPTH = 50
_QUERIES_AT_ONCE = 1024


def released_values(
    queries_ND: np.ndarray,
    gallery_ND: np.ndarray,
    *,
    own_ids: Sequence[str],
    target_ids: Sequence[Sequence[str]],
) -> dict[str, list[float]]:
    """`map@k`, `recall@k` and `recall_any@k` of each query as TF-CoVR's evaluator computes them, the last two from 0 up.

    Row n of the gallery is the first target of query n, `own_ids` its own clip; vectors may have any length. The protocol is
    described in training.evaluation.release_protocol.
    """
    entries = np.array([targets[0] for targets in target_ids])
    values: dict[str, list[float]] = {
        **{f"{name}@{k}": [] for name in ("map", "recall") for k in RELEASE_KS},
        **{f"recall_any@{k}": [] for k in RECALL_ANY_KS},
    }
    for start in range(0, len(target_ids), _QUERIES_AT_ONCE):
        block = slice(start, start + _QUERIES_AT_ONCE)
        scores_BN = _cosines(queries_ND[block], gallery_ND)
        for own_id, targets, scores_N in zip(
            own_ids[block], target_ids[block], scores_BN, strict=True
        ):
            scores_N[entries == own_id] -= _OWN_PENALTY
            # Not stable and not by clip, on purpose: ties come in the released order.
            top = entries[np.argsort(scores_N)[::-1][:_RELEASE_DEPTH]]
            _add_released(values, top, targets)
    return values


def _cosines(queries_BD: np.ndarray, gallery_ND: np.ndarray) -> np.ndarray:
    """By the operations of the release, so that what ties there ties here."""
    import torch

    dtype = np.result_type(queries_BD, gallery_ND, np.float32)
    queries, gallery = (
        torch.nn.functional.normalize(torch.from_numpy(vectors.astype(dtype)), dim=-1)
        for vectors in (queries_BD, gallery_ND)
    )
    return (queries @ gallery.T).numpy()


def _add_released(values: dict[str, list[float]], top: np.ndarray, targets: Sequence[str]) -> None:
    is_valid = np.isin(top, targets)
    precisions = np.cumsum(is_valid) * is_valid / np.arange(1, len(top) + 1)
    is_own = top == targets[0]
    for k in RELEASE_KS:
        values[f"map@{k}"].append(float(precisions[:k].sum() / min(len(targets), k)))
        values[f"recall@{k}"].append(float(is_own[:k].sum()))
    for k in RECALL_ANY_KS:
        values[f"recall_any@{k}"].append(float(is_own[:k].any()))


def temporal_iou(spans_N2: np.ndarray, others_M2: np.ndarray) -> np.ndarray:
    """Intersection over union of spans (start, end) in time [N, M]; 0 where they do not overlap."""
    start_NM = np.maximum(spans_N2[:, None, 0], others_M2[None, :, 0])
    end_NM = np.minimum(spans_N2[:, None, 1], others_M2[None, :, 1])
    shared_NM = np.maximum(end_NM - start_NM, 0.0)
    lengths_N, lengths_M = spans_N2[:, 1] - spans_N2[:, 0], others_M2[:, 1] - others_M2[:, 0]
    return shared_NM / np.maximum(lengths_N[:, None] + lengths_M[None, :] - shared_NM, 1e-9)


def match_moments(
    found: Sequence[tuple[str, float, float]],
    truth: Sequence[tuple[str, float, float]],
    *,
    min_iou: float = 0.5,
) -> list[int]:
    """For each found span (video, start, end), in order: the index of the true one that it finds, or -1.

    It finds the one of its video that it overlaps most, where that is at least `min_iou`; several may find the same.
    """
    by_video: dict[str, list[int]] = {}
    for index, (video, _start_s, _end_s) in enumerate(truth):
        by_video.setdefault(video, []).append(index)
    matches: list[int] = []
    for video, start_s, end_s in found:
        places = by_video.get(video, [])
        if not places:
            matches.append(-1)
            continue
        spans = np.array([truth[i][1:] for i in places])
        iou = temporal_iou(np.array([[start_s, end_s]]), spans)[0]
        matches.append(places[int(iou.argmax())] if iou.max() >= min_iou else -1)
    return matches
