"""Paired comparison of two collections on the same probe triplets, each searched with its own bundle.

Gallery = the clips of one split; the query clip is left out. Differences are paired, query by query.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from encoders.metrics import average_precision_at_k, bootstrap_interval, recall_at_k
from indexing.search.client import SearchClient
from indexing.search.types import ComposedQuery

MAP_AT = (5, 10, 25, 50)
RECALL_AT = (1, 5, 10, 50)
DECISIVE = "map@50"
_BATCH = 32
Verdict = Literal["better", "worse", "not told apart"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeQuery:
    """A query clip, an edit text and the target clips."""

    query_clip_id: str
    edit_text: str
    target_clip_ids: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodedCollection:
    """A collection, or an alias of it, and the bundle of its encoder."""

    collection: str
    bundle_dir: Path


@dataclass(frozen=True, kw_only=True, slots=True)
class Side:
    """The scores of one collection."""

    collection: str
    encoder_id: str
    num_clips: int
    """Number of clips of the split."""
    values: dict[str, np.ndarray]
    """One value per query, by metric."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MetricRow:
    """One metric of both collections; `low` and `high` bound the 95 % interval of the paired difference (second minus first)."""

    metric: str
    first: float
    second: float
    difference: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True, slots=True)
class ComparisonReport:
    """The outcome of a comparison; `verdict` is about the second collection, by mAP@50."""

    first: str
    second: str
    first_encoder_id: str
    second_encoder_id: str
    split: str
    num_queries: int
    num_clips: int
    rows: tuple[MetricRow, ...]
    verdict: Verdict


def read_probe_queries(path: Path, *, split: str, num_queries: int) -> list[ProbeQuery]:
    """Evenly spaced triplets of a split; ValueError where the split has none."""
    from encoders.files import read_table

    columns = ["query_clip_id", "edit_text", "target_clip_ids", "split"]
    rows = read_table(path, columns).to_pylist()
    of_split = [row for row in rows if row["split"] == split]
    if not of_split:
        splits = ", ".join(sorted({str(row["split"]) for row in rows})) or "none"
        raise ValueError(f"{path}: no triplet has split {split!r}; its splits: {splits}")
    selected = of_split[:: max(1, len(of_split) // num_queries)][:num_queries]
    return [
        ProbeQuery(
            query_clip_id=row["query_clip_id"],
            edit_text=row["edit_text"],
            target_clip_ids=tuple(row["target_clip_ids"]),
        )
        for row in selected
    ]


def compare_collections(
    milvus_uri: str,
    first: EncodedCollection,
    second: EncodedCollection,
    probes: Sequence[ProbeQuery],
    *,
    split: str,
) -> ComparisonReport:
    """Search both collections; ValueError where their clips of the split differ, or a clip of a probe query is missing."""
    galleries: list[set[str]] = []
    sides = []
    for compared in (first, second):
        with SearchClient(milvus_uri, compared.collection, compared.bundle_dir) as client:
            condition = client.snapshot.fields([]).compile({"split": split}).condition
            rows = client.collection.rows(("clip_id",), condition=condition)
            galleries.append({row["clip_id"] for row in rows})
            _check_gallery(galleries, (first.collection, second.collection), probes, split)
            values = answer_probes(client, probes, split)
            sides.append(
                Side(
                    collection=client.collection.name,
                    encoder_id=client.card.encoder_id,
                    num_clips=len(galleries[-1]),
                    values=values,
                )
            )
    return report_of(sides[0], sides[1], split=split)


def report_of(first: Side, second: Side, *, split: str) -> ComparisonReport:
    """Means, paired differences and the verdict."""
    rows = tuple(_row(metric, first, second) for metric in first.values)
    decisive = next(row for row in rows if row.metric == DECISIVE)
    verdict: Verdict = "not told apart"
    if decisive.low > 0:
        verdict = "better"
    elif decisive.high < 0:
        verdict = "worse"
    return ComparisonReport(
        first=first.collection,
        second=second.collection,
        first_encoder_id=first.encoder_id,
        second_encoder_id=second.encoder_id,
        split=split,
        num_queries=len(first.values[DECISIVE]),
        num_clips=first.num_clips,
        rows=rows,
        verdict=verdict,
    )


def _row(metric: str, first: Side, second: Side) -> MetricRow:
    difference_N = second.values[metric] - first.values[metric]
    low, high = bootstrap_interval(difference_N)
    return MetricRow(
        metric=metric,
        first=float(first.values[metric].mean()),
        second=float(second.values[metric].mean()),
        difference=float(difference_N.mean()),
        low=low,
        high=high,
    )


def _check_gallery(
    galleries: Sequence[set[str]], names: Sequence[str], probes: Sequence[ProbeQuery], split: str
) -> None:
    gallery, name = galleries[-1], names[len(galleries) - 1]
    expected = {clip for probe in probes for clip in (probe.query_clip_id, *probe.target_clip_ids)}
    missing = sorted(expected - gallery)
    if missing:
        raise ValueError(
            f"collection {name!r} lacks {len(missing)} of the {len(expected)} clips of the probe set among its "
            f"{len(gallery)} clips of split {split!r}, first: {missing[:3]}; index them first"
        )
    if len(galleries) == 2 and galleries[0] != galleries[1]:
        only_first, only_second = galleries[0] - galleries[1], galleries[1] - galleries[0]
        raise ValueError(
            f"the collections hold different clips of split {split!r}: {len(only_first)} only in {names[0]!r}, "
            f"{len(only_second)} only in {names[1]!r}, first: {sorted(only_first | only_second)[:3]}; a smaller "
            "gallery is easier, so index the rest first"
        )


def answer_probes(
    client: SearchClient, probes: Sequence[ProbeQuery], split: str
) -> dict[str, np.ndarray]:
    """The value of each metric for each probe query [Q], with the clips of the split as gallery."""
    values: dict[str, list[float]] = {}
    for first in range(0, len(probes), _BATCH):
        batch = probes[first : first + _BATCH]
        queries = [
            ComposedQuery(
                clip=probe.query_clip_id,
                edits=(probe.edit_text,),
                filters={"split": split},
                limit=max(MAP_AT + RECALL_AT),
            )
            for probe in batch
        ]
        for probe, result in zip(batch, client.search_many(queries), strict=True):
            ranking = [hit.clip_id for hit in result.hits]
            for name, value in scores_of(ranking, set(probe.target_clip_ids)).items():
                values.setdefault(name, []).append(value)
    return {name: np.array(scores) for name, scores in values.items()}


def scores_of(ranking: Sequence[Any], targets: set[Any]) -> dict[str, float]:
    """The value of each metric for one query."""
    maps = {f"map@{k}": average_precision_at_k(ranking, targets, k=k) for k in MAP_AT}
    return maps | {f"recall@{k}": recall_at_k(ranking, targets, k=k) for k in RECALL_AT}
