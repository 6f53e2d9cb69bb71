"""The protocol `tfcovr-release`: the metrics of the released TF-CoVR evaluator, for comparison with its figures.

One gallery entry per annotation row (the first of its target clips), duplicates kept; entries of the
query clip score -100; AP@k = sum of precision at the hits / min(number of valid targets, k); Recall@k =
whether the row's own target is in the top k. Percent, rounded to 2 digits. With duplicates an AP can
exceed 1, as in the released evaluator.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from training.annotations.triplets.table import Triplet

RELEASE_MAP_KS = (5, 10, 25, 50)
RELEASE_RECALL_KS = (1, 5, 10, 50)
_OWN_SCORE = -100.0
_DEPTH = 50


def release_metrics(
    triplets: Sequence[Triplet],
    queries_ND: np.ndarray,
    vectors: Mapping[str, np.ndarray],
) -> dict[str, float]:
    """mAP@k and Recall@k in percent; `vectors` holds each target clip's unit vector."""
    entries = np.array([triplet.target_clip_ids[0] for triplet in triplets])
    gallery_MD = np.stack([vectors[entry] for entry in entries]).astype(np.float32)
    sums = dict.fromkeys(
        [f"map@{k}" for k in RELEASE_MAP_KS] + [f"recall@{k}" for k in RELEASE_RECALL_KS], 0.0
    )
    for triplet, query_D in zip(triplets, queries_ND, strict=True):
        scores_M = gallery_MD @ query_D.astype(np.float32)
        scores_M[entries == triplet.query_clip_id] = _OWN_SCORE
        top = entries[np.argsort(-scores_M, kind="stable")[:_DEPTH]]
        hits = np.isin(top, triplet.target_clip_ids)
        precisions = np.cumsum(hits) / np.arange(1, len(top) + 1)
        for k in RELEASE_MAP_KS:
            num_valid = min(len(triplet.target_clip_ids), k)
            sums[f"map@{k}"] += float((precisions * hits)[:k].sum()) / num_valid
        for k in RELEASE_RECALL_KS:
            sums[f"recall@{k}"] += bool((top[:k] == triplet.target_clip_ids[0]).any())
    return {name: round(100 * total / len(triplets), 2) for name, total in sums.items()}
