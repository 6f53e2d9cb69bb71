"""The moment head learns from spans, and what it found out becomes a part of the bundle."""

import shutil

import numpy as np
import pytest

from benchmarks.dives.archive import ArchiveConfig
from benchmarks.dives.broadcast import write_broadcasts
from benchmarks.dives.broadcast_plan import BroadcastConfig, RawConfig
from encoders.bundle.card import read_card
from encoders.bundle.moments import load_moment_head
from encoders.clips import Clip, read_clips, write_clips
from encoders.video_encoder.config import MomentConfig
from tests.support.small_videos import write_archive
from training.stage1.moment_settings import MomentTraining
from training.stage1.moments import read_timelines, score_moments, train_moment_head


def test_clips_without_spans_and_videos_that_cannot_be_read_are_refused(
    tiny_bundle, tmp_path
) -> None:
    path = tmp_path / "clips.parquet"
    write_clips(path, [Clip(clip_id="a", video_uri="a.mp4", label="x")])
    with pytest.raises(ValueError, match="name no start or end"):
        train_moment_head(MomentTraining(bundle=tiny_bundle, clips=path))
    write_clips(path, [Clip(clip_id="a", video_uri="a.mp4", start_s=1.0, end_s=2.0)])
    with pytest.raises(ValueError, match="none of 1 videos can be decoded"):
        train_moment_head(MomentTraining(bundle=tiny_bundle, clips=path))
    with pytest.raises(ValueError, match="num_steps is 0; it must be above 0"):
        MomentTraining(bundle=tiny_bundle, clips=path, num_steps=0)


def test_a_few_steps_make_a_head_that_a_rerun_makes_again(tiny_bundle, tmp_path) -> None:
    clips = write_archive(tmp_path / "archive", num_videos=2, clips_per_video=4)
    heads = []
    for name in ("one", "two"):
        bundle = shutil.copytree(tiny_bundle, tmp_path / name)
        config = MomentTraining(
            bundle=bundle,
            clips=clips,
            head=MomentConfig(width=8),
            num_steps=2,
            batch_size=1,
            stretch=16,
        )
        scores = train_moment_head(config)
        assert scores.num_true == 8
        heads.append(load_moment_head(bundle))
        assert read_card(bundle).encoder_id == read_card(tiny_bundle).encoder_id
    shortest, longest = heads[0].config.duration_s
    assert (shortest, longest) == (pytest.approx(0.12), pytest.approx(0.36))
    for value, other in zip(heads[0].parameters(), heads[1].parameters(), strict=True):
        np.testing.assert_array_equal(value.detach().numpy(), other.detach().numpy())


@pytest.mark.long
def test_a_trained_head_finds_the_dives_of_broadcasts_that_it_never_saw(
    tiny_bundle, tmp_path
) -> None:
    archive = ArchiveConfig(classes=("103b", "5152b"), size=64)
    config = BroadcastConfig(archive=archive, num_broadcasts=2, num_dives=10, raw=RawConfig())
    clips = write_broadcasts(tmp_path / "dives", config, quiet=True)
    bundle = shutil.copytree(tiny_bundle, tmp_path / "bundle")
    train_moment_head(MomentTraining(bundle=bundle, clips=clips, num_steps=300))
    head = load_moment_head(bundle)
    unseen = [clip for clip in read_clips(clips) if clip.split == "test"]
    scores = score_moments(head, read_timelines(unseen, head.config))
    assert scores.recall >= 0.8
    assert scores.precision >= 0.8
    assert scores.end_error_s <= 0.15
    assert scores.replay_accuracy >= 0.8
