"""The protocol `tfcovr-release`: the metrics of the released TF-CoVR evaluator, for comparison with its figures.

One gallery entry per annotation row (the first of its target clips), duplicates kept; entries of the query clip come last. AP@k =
sum of precision at the hits / min(length of the row's list of targets, k), where the list may name a clip twice. Entries of one
score stand in the order of NumPy's argsort, reversed: mostly the later row first. Percent, rounded to 2 digits.

Two conventions of Recall@k: `recall@k` is the released one, which counts the entries of the row's own target in the first k, so
that duplicates lead above 100; `recall_any@k`, with a Recall@1, asks whether there is one. With duplicates an AP can exceed 1, as
in the release.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from encoders.metrics import RECALL_ANY_KS, RELEASE_KS, released_values
from training.annotations.triplets.table import Triplet

RELEASE_NOTE = (
    "one gallery entry per query, duplicates kept and each a hit: where many queries share a target, values exceed 100; recall@k "
    "counts the hits as the released evaluator does, recall_any@k asks whether there is one; compare only with numbers of that "
    "evaluator on the same rows"
)
_NAMES = [
    *(f"{name}@{k}" for name in ("map", "recall") for k in RELEASE_KS),
    *(f"recall_any@{k}" for k in RECALL_ANY_KS),
]


def release_metrics(
    triplets: Sequence[Triplet],
    queries_ND: np.ndarray,
    vectors: Mapping[str, np.ndarray],
) -> dict[str, float]:
    """mAP@k and both conventions of Recall@k in percent; `vectors` holds each target clip's vector, of any length."""
    of_queries = released_values(
        queries_ND,
        np.stack([vectors[triplet.target_clip_ids[0]] for triplet in triplets]),
        own_ids=[triplet.query_clip_id for triplet in triplets],
        target_ids=[triplet.target_clip_ids for triplet in triplets],
    )
    return {name: round(float(np.mean(of_queries[name])) * 100, 2) for name in _NAMES}
