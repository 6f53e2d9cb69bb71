"""Which clips of a gallery come first for each query: exact search, ties broken by place in the gallery.

N queries, M gallery entries, D vector width.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from training.annotations.triplets.table import Triplet
from training.vectors.tables import write_table


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
