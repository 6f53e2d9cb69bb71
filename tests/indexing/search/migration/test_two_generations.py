"""Two random encoders, the next of which has half of the clips."""

from itertools import count
from pathlib import Path

import pytest
from pymilvus.exceptions import MilvusException

from encoders.bundle.calibration import ScoreCalibration
from indexing.search.client import SearchClient
from indexing.search.migration.compare_collections import EncodedCollection
from indexing.search.migration.two_generations import TwoGenerations
from indexing.search.types import ComposedQuery, SearchResult, UploadedVideo
from indexing.store.aliases import open_catalog
from indexing.store.collection import open_collection
from tests.support.random_rows import write_random_rows
from tests.support.small_videos import write_video

NUM_CLIPS, NUM_MOVED = 12, 6
EVERYTHING = 50
_numbers = count()


class Archive:
    """Two collections of their own, and the alias that names the present one."""

    def __init__(self, uri: str, present: Path, following: Path) -> None:
        number = next(_numbers)
        self.uri = uri
        self.alias = f"live_{number}"
        self.present = EncodedCollection(collection=f"old_{number}", bundle_dir=present)
        self.following = EncodedCollection(collection=f"new_{number}", bundle_dir=following)
        write_random_rows(uri, self.present.collection, present, range(NUM_CLIPS), seed=0)
        write_random_rows(uri, self.following.collection, following, range(NUM_MOVED), seed=1)
        with open_catalog(uri) as catalog:
            catalog.promote(self.alias, self.present.collection)

    def open(self, **how) -> TwoGenerations:
        return TwoGenerations(self.uri, self.present, self.following, alias=self.alias, **how)

    def ids(self, which: EncodedCollection, **query) -> list[str]:
        with SearchClient(self.uri, which.collection, which.bundle_dir) as client:
            return ids_of(client.search(limit=EVERYTHING, **query))

    def move_all(self) -> None:
        name, bundle = self.following.collection, self.following.bundle_dir
        write_random_rows(self.uri, name, bundle, range(NUM_CLIPS), seed=1)


@pytest.fixture(scope="module")
def archive(tmp_path_factory, tiny_bundle, other_bundle) -> Archive:
    """On Milvus Lite; no test changes it."""
    uri = str(tmp_path_factory.mktemp("milvus"))
    return Archive(uri, tiny_bundle, other_bundle)


def ids_of(result: SearchResult) -> list[str]:
    return [hit.clip_id for hit in result.hits]


def now(client: TwoGenerations) -> TwoGenerations:
    """As half a second later."""
    client._follow()
    return client


MOVED = {f"c{i}" for i in range(NUM_MOVED)}


@pytest.mark.parametrize("query", [{"clip": "c1"}, {"clip": "c1", "edit": "in tuck"}])
def test_every_clip_is_answered_once_by_the_encoder_that_judges_it(archive, query) -> None:
    with archive.open() as client:
        result = client.search(limit=EVERYTHING, **query)
        assert result.encoder_ids == (client.card.encoder_id, client._next.card.encoder_id)
    hits = ids_of(result)
    assert sorted(hits) == sorted(f"c{i}" for i in range(NUM_CLIPS) if i != 1)
    new = archive.ids(archive.following, **query)
    old = archive.ids(archive.present, **query)
    assert [clip_id for clip_id in hits if clip_id in MOVED] == new
    rest = [clip_id for clip_id in hits if clip_id not in MOVED]
    assert rest == [clip_id for clip_id in old if clip_id not in MOVED]
    # Half of the clips are in each: without a calibration the two lists alternate.
    assert [clip_id in MOVED for clip_id in hits[:4]].count(True) == 2


def test_calibrated_scores_decide_where_both_encoders_have_them(archive, monkeypatch) -> None:
    with archive.open() as client:
        both = {client.confidence: 5.0, client._next.confidence: -5.0}
        for confidence, bias in both.items():
            score = ScoreCalibration(slope=1.0, bias=bias, min_cosines=(0.0,))
            monkeypatch.setattr(confidence, "_score", lambda _query, score=score: score)
        hits = client.search(clip="c1", limit=EVERYTHING).hits
        assert [hit.clip_id in MOVED for hit in hits] == [False] * 6 + [True] * 5
        assert ids_of(client.search(clip="c1", limit=3)) == [hit.clip_id for hit in hits[:3]]


def test_a_query_clip_that_is_not_moved_yet_is_answered_by_the_present_encoder_alone(
    archive,
) -> None:
    unmoved = f"c{NUM_CLIPS - 1}"
    with archive.open() as client:
        result = client.search(clip=unmoved, limit=EVERYTHING)
        assert ids_of(result) == archive.ids(archive.present, clip=unmoved)
        assert result.encoder_ids == (client.card.encoder_id,)
        many = [ComposedQuery(clip=clip, limit=EVERYTHING) for clip in (unmoved, "c1", "c2")]
        results = client.search_many(many)
        assert [result.query.clip_id for result in results] == [unmoved, "c1", "c2"]
        assert ids_of(results[1]) == ids_of(client.search(clip="c1", limit=EVERYTHING))
        assert ids_of(results[1]) != archive.ids(archive.present, clip="c1")


def test_an_upload_and_a_text_are_asked_of_both(archive, tmp_path) -> None:
    write_video(tmp_path / "0.mp4", 0)
    with archive.open() as client:
        for query in ({"clip": UploadedVideo(path=tmp_path / "0.mp4")}, {"edit": "in tuck"}):
            hits = ids_of(client.search(limit=EVERYTHING, **query))
            assert sorted(hits) == sorted(f"c{i}" for i in range(NUM_CLIPS))
            assert [c for c in hits if c in MOVED] == archive.ids(archive.following, **query)


def test_filters_likes_and_groups_hold_over_both(archive) -> None:
    with archive.open() as client:
        hits = client.search(clip="c1", filters={"label": "l0"}, limit=EVERYTHING).hits
        assert {hit.label for hit in hits} == {"l0"}
        assert len(hits) == 4
        liked = client.search(clip="c1", liked=("c2",), disliked=("c0",), limit=EVERYTHING)
        assert len(liked.hits) == NUM_CLIPS - 1
        grouped = client.search(clip="c1", group_by_video=True, limit=EVERYTHING)
        assert len({hit.video_uri for hit in grouped.hits}) == len(grouped.hits)


def test_what_the_present_collection_refuses_is_refused(archive) -> None:
    with archive.open() as client:
        with pytest.raises(ValueError, match="'nothing'"):
            client.search(clip="nothing")
        with pytest.raises(ValueError, match="color"):
            client.search(clip="c1", filters={"color": "red"})


@pytest.mark.parametrize("call", ["nearest_many", "rows_of_clips"])
def test_a_next_collection_that_fails_costs_no_answer(archive, monkeypatch, call) -> None:
    def fail(*_args, **_how):
        raise MilvusException(code=1, message="gone")

    with archive.open() as client:
        monkeypatch.setattr(client._next.collection, call, fail)
        hits = ids_of(client.search(clip="c1", limit=EVERYTHING))
        assert hits == archive.ids(archive.present, clip="c1")
        assert client._rests()


def test_a_query_that_the_next_encoder_refuses_costs_its_neighbours_nothing(
    archive, monkeypatch
) -> None:
    search_many = SearchClient.search_many

    def picky(client, queries, **how):
        if any(query.edits == ("with a tuck",) for query in queries):
            raise ValueError("no such word")
        return search_many(client, queries, **how)

    with archive.open() as client:
        queries = [
            ComposedQuery(clip="c1", edits=(edit,), limit=EVERYTHING)
            for edit in ("in tuck", "with a tuck")
        ]
        alone = client.search_many(queries[:1])
        monkeypatch.setattr(
            client._next, "search_many", lambda *a, **k: picky(client._next, *a, **k)
        )
        results = client.search_many(queries)
    assert ids_of(results[0]) == ids_of(alone[0])
    assert ids_of(results[1]) == archive.ids(archive.present, clip="c1", edit="with a tuck")


def test_a_clip_that_moves_while_a_query_runs_is_neither_lost_nor_doubled(
    archive, monkeypatch
) -> None:
    with archive.open() as client:
        wanted = {f"c{i}" for i in range(NUM_CLIPS) if i != 1}
        monkeypatch.setattr(client, "_in_next", lambda _ids: set())  # as before they were moved
        hits = ids_of(client.search(clip="c1", limit=EVERYTHING))
        assert sorted(hits) == sorted(wanted)


def test_an_empty_next_collection_is_not_asked_until_it_has_rows(
    archive, tiny_bundle, other_bundle
) -> None:
    empty = EncodedCollection(collection="empty", bundle_dir=other_bundle)
    write_random_rows(archive.uri, "empty", other_bundle, range(0), seed=1)
    with TwoGenerations(archive.uri, archive.present, empty) as client:
        old = archive.ids(archive.present, edit="in tuck")
        assert ids_of(client.search(edit="in tuck", limit=EVERYTHING)) == old
        write_random_rows(archive.uri, "empty", other_bundle, range(4), seed=1)
        hits = ids_of(now(client).search(edit="in tuck", limit=EVERYTHING))
        assert sorted(hits) == sorted(old)
        assert hits != old
        assert len(client._next.snapshot.samples) == 4


def test_other_archives_are_refused(archive, other_bundle) -> None:
    other = EncodedCollection(collection="other", bundle_dir=other_bundle)
    write_random_rows(archive.uri, "other", other_bundle, range(2), seed=1)
    for name, archives in ((archive.present.collection, "cam1"), ("other", "cam2")):
        with open_collection(archive.uri, name) as collection:
            collection.set_properties({f"tfcovr.archive.{archives}": "/videos"})
    with pytest.raises(ValueError, match=r"holds archives \['cam2'\] and .* holds \['cam1'\]"):
        TwoGenerations(archive.uri, archive.present, other)


def test_the_alias_says_who_answers_and_a_rollback_holds(
    milvus_uri, tiny_bundle, other_bundle
) -> None:
    archive = Archive(milvus_uri, tiny_bundle, other_bundle)
    with archive.open() as client, open_catalog(archive.uri) as catalog:
        assert client.generation == "both"
        archive.move_all()
        new = archive.ids(archive.following, clip="c1")
        assert ids_of(client.search(clip="c1", limit=EVERYTHING)) == new
        catalog.promote(archive.alias, archive.following.collection)
        assert now(client).generation == "next"
        assert ids_of(client.search(clip="c1", limit=EVERYTHING)) == new
        catalog.rollback(archive.alias)
        assert now(client).generation == "present"
        old = archive.ids(archive.present, clip="c1")
        assert ids_of(client.search(clip="c1", limit=EVERYTHING)) == old
        catalog.promote(archive.alias, archive.following.collection)
        assert now(client).generation == "next"


def test_while_milvus_does_not_tell_what_it_told_last_holds(archive, monkeypatch) -> None:
    with archive.open() as client:
        monkeypatch.setattr(client._catalog, "generation", _no_milvus)
        assert now(client).generation == "both"
        client.generation = "present"
        assert now(client).generation == "present"


def _no_milvus(*_names, **_how):
    raise MilvusException(code=1, message="no connection")


def test_two_collections_of_one_encoder_are_refused(archive) -> None:
    with pytest.raises(ValueError, match="nothing to change"):
        TwoGenerations(archive.uri, archive.present, archive.present)
