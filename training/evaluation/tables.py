"""Tables of an evaluation: rows with intervals, a one-sentence verdict, and rankings.parquet."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from rich.table import Table

from cluster.tables import text_table
from training.annotations.triplets.table import Triplet
from training.evaluation.scores import HEADLINE, METRICS
from training.vectors.tables import write_table

ROW_TITLES = {
    "composed": "clip + edit text",
    "video_only": "clip, text zeroed",
    "text_only": "edit text, clip zeroed",
    "mean": "mean of projections",
    "raw": "raw clip vector",
}

_CHIEF_METRICS = ("map@10", HEADLINE, "recall@1", "recall@10")
_FULL_WIDTH = 108


def rows_table(part: dict[str, Any], *, title: str, width: int) -> Table:
    """Metrics in percent, the headline one with its interval; as many as fit the terminal width."""
    metrics = METRICS if width >= _FULL_WIDTH else _CHIEF_METRICS
    numbers = [metric.replace("map", "mAP").replace("recall", "R") for metric in metrics]
    rows = []
    for row in part["rows"]:
        cells = [ROW_TITLES.get(row["name"], row["name"])]
        for metric in metrics:
            text = f"{100 * row[metric]:.1f}"
            if metric == HEADLINE:
                text += f" [{100 * row[metric + '_low']:.1f}, {100 * row[metric + '_high']:.1f}]"
            cells.append(text)
        rows.append(cells)
    headings = ["query", *numbers]
    return text_table(headings, rows, title=title, right=numbers, whole=headings)


def verdict(part: dict[str, Any]) -> str:
    """The comparison in one sentence."""
    ratio = part.get("composed_over_best_other")
    if not ratio or ratio["value"] is None:
        return "composed is not compared: it needs its own row and one other with an mAP above zero"
    disjoint = "are" if part["intervals_are_disjoint"] else "are NOT"
    best = ROW_TITLES.get(part["best_other"], part["best_other"])
    return (
        f"composed has {ratio['value']:.2f} times [{_bound(ratio['low'])}, {_bound(ratio['high'])}] the mAP@50 of "
        f"the best other row ({best}); their intervals {disjoint} disjoint"
    )


def _bound(value: float | None) -> str:
    return "?" if value is None else f"{value:.2f}"


def write_rankings(
    path: Path,
    triplets: Sequence[Triplet],
    gallery_ids: Sequence[str],
    rankings_by_row: dict[str, tuple[np.ndarray, np.ndarray]],
) -> None:
    """Write one table row per evaluation row and query: the query, the ranking, and which clips are right."""
    rows = []
    for name, (places_NK, scores_NK) in rankings_by_row.items():
        for triplet, places, scores in zip(triplets, places_NK, scores_NK, strict=True):
            ranked_ids = [gallery_ids[place] for place in places if place >= 0]
            rows.append(
                {
                    "row": name,
                    "query_id": triplet.query_id,
                    "query_clip_id": triplet.query_clip_id,
                    "edit_text": triplet.edit_text,
                    "target_label": triplet.target_label,
                    "ranked_clip_ids": ranked_ids,
                    "scores": scores[: len(ranked_ids)].tolist(),
                    "is_right": [clip_id in triplet.target_clip_ids for clip_id in ranked_ids],
                }
            )
    write_table(path, pa.Table.from_pylist(rows))
