"""Over a collection that counts how often it is asked."""

import numpy as np
import pytest

from indexing.search import clip_cache
from indexing.search.clip_cache import ClipCache
from indexing.search.types import Candidate, ClipPlace


class CountingCollection:
    name = "clips"

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.vector = [1.0, 0.0]

    def rows_of_clips(self, clip_ids: list[str]) -> list[dict]:
        self.asked += [" ".join(clip_ids)] if clip_ids else []
        return [
            {
                "clip_id": clip_id, "video_uri": "/v.mp4", "start_s": 1.0, "end_s": -1.0, "label": "", "split": "test",
                "attributes": {"twists": "1"}, "embedding": self.vector,
            }
            for clip_id in clip_ids if clip_id != "none"
        ]  # fmt: skip


def test_a_clip_is_read_once_until_it_is_too_old() -> None:
    collection, now = CountingCollection(), [100.0]
    cache = ClipCache(collection, now=lambda: now[0])  # type: ignore[arg-type]
    first = cache.find(["a"])["a"]
    assert (first.place.clip_id, first.place.end_s, first.place.label) == ("a", None, None)
    collection.vector = [0.0, 1.0]
    now[0] += clip_cache.MAX_AGE_S - 1
    assert cache.find(["a"])["a"] is first
    now[0] += 2
    again = cache.find(["a"])["a"]
    assert again.vector_D.tolist() == [0.0, 1.0]
    assert collection.asked == ["a", "a"]


def test_clips_that_are_new_are_read_with_one_call() -> None:
    collection = CountingCollection()
    cache = ClipCache(collection)  # type: ignore[arg-type]
    cache.find(["b"])
    assert sorted(cache.find(["c", "a", "b", "none", "a"])) == ["a", "b", "c"]
    assert collection.asked == ["b", "a c none"]


def test_an_answer_can_be_asked_with_at_no_cost() -> None:
    collection = CountingCollection()
    cache = ClipCache(collection)  # type: ignore[arg-type]
    place = ClipPlace(clip_id="hit", video_uri="/w.mp4", start_s=0, end_s=2)
    cache.put([Candidate(place=place, vector_D=np.array([0.6, 0.8], np.float32))])
    assert cache.vectors(["hit", "b"]) == pytest.approx(np.array([[0.6, 0.8], [1.0, 0.0]]))
    assert collection.asked == ["b"]


def test_what_is_not_there_is_asked_again_and_named() -> None:
    collection = CountingCollection()
    cache = ClipCache(collection)  # type: ignore[arg-type]
    assert cache.find(["none"]) == {}
    with pytest.raises(ValueError, match="'none' in collection 'clips'"):
        cache.vectors(["none"])
    assert collection.asked == ["none", "none"]


def test_the_clips_that_were_met_long_ago_go_first(monkeypatch) -> None:
    monkeypatch.setattr(clip_cache, "MAX_CLIPS", 2)
    collection = CountingCollection()
    cache = ClipCache(collection)  # type: ignore[arg-type]
    for clip_id in ("a", "b", "c", "b", "a"):
        cache.find([clip_id])
    assert collection.asked == ["a", "b", "c", "a"]
