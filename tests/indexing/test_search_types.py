import math

import pytest

from indexing.search_types import Change, ClipPlace, ComposedQuery


def test_edits_chain_and_are_undone() -> None:
    first = ComposedQuery(clip="a", exclude="pike")
    second = first.then("in tuck").then("with one more twist")
    assert second.edits == ("in tuck", "with one more twist")
    assert second.undo().undo() == first
    with pytest.raises(ValueError, match="no edit to undo"):
        first.undo()
    with pytest.raises(ValueError, match="an edit is empty"):
        first.then("  ")
    with pytest.raises(ValueError, match="needs a clip, an edit text or both"):
        ComposedQuery(edits=("in tuck",)).undo()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"limit": 0}, "limit is 0"), ({"limit": 1001}, "limit"), ({"strength": math.nan}, "strength"), ({"strength": -1}, "strength"),
        ({"group_above": 1.5}, "group_above"), ({"keep": "a" * 1001}, "keep has 1001"), ({"exclude": "a\0b"}, "no text has"),
        ({"edits": ("\ud800",)}, "no text has"), ({"edits": ("a",) * 9}, "number of edits is 9"), ({"liked": ("a",) * 101}, "liked"),
        ({"clip": "a" * 4097}, "clip has 4097"),
    ],
)  # fmt: skip
def test_what_is_out_of_bounds_is_named(wrong: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ComposedQuery(**({"clip": "a"} | wrong))


def test_texts_for_people() -> None:
    change = Change(name="twists", before="1.5", after="2.5", probability=0.814)
    assert change.text() == "twists 1.5 -> 2.5 (0.81)"
    same = Change(name="position", before="pike", after="pike", probability=1.0)
    assert (same.text(), same.is_change) == ("position pike (1.00)", False)
    assert ClipPlace(clip_id="a", video_uri="", start_s=1.25, end_s=None).span() == "1.25-end s"
