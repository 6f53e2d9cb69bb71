"""The capped gallery against its definition, on random clips."""

import random

import pytest

from encoders.clips import Clip
from training.annotations.triplets.build import (
    TripletConfig,
    build_triplets,
    build_triplets_with_report,
)
from training.annotations.triplets.gallery import cap_gallery


def clips_of(seed):
    rng = random.Random(seed)
    return [
        Clip(
            clip_id=f"c{number}",
            video_uri=f"/v{rng.randrange(60)}.mp4",
            label=(label := rng.choice("0123")),
            split=rng.choice(["train", "test"]),
            attributes={"twists": label},
        )
        for number in range(400)
    ]


@pytest.mark.parametrize("seed", range(3))
def test_it_holds_listed_targets_and_query_clips_only(seed):
    clips = clips_of(seed)
    config = TripletConfig(max_targets=2, complete_splits=(), num_triplets=60)
    triplets = [t for t in build_triplets(clips, config) if t.split == "test"]
    gallery = cap_gallery(triplets, clips)
    named = {t.query_clip_id for t in triplets} | {c for t in triplets for c in t.target_clip_ids}
    assert {clip.clip_id for clip in gallery.clips} == named
    assert gallery.num_left_out == sum(clip.split == "test" for clip in clips) - len(named)
    by_id = {clip.clip_id: clip for clip in clips}
    unlisted = [
        clip.clip_id
        for triplet in triplets
        for clip in gallery.clips
        if clip.label == triplet.target_label
        and clip.video_uri != by_id[triplet.query_clip_id].video_uri
        and clip.clip_id not in triplet.target_clip_ids
    ]
    assert gallery.unlisted_answers_per_query == pytest.approx(len(unlisted) / len(triplets))


def test_a_capped_split_lists_the_same_clips_of_a_label_for_every_query():
    clips = [clip for clip in clips_of(1) if clip.split == "test"]
    clips = [
        Clip(
            clip_id=clip.clip_id, video_uri=f"/{clip.clip_id}.mp4", label=clip.label, split="test",
            attributes=clip.attributes,
        )
        for clip in clips
    ]  # fmt: skip
    triplets = build_triplets(clips, TripletConfig(max_targets=3, complete_splits=()))
    lists = {(t.target_label, t.target_clip_ids) for t in triplets}
    assert len(lists) == 4


@pytest.mark.parametrize("mean", [1.5, 2.0, 3.9])
def test_a_fraction_of_targets_is_kept_on_average(mean):
    clips = clips_of(2)
    triplets, report = build_triplets_with_report(
        clips, TripletConfig(max_targets=mean, complete_splits=())
    )
    counts = {len(triplet.target_clip_ids) for triplet in triplets}
    assert counts <= {int(mean), int(mean) + 1}
    assert report.mean_targets_per_query == pytest.approx(mean, abs=0.06)


def test_a_triplet_whose_clip_is_not_in_the_table_is_named():
    clips = clips_of(3)
    triplets = build_triplets(clips, TripletConfig())
    with pytest.raises(
        ValueError, match=r"1 clips of the triplets are not in the clips table, first: \['c0'\]"
    ):
        cap_gallery(triplets, [clip for clip in clips if clip.clip_id != "c0"])
