"""Drift of a faster encoder from torch: cosines, shared neighbours and mAP on a probe set, against fixed limits.

N clips, Q queries, D clip vector.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from encoders.bundle.engine_records import DriftReport
from encoders.export.parity import VectorSource, cosines, embed_in_batches
from encoders.metrics import mean_average_precision_at_k

TOP_K = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeQuery:
    """A composed query on the probe's own clips, by their places."""

    clip: int
    edit_text: str
    targets: tuple[int, ...] = ()
    """Positions of the clips that answer the query; empty = unknown."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Probe:
    """What drift is measured on; `frames_NTHWC` uint8 [N, T, H, W, 3]."""

    frames_NTHWC: np.ndarray
    source: str
    """Source of the clips, for the card."""
    labels: tuple[str | None, ...] = ()
    """Labels of the clips, one for each, or none at all."""
    queries: tuple[ProbeQuery, ...] = ()

    def __post_init__(self) -> None:
        num_clips = len(self.frames_NTHWC)
        if num_clips < 2:
            raise ValueError(f"a probe has {num_clips} clips; neighbours need at least 2")
        if self.labels and len(self.labels) != num_clips:
            raise ValueError(f"a probe has {num_clips} clips and {len(self.labels)} labels")
        places = [place for query in self.queries for place in (query.clip, *query.targets)]
        if any(not 0 <= place < num_clips for place in places):
            raise ValueError(f"a query names clip {max(places)}; the probe has {num_clips}")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Vectors:
    """What an encoder gave for a probe."""

    clips_ND: np.ndarray
    queries_QD: np.ndarray = field(default_factory=lambda: np.empty((0, 0)))


def measure_drift(
    reference: VectorSource, candidates: Mapping[str, VectorSource], probe: Probe
) -> dict[str, DriftReport]:
    """Every candidate against the reference, on the same frames and texts; queries start from the reference's vectors."""
    start_ND = embed_in_batches(reference, probe.frames_NTHWC, 8)
    expected = _embed(reference, probe, start_ND)
    return {
        name: _compare(expected, _embed(candidate, probe, start_ND), probe)
        for name, candidate in candidates.items()
    }


def _embed(source: VectorSource, probe: Probe, start_ND: np.ndarray) -> _Vectors:
    # Another batch size than the start's: an engine that fixed its batch would otherwise pass.
    clips_ND = embed_in_batches(source, probe.frames_NTHWC, 7)
    if not probe.queries:
        return _Vectors(clips_ND=clips_ND)
    places = [query.clip for query in probe.queries]
    texts = [query.edit_text for query in probe.queries]
    blocks = [
        source.embed_queries(start_ND[places[i : i + 5]], texts[i : i + 5])
        for i in range(0, len(places), 5)
    ]
    return _Vectors(clips_ND=clips_ND, queries_QD=np.concatenate(blocks))


def _compare(expected: _Vectors, candidate: _Vectors, probe: Probe) -> DriftReport:
    clip_cosines = cosines(expected.clips_ND, candidate.clips_ND)
    query_cosines = cosines(expected.queries_QD, candidate.queries_QD) if probe.queries else None
    num_others = len(probe.frames_NTHWC) - 1
    top_k = min(TOP_K, num_others)
    expected_ranking, candidate_ranking = _rankings(expected, probe), _rankings(candidate, probe)
    shared = [
        len(set(left[:top_k]) & set(right[:top_k])) / top_k
        for left, right in zip(expected_ranking, candidate_ranking, strict=True)
    ]
    map_of, relevant = _relevant(probe)
    difference = None
    if map_of is not None:
        rows = [row for row, clips in enumerate(relevant) if clips]
        wanted = [relevant[row] for row in rows]
        before, after = (
            mean_average_precision_at_k([ranking[row] for row in rows], wanted, k=num_others)
            for ranking in (expected_ranking, candidate_ranking)
        )
        difference = after - before
    return DriftReport(
        min_cosine_clips=float(clip_cosines.min()),
        mean_cosine_clips=float(clip_cosines.mean()),
        min_cosine_queries=None if query_cosines is None else float(query_cosines.min()),
        mean_cosine_queries=None if query_cosines is None else float(query_cosines.mean()),
        top_k_overlap=float(np.mean(shared)),
        map_difference=difference,
        map_of=map_of,
        top_k=top_k,
        num_clips=len(probe.frames_NTHWC),
        num_queries=len(probe.queries),
        clips_from=probe.source,
    )


def _rankings(vectors: _Vectors, probe: Probe) -> list[list[int]]:
    """The other clips by falling similarity: first for every clip as its own query, then for every composed query."""
    own = list(range(len(vectors.clips_ND))) + [query.clip for query in probe.queries]
    queries = vectors.clips_ND
    if probe.queries:
        queries = np.concatenate([queries, vectors.queries_QD])
    scores = queries.astype(np.float64) @ vectors.clips_ND.astype(np.float64).T
    order = np.argsort(-scores, axis=1, kind="stable")
    return [[int(clip) for clip in row if clip != own[n]] for n, row in enumerate(order)]


def _relevant(probe: Probe) -> tuple[str | None, list[list[int]]]:
    """The clips that answer each row of `_rankings`; triplets go before labels."""
    num_clips = len(probe.frames_NTHWC)
    targets = [[place for place in query.targets if place != query.clip] for query in probe.queries]
    if any(targets):
        return "triplets", [[] for _ in range(num_clips)] + targets
    same = [
        [
            other
            for other, label in enumerate(probe.labels)
            if label is not None and label == probe.labels[clip] and other != clip
        ]
        for clip in range(len(probe.labels))
    ]
    if any(same):
        return "labels", same + [[] for _ in probe.queries]
    return None, []
