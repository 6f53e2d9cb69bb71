"""Which clips of a gallery come first for each query: exact search, ties broken by place in the gallery.

N queries, M gallery entries, D vector width.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from training.annotations.triplet_table import Triplet
from training.tables import write_table

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


def write_rankings(
    path: Path,
    triplets: Sequence[Triplet],
    gallery_ids: Sequence[str],
    rankings_by_row: dict[str, tuple[np.ndarray, np.ndarray]],
) -> None:
    """One table row per evaluation row and query: what was asked, what was found, which were right."""
    rows = []
    for name, (places_NK, scores_NK) in rankings_by_row.items():
        for triplet, places, scores in zip(triplets, places_NK, scores_NK, strict=True):
            found = [gallery_ids[place] for place in places if place >= 0]
            rows.append(
                {
                    "row": name,
                    "query_id": triplet.query_id,
                    "query_clip_id": triplet.query_clip_id,
                    "edit_text": triplet.edit_text,
                    "target_label": triplet.target_label,
                    "ranked_clip_ids": found,
                    "scores": scores[: len(found)].tolist(),
                    "is_right": [clip_id in triplet.target_clip_ids for clip_id in found],
                }
            )
    write_table(path, pa.Table.from_pylist(rows))
