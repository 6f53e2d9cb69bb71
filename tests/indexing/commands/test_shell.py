"""The shell against a client that only notes what it is asked."""

import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from indexing.commands.shell import SearchShell
from indexing.search.types import ClipPlace, ComposedQuery, Hit, SearchResult


class Client:
    def __init__(self) -> None:
        self.asked: list[ComposedQuery] = []
        self.snapshot = SimpleNamespace()

    def search_many(self, queries):
        (query,) = queries
        if query.clip == "gone":
            raise ValueError("no clip 'gone'")
        self.asked.append(query)
        place = ClipPlace(clip_id=str(query.clip), video_uri="", start_s=0, end_s=1)
        hits = tuple(Hit(clip_id=f"h{i}", video_uri="", start_s=0, end_s=1, score=0.5) for i in range(3))  # fmt: skip
        return [SearchResult(query=place, edit_text="", hits=hits, backend_used="onnx")]


@pytest.fixture
def shell() -> SearchShell:
    return SearchShell(Client(), limit=3, console=Console(file=io.StringIO(), width=200))


def said(shell: SearchShell, *lines: str) -> str:
    for line in lines:
        shell.onecmd(line)
    return shell._console.file.getvalue()


def test_edits_chain_from_a_clip_and_from_an_answer(shell) -> None:
    said(shell, "clip a", "in tuck", "with one more twist", "pick 2", "backwards")
    asked = [(query.clip, query.edits) for query in shell._client.asked]
    assert asked == [
        ("a", ()),
        ("a", ("in tuck",)),
        ("a", ("in tuck", "with one more twist")),
        ("h1", ()),
        ("h1", ("backwards",)),
    ]


def test_undo_goes_back_one_change_at_a_time(shell) -> None:
    text = said(shell, "clip a", "in tuck", "exclude pike", "undo")
    assert shell._client.asked[-1] == shell._client.asked[1]
    assert "nothing to undo" not in text
    assert "nothing to undo" in said(shell, "undo", "undo")


def test_options_stay_with_the_query_and_wrong_ones_change_nothing(shell) -> None:
    said(shell, "clip a", "filter split=test", "strength 2")
    last = shell._client.asked[-1]
    assert (last.strength, dict(last.filters)) == (2.0, {"split": "test"})
    count = len(shell._client.asked)
    text = said(shell, "strength much", "filter split", "pick 9", "pick x", "clip gone")
    assert len(shell._client.asked) == count
    for part in ("could not convert", "filter 'split'", "pick a number from 1 to 3", "no clip 'gone'"):  # fmt: skip
        assert part in text
