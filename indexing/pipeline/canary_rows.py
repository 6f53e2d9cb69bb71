"""Clips whose vectors are known travel with every run: a row that comes back as another one ends the run, loudly.

They share the blocks and batches of the archive's own clips, from the decode stage to Milvus, where a collection of their own is
asked for each of them at the end.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from encoders.bundle.canaries import CANARY_PREFIX, MIN_CANARY_COSINE, NUM_CANARIES
from indexing.store.collection import ClipCollection
from indexing.store.filter_expression import quoted

PROBE = "probe"
"""Clip id of rows beside the canaries by which a worker measures how fast it writes; one that dies leaves them."""


_CLIPS_PER_COPY = 1000
# Milvus has names of 255 characters.
_MOST_OF_A_NAME = 200
_TIE = 1e-4


class RowMixUpError(ValueError):
    """A vector came back under another clip's name, or not at all."""


def canary_number(clip_id: str) -> int:
    """Which of the bundle's canaries a row carries."""
    return int(clip_id.rpartition(":")[2])


def canary_collection_name(collection: str, run_dir: Path) -> str:
    """Where canaries are written, so that no search of the archive meets them; each run folder has its own."""
    digest = hashlib.sha256(str(run_dir.resolve()).encode()).hexdigest()[:8]
    return f"{collection[:_MOST_OF_A_NAME]}_canaries_{digest}"


def add_canaries(
    shards: Sequence[dict[str, Any]], num_clips: int
) -> tuple[list[dict[str, Any]], int]:
    """The shards with all canaries spread over them, once per 1000 clips, and how often."""
    num_copies = 1 + num_clips // _CLIPS_PER_COPY
    names = [
        f"{CANARY_PREFIX}{copy}:{number}"
        for copy in range(num_copies)
        for number in range(NUM_CANARIES)
    ]
    mixed = [dict(shard) for shard in shards]
    for i, name in enumerate(names):
        shard = mixed[i * len(mixed) // len(names)]
        shard["canaries"] = [*shard.get("canaries", ()), name]
    return [{"canaries": []} | shard for shard in mixed], num_copies


def check_canary_vector(clip_id: str, vector_D: np.ndarray, expected_ND: np.ndarray) -> None:
    """RowMixUpError unless the row's vector is that of its own canary and nearer to no other."""
    cosines = expected_ND @ vector_D
    number = canary_number(clip_id)
    # Canaries that an encoder cannot tell apart are equally near, to within rounding.
    if cosines[number] < max(MIN_CANARY_COSINE, cosines.max() - _TIE):
        raise RowMixUpError(
            f"canary {number} came back nearest to canary {int(cosines.argmax())}, with cosine {cosines[number]:.6f} to "
            f"itself (at least {MIN_CANARY_COSINE} is needed): rows were mixed up"
        )


def check_stored_canaries(
    collection: ClipCollection, expected_ND: np.ndarray, num_copies: int
) -> None:
    """RowMixUpError unless every canary is in Milvus and finds itself there first."""
    collection.flush()
    rows = list(collection.rows(("clip_id", "embedding"), condition=f"clip_id != {quoted(PROBE)}"))
    if len(rows) != num_copies * len(expected_ND):
        raise RowMixUpError(
            f"{len(rows)} of {num_copies * len(expected_ND)} canaries are in Milvus: rows were lost"
        )
    for row in rows:
        check_canary_vector(row["clip_id"], np.asarray(row["embedding"], np.float32), expected_ND)
    for number, vector_D in enumerate(expected_ND):
        ((score, row),) = collection.nearest(vector_D, limit=1, without_clip_id=PROBE)
        check_canary_vector(row["clip_id"], vector_D, expected_ND)
        if score < MIN_CANARY_COSINE:
            raise RowMixUpError(f"canary {number} finds itself with cosine {score:.6f} only")
