import math
from pathlib import Path

import pytest

from indexing.search.types import Change, ClipPlace, ComposedQuery, parse_file


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
        ({"group_above": 1.5}, "group_above"), ({"keep": "a" * 1001}, "keep has 1001"), ({"exclude": "a\0b"}, "surrogates or null"),
        ({"edits": ("\ud800",)}, "surrogates or null"), ({"edits": ("a",) * 9}, "number of edits is 9"), ({"liked": ("a",) * 101}, "liked"),
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


pytest.importorskip("encoders.backends.base")


def test_a_file_may_carry_a_span_and_an_at_sign(tmp_path: Path) -> None:
    plain, odd = tmp_path / "a.mp4", tmp_path / "b@1-2.mp4"
    plain.touch()
    odd.touch()

    def parsed(text: object) -> tuple[str, float, float | None]:
        place = parse_file(str(text))
        assert place is not None
        return Path(place.video_uri).name, place.start_s, place.end_s

    assert parsed(plain) == ("a.mp4", 0.0, None)
    assert parsed(f"{plain}@12-15.5") == ("a.mp4", 12.0, 15.5)
    assert parsed(f"{plain}@3.25-") == ("a.mp4", 3.25, None)
    assert parsed(f"{plain}@.5-1.5") == ("a.mp4", 0.5, 1.5)
    assert parsed(f"{plain}@0:01-0:02") == ("a.mp4", 1.0, 2.0)
    assert parsed(f"{plain}@1:02:03.5-") == ("a.mp4", 3723.5, None)
    assert parsed(f"{plain}@00:00:01,250-00:00:02,500") == ("a.mp4", 1.25, 2.5)
    assert parsed(f"{plain}@1m30s-2m") == ("a.mp4", 90.0, 120.0)
    assert parsed(f"{plain}@ 1s - 2s") == ("a.mp4", 1.0, 2.0)
    assert parsed(f"{plain}@-5") == ("a.mp4", 0.0, 5.0)
    assert parsed(odd) == ("b@1-2.mp4", 0.0, None)
    assert parsed(f"{odd}@0.5-1") == ("b@1-2.mp4", 0.5, 1.0)
    assert parse_file("dive-000017") is None
    with pytest.raises(ValueError, match="not after"):
        parse_file(f"{plain}@5-5")
    for wrong in ("1e1-2e1", "1..2", "-", "+1-2", "0x10-0x20", "1\u20132", "nan-3", "1_0-20"):
        with pytest.raises(ValueError, match=r"(time|span) '"):
            parse_file(f"{plain}@{wrong}")
    assert parse_file("dive@v2") is None
    assert parse_file("long" * 100) is None  # no file can be called so, but a clip can
    with pytest.raises(ValueError, match="does not exist"):
        parse_file(f"{tmp_path}/c.mp4@1-2")
