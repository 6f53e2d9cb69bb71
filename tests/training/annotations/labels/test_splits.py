from collections import defaultdict

import pytest

from encoders.clips import Clip
from training.annotations.labels.splits import SplitShares, assign_splits


def clip(name: str, label: str | None, *, video: str = "", split: str | None = None) -> Clip:
    return Clip(clip_id=name, video_uri=video or f"/{name}.mp4", label=label, split=split)


def test_every_label_is_in_every_split_and_no_video_in_two() -> None:
    clips = [
        clip(f"{label}{n}{part}", label, video=f"/{label}{n}.mp4")
        for label in "abc"
        for n in range(10)
        for part in "xy"
    ]
    result, note = assign_splits(clips, SplitShares())
    splits_by_video, videos = defaultdict(set), defaultdict(set)
    for item in result:
        splits_by_video[item.video_uri].add(item.split)
        videos[item.label, item.split].add(item.video_uri)
    assert all(len(splits) == 1 for splits in splits_by_video.values())
    assert {key: len(value) for key, value in videos.items()} == {
        (label, split): count
        for label in "abc"
        for split, count in (("train", 6), ("val", 2), ("test", 2))
    }
    assert note == "36 train, 12 val, 12 test clips, drawn by video and label with seed 0"
    assert assign_splits(clips, SplitShares()) == (result, note)
    assert assign_splits(clips, SplitShares(seed=1))[0] != result


def test_one_long_video_is_split_by_clip_and_says_so() -> None:
    clips = [clip(f"{label}{n}", label, video="/day1.mp4") for label in "ab" for n in range(5)]
    result, note = assign_splits(clips, SplitShares())
    assert {item.split for item in result} == {"train", "val", "test"}
    assert "drawn by clip and label" in note


def test_given_splits_stay_and_what_is_missing_is_drawn_from_train() -> None:
    clips = [clip(f"{label}{n}", label, split="train") for label in "ab" for n in range(5)]
    clips += [clip("t", "a", split="test"), clip("free", None)]
    result, _note = assign_splits(clips, SplitShares())
    by_id = {item.clip_id: item.split for item in result}
    assert by_id["t"] == "test"
    assert by_id["free"] is None
    assert sum(split == "val" for split in by_id.values()) == 2
    assert sum(split == "test" for split in by_id.values()) == 1


def test_a_rare_label_is_trained_on() -> None:
    clips = [clip(f"a{n}", "a") for n in range(5)] + [clip("b0", "b"), clip("c0", "c"), clip("c1", "c")]  # fmt: skip
    result, _note = assign_splits(clips, SplitShares())
    splits = defaultdict(set)
    for item in result:
        splits[item.label].add(item.split)
    assert splits["b"] == {"train"}
    assert "train" in splits["c"]


@pytest.mark.parametrize(("val", "test"), [(0.0, 0.2), (0.6, 0.4), (-0.1, 0.2)])
def test_shares_that_leave_nothing_are_named(val: float, test: float) -> None:
    with pytest.raises(ValueError, match=f"val is {val} and test {test}"):
        SplitShares(val=val, test=test)
