import pytest

from encoders.clips import Clip
from indexing.ledger.planned_clip import PlannedClip
from indexing.ledger.reconcile import compare
from indexing.pipeline.verify import Verification


def planned(clip_id: str, key: str, problem: str = "") -> PlannedClip:
    clip = Clip(clip_id=clip_id, video_uri="/v.mp4")
    return PlannedClip(clip=clip, clip_key=key, content_hash="", problem=problem)


def test_every_clip_and_every_row_has_one_verdict() -> None:
    wanted = [
        planned("in", "k-in"), planned("lost", "k-lost"), planned("dead", "k-dead"), planned("away", "", problem="gone"),
        planned("changed", "k-new"), planned("twice", "k-twice"),
    ]  # fmt: skip
    stored = [
        ("k-in", "in"), ("k-old", "changed"), ("k-older", "changed"), ("k-away", "away"), ("k-nobody", "nobody"),
        ("k-twice", "twice"), ("k-twice", "twice"), ("k-dead-old", "dead"),
    ]  # fmt: skip
    found = compare(wanted, stored, dead_keys={"k-dead", "k-in"})
    names = {
        kind: [one.clip.clip_id for one in getattr(found, kind)]
        for kind in ("present", "missing", "dead", "unreadable")
    }
    assert names == {"present": ["in", "twice"], "missing": ["lost", "changed"], "dead": ["dead"], "unreadable": ["away"]}  # fmt: skip
    assert found.stale == {"changed": ("k-old", "k-older"), "dead": ("k-dead-old",)}
    assert found.orphaned == {"k-nobody": "nobody"}
    assert found.duplicate == {"k-twice": "twice"}
    assert Verification(comparison=found, recomputed=None).faults() == {
        "missing": ["lost", "changed"],
        "duplicate": ["k-twice"],
        "stale": ["changed", "dead"],
        "orphaned": ["nobody"],
        "wrong": [],
    }
    compared = compare(wanted[:1], stored[:1], dead_keys=())
    assert not any(Verification(comparison=compared, recomputed=None).faults().values())


@pytest.mark.parametrize(("num_kept", "share", "is_refused"), [(0, 0.2, True), (7, 0.2, True), (8, 0.2, False), (0, 1, False), (9, 0, True), (10, 0, False)])  # fmt: skip
def test_more_orphans_than_a_share_of_the_rows_are_refused(
    num_kept: int, share: float, is_refused: bool
) -> None:
    stored = [(f"k{n}", f"{n}") for n in range(10)]
    found = compare([planned(f"{n}", f"k{n}") for n in range(num_kept)], stored, dead_keys=())
    if not is_refused:
        found.require_few_orphans(share)
        return
    with pytest.raises(
        ValueError, match=rf"{10 - num_kept} of 10 rows \({10 - num_kept}0%\).*--max-delete-share"
    ):
        found.require_few_orphans(share)


def test_an_empty_collection_has_no_orphans() -> None:
    compare([planned("a", "k")], [], dead_keys=()).require_few_orphans(0.0)
