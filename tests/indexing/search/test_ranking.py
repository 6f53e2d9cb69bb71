import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from indexing.search.composition import QueryVectors, unit
from indexing.search.ranking import StageTimer, choose_hits, performance, plain_hits
from indexing.search.types import Candidate, ClipPlace, ComposedQuery

SNAPSHOT = SimpleNamespace(reader=None)
RNG = np.random.default_rng(2)
VECTORS = unit(RNG.normal(size=(12, 6)))
QUERY = unit(RNG.normal(size=6))


def candidate(i: int, vector_D: np.ndarray, video: str = "", duration_s: float = 1.0) -> Candidate:
    place = ClipPlace(clip_id=f"c{i:02d}", video_uri=video or f"/v{i}", start_s=1, end_s=1 + duration_s)  # fmt: skip
    return Candidate(place=place, vector_D=vector_D)


def choose(candidates, *, clip_D=None, duration_s=None, **how):
    query = ComposedQuery(clip="q", **how)
    vectors = QueryVectors(clip_D=clip_D, query_D=QUERY, terms=(), others_ND=np.empty((0, 6)))
    return choose_hits(query, vectors, candidates, snapshot=SNAPSHOT, duration_s=duration_s)


def test_hits_come_by_cosine_and_ties_by_name() -> None:
    candidates = [candidate(i, VECTORS[i]) for i in range(12)]
    hits = choose(candidates[::-1], limit=5)
    wanted = np.argsort(-(VECTORS @ QUERY))[:5]
    assert [hit.clip_id for hit in hits] == [f"c{i:02d}" for i in wanted]
    np.testing.assert_allclose([hit.score for hit in hits], (VECTORS @ QUERY)[wanted], atol=1e-6)
    equal = [candidate(i, VECTORS[0]) for i in (7, 3, 5)]
    assert [hit.clip_id for hit in choose(equal, limit=2)] == ["c03", "c05"]
    assert choose([], limit=5) == ()


def test_the_two_parts_of_a_score_add_up() -> None:
    candidates = [candidate(i, VECTORS[i]) for i in range(12)]
    for hit in choose(candidates, clip_D=VECTORS[3], limit=12):
        assert hit.from_clip + hit.from_edit == pytest.approx(hit.score, abs=1e-6)
    (own,) = [hit for hit in choose(candidates, clip_D=VECTORS[3], limit=12) if hit.clip_id == "c03"]  # fmt: skip
    assert own.from_edit == pytest.approx(0.0, abs=1e-6)  # beside the clip there is nothing of it


def test_one_answer_per_video_or_per_look_stands_for_the_rest() -> None:
    order = np.argsort(-(VECTORS @ QUERY))
    candidates = [candidate(i, VECTORS[i], video="/a" if i % 2 else "/b") for i in range(12)]
    hits = choose(candidates, limit=5, group_by_video=True)
    assert [hit.num_grouped for hit in hits] == [5, 5]
    assert hits[0].clip_id == f"c{order[0]:02d}"
    near = [candidate(i, unit(VECTORS[i % 3] + 1e-3 * i)) for i in range(9)]
    assert [hit.num_grouped for hit in choose(near, limit=9, group_above=0.99)] == [2, 2, 2]


def test_a_duration_filters_before_the_limit() -> None:
    order = np.argsort(-(VECTORS @ QUERY))
    lasts_s = {int(i): float(rank) for rank, i in enumerate(order)}
    candidates = [candidate(i, VECTORS[i], duration_s=lasts_s[i]) for i in range(12)]
    hits = choose(candidates, limit=2, duration_s=(4.0, 5.5))
    assert [hit.clip_id for hit in hits] == [f"c{i:02d}" for i in order[4:6]]


def test_without_vectors_the_order_is_that_of_milvus() -> None:
    cosines = VECTORS @ QUERY
    with_vectors = [candidate(i, VECTORS[i], video=f"/v{i % 4}") for i in range(12)]
    without = [
        Candidate(place=one.place, vector_D=np.empty(0), cosine=float(cosine))
        for one, cosine in zip(with_vectors, cosines, strict=True)
    ]
    for how in ({"limit": 5}, {"limit": 2, "group_by_video": True}):
        query = ComposedQuery(clip="q", explain=False, **how)
        found = plain_hits(query, without, duration_s=None)
        wanted = choose(with_vectors, **how)
        assert [(h.clip_id, h.num_grouped) for h in found] == [
            (h.clip_id, h.num_grouped) for h in wanted
        ]
        np.testing.assert_allclose([h.score for h in found], [h.score for h in wanted], atol=1e-6)
    assert plain_hits(query, without, duration_s=(5.0, 6.0)) == ()


def test_a_watch_gives_each_step_and_the_rest() -> None:
    watch = StageTimer()
    with watch.step("milvus"):
        time.sleep(0.02)
    time.sleep(0.01)
    timings_ms = watch.timings_ms()
    assert 20 <= timings_ms["milvus"] < 500
    assert 10 <= timings_ms["rest"] < 500


def test_a_replay_is_no_answer_of_its_own() -> None:
    order = np.argsort(-(VECTORS @ QUERY))
    candidates = [candidate(i, VECTORS[i], video="/a") for i in range(12)]
    best, second, last = (int(i) for i in (order[0], order[1], order[-1]))
    shown = {best: f"c{last:02d}", second: f"c{last:02d}"}
    candidates = [
        replace(c, place=replace(c.place, attributes={"replay_of": shown[i]} if i in shown else {}))
        for i, c in enumerate(candidates)
    ]
    hits = choose(candidates, limit=12)
    assert len(hits) == 10
    assert (hits[0].clip_id, hits[0].num_grouped) == (f"c{best:02d}", 2)
    plain = plain_hits(ComposedQuery(clip="q", limit=3), candidates, duration_s=None)
    assert len({performance(hit) for hit in plain}) == 3
