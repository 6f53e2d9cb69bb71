import io

import pytest
from rich.console import Console

from indexing.commands.search import parse_filters, print_answers
from indexing.search.types import ClipPlace, Hit, SearchResult


def test_filters_are_values_lists_and_ranges() -> None:
    texts = ["split=test", "label=(VT) round-off, flic-flac", "duration_s=1..6", "start_s=..2.5"]
    assert parse_filters(texts) == {
        "split": "test",
        "label": "(VT) round-off, flic-flac",
        "duration_s": (1.0, 6.0),
        "start_s": (None, 2.5),
    }


def test_several_values_are_a_repeated_filter_or_a_json_list() -> None:
    assert parse_filters(["label=a, b", "split=x", "label=c"]) == {
        "label": ["a, b", "c"],
        "split": "x",
    }
    assert parse_filters(['position=["a,b", "c"]', "position=d"]) == {"position": ["a,b", "c", "d"]}
    assert parse_filters(["label=[a"]) == {"label": "[a"}
    with pytest.raises(ValueError, match="filter 'start_s' is given twice"):
        parse_filters(["start_s=1..2", "start_s=3..4"])


@pytest.mark.parametrize("text", ["split", "=test", "split=", "duration_s=a..b", ""])
def test_a_text_that_is_no_filter_is_named(text: str) -> None:
    with pytest.raises(ValueError, match=f"filter {text!r}"):
        parse_filters([text])


def test_a_narrow_table_keeps_whole_clip_ids() -> None:
    clip_id, uri = "test-5154b-0007-of-a-broadcast", "/archive/" + "long/" * 20 + "video.mp4"
    hit = Hit(clip_id=clip_id, video_uri=uri, start_s=0.0, end_s=1.0, score=0.5)
    query = ClipPlace(clip_id="q", video_uri=uri, start_s=0.0, end_s=1.0)
    result = SearchResult(query=query, edit_text="in tuck", hits=(hit,), backend_used="onnx")
    out = io.StringIO()
    print_answers(Console(file=out, width=80), result)
    assert clip_id in out.getvalue()
    assert uri in out.getvalue()  # on a line of its own, to be copied
