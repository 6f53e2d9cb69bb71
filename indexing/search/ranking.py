"""Ranking of candidates: scoring, duration filter, grouping, limit and explanation."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from typing import Any

import numpy as np

from encoders.clips import REPLAY_OF
from encoders.media.bitstream import clip_duration_s
from indexing.search.collection_snapshot import CollectionSnapshot
from indexing.search.composition import QueryVectors
from indexing.search.types import Candidate, ClipPlace, ComposedQuery, Hit

Probabilities = Callable[[np.ndarray], Sequence[float | None]]
"""Cosines of hits with the query -> the probability that each is right."""


def unknown_probabilities(cosines_N: np.ndarray) -> list[float | None]:
    """Those of a bundle without a calibration."""
    return [None] * len(cosines_N)


_PLACE_FIELDS = tuple(field.name for field in fields(ClipPlace))


def plain_hits(
    query: ComposedQuery,
    candidates: Sequence[Candidate],
    *,
    duration_s: tuple[float, float] | None,
    probabilities: Probabilities = unknown_probabilities,
) -> tuple[Hit, ...]:
    """At most `query.limit` hits in the order of their cosines, for a query that does not need their vectors."""
    ordered = sorted(candidates, key=lambda c: (-c.cosine, c.place.clip_id))
    if duration_s is not None:
        ordered = [c for c in ordered if _has_duration(c.place, duration_s)]
    chosen = _grouped(query, list(enumerate(ordered)))
    likely = probabilities(np.array([ordered[i].cosine for i, _ in chosen]))
    return tuple(
        Hit(
            **_fields(ordered[i].place),
            score=ordered[i].cosine,
            probability=probability,
            num_grouped=num_grouped,
        )
        for (i, num_grouped), probability in zip(chosen, likely, strict=True)
    )


def choose_hits(
    query: ComposedQuery,
    vectors: QueryVectors,
    candidates: Sequence[Candidate],
    *,
    snapshot: CollectionSnapshot,
    duration_s: tuple[float, float] | None,
    probabilities: Probabilities = unknown_probabilities,
) -> tuple[Hit, ...]:
    """At most `query.limit` hits, best first, with the explanation of their scores."""
    if not candidates:
        return ()
    all_ND = np.stack([candidate.vector_D for candidate in candidates])
    scores_N = vectors.scores(all_ND, snapshot)
    order = sorted(
        range(len(candidates)), key=lambda i: (-scores_N[i], candidates[i].place.clip_id)
    )
    if duration_s is not None:
        order = [i for i in order if _has_duration(candidates[i].place, duration_s)]
    chosen = _grouped(query, [(i, candidates[i]) for i in order])
    hits_ND = all_ND[[i for i, _ in chosen]]
    likely = probabilities(hits_ND @ vectors.query_D)
    from_clip_N = from_edit_N = np.zeros(len(chosen))
    if query.explain:
        from_clip_N, from_edit_N = vectors.parts(hits_ND)
    reader = snapshot.reader if vectors.clip_D is not None and query.explain else None
    changes: list = [()] * len(chosen)
    if reader is not None:
        changes = list(reader.changes(vectors.reading, hits_ND))
    return tuple(
        Hit(
            **_fields(candidates[i].place),
            score=float(scores_N[i]),
            probability=probability,
            from_clip=float(from_clip),
            from_edit=float(from_edit),
            predicted=predicted,
            num_grouped=num_grouped,
        )
        for (i, num_grouped), probability, from_clip, from_edit, predicted in zip(
            chosen, likely, from_clip_N, from_edit_N, changes, strict=True
        )
    )


def _fields(place: ClipPlace) -> dict[str, Any]:
    """The fields of a place. Not `asdict`, which copies every value."""
    return {name: getattr(place, name) for name in _PLACE_FIELDS}


def _has_duration(place: ClipPlace, range_s: tuple[float, float]) -> bool:
    duration_s = clip_duration_s(place.video_uri, place.start_s, place.end_s)
    return duration_s is not None and range_s[0] <= duration_s <= range_s[1]


def _grouped(
    query: ComposedQuery, ordered: Sequence[tuple[int, Candidate]]
) -> list[tuple[int, int]]:
    """(candidate, number of other members), the best of each group, at most `limit` groups. A replay is in the group of what it repeats."""
    leaders: list[tuple[int, Candidate]] = []
    leader_of: dict[tuple[str, str], int] = {}
    num_grouped: dict[int, int] = {}
    for number, candidate in ordered:
        shown = performance(candidate.place)
        leader = leader_of.get(shown)
        if leader is None:
            leader = next((n for n, other in leaders if _is_same(query, candidate, other)), None)
        if leader is not None:
            num_grouped[leader] += 1
        elif len(leaders) < query.limit:
            leader = number
            leaders.append((number, candidate))
            num_grouped[number] = 0
        elif not query.group_by_video and query.group_above >= 1:
            break
        if leader is not None:
            leader_of.setdefault(shown, leader)
    return list(num_grouped.items())


def performance(place: ClipPlace) -> tuple[str, str]:
    """What is seen in a clip: in a replay, what the clip shows that it repeats."""
    return place.video_uri, place.attributes.get(REPLAY_OF) or place.clip_id


def _is_same(query: ComposedQuery, candidate: Candidate, other: Candidate) -> bool:
    if query.group_by_video and candidate.place.video_uri == other.place.video_uri:
        return True
    return query.group_above < 1 and float(candidate.vector_D @ other.vector_D) > query.group_above


class StageTimer:
    """Wall-clock milliseconds of named stages; time outside of every stage is `rest`."""

    def __init__(self) -> None:
        self._start_s = time.perf_counter()
        self._steps_ms: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time the block."""
        start_s = time.perf_counter()
        try:
            yield
        finally:
            self._steps_ms[name] = (time.perf_counter() - start_s) * 1000

    def timings_ms(self) -> dict[str, float]:
        """Milliseconds of all stages so far, and of the rest."""
        total_ms = (time.perf_counter() - self._start_s) * 1000
        return {**self._steps_ms, "rest": max(total_ms - sum(self._steps_ms.values()), 0.0)}
