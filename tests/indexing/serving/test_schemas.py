from pathlib import Path

import pytest
from pydantic import ValidationError

from indexing.search.types import Change, ClipPlace, Hit, SearchResult, UploadedVideo
from indexing.serving.schemas import SearchRequest, search_response


def test_a_request_becomes_the_query_that_python_would_make() -> None:
    asked = SearchRequest.model_validate(
        {"clip": "a", "edits": ["in tuck"], "filters": {"duration_s": [1, None]}, "liked": ["b"]}
    )
    query = asked.query()
    assert (query.clip, query.edits, query.liked) == ("a", ("in tuck",), ("b",))
    assert dict(query.filters) == {"duration_s": [1, None]}
    assert asked.query(UploadedVideo(path=Path("a.video"))).clip == UploadedVideo(
        path=Path("a.video")
    )


def test_a_clip_and_a_url_exclude_each_other() -> None:
    asked = SearchRequest.model_validate({"clip": "a", "clip_url": "http://media.test/a.mp4"})
    with pytest.raises(ValueError, match="clip and clip_url exclude each other"):
        asked.query(UploadedVideo(path=Path("b.video")))
    alone = SearchRequest.model_validate({"clip_url": "http://media.test/a.mp4"})
    assert alone.query(UploadedVideo(path=Path("b.video"))).clip == UploadedVideo(
        path=Path("b.video")
    )


@pytest.mark.parametrize(
    "wrong",
    [{"edits": [" "]}, {"edits": "in tuck"}, {"limit": 0}, {"limit": 101}, {"strength": 5}, {"strength": float("nan")}, {"path": "/etc"}, {"filters": {"a": {"b": 1}}}],
)  # fmt: skip
def test_what_a_query_cannot_hold_is_refused(wrong: dict) -> None:
    with pytest.raises(ValidationError):
        SearchRequest.model_validate({"clip": "a"} | wrong)


def test_an_answer_names_where_to_play_it_and_no_path_of_the_machine() -> None:
    change = Change(name="twists", before="1", after="2", probability=0.5)
    hit = Hit(clip_id="a/b c", video_uri="/secret/v.mp4", start_s=1, end_s=2, score=0.5, predicted=(change,))  # fmt: skip
    query = ClipPlace(clip_id="", video_uri="/tmp/upload", start_s=0, end_s=None)
    result = SearchResult(query=query, edit_text="in tuck", hits=(hit,), backend_used="onnx")
    text = search_response(result, "id-1").model_dump_json()
    assert "secret" not in text
    assert "upload" not in text
    body = search_response(result, "id-1")
    assert body.hits[0].trimmed_url == "/v1/clip/media?id=a%2Fb%20c&trim=true"
    assert body.hits[0].predicted[0].text == "twists 1 -> 2 (0.50)"
    assert body.hits[0].predicted[0].verdict == "changed though not asked"
    assert body.query.media_url is None
