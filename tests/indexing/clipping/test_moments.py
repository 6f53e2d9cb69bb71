"""Moments of a video to clips; how well a trained head finds them is in tests/training/stage1/test_moments.py."""

import shutil
from dataclasses import replace

import pytest
import torch

from encoders.bundle.moments import save_moment_head
from encoders.clips import REPLAY_OF, read_clips
from encoders.media.container import MediaLimits
from encoders.video_encoder.config import MomentConfig
from encoders.video_encoder.moment_head import MomentHead
from encoders.video_encoder.proposals import Moment
from indexing.clipping import moments as moments_module
from indexing.clipping.cut_video import CutSettings
from indexing.clipping.moments import best_span, cut_of_moments
from indexing.clipping.split_videos import SplitConfig, split_videos
from tests.support.small_videos import write_video


def moment(start_s: float, end_s: float, *, is_replay: bool = False, score: float = 0.9) -> Moment:
    return Moment(start_s=start_s, end_s=end_s, score=score, is_replay=is_replay)


def test_a_replay_belongs_to_the_live_moment_before_it() -> None:
    cut = cut_of_moments(
        [
            moment(0.5, 2, is_replay=True),  # of what is not in the video
            moment(-0.02, 4),
            moment(6, 9, is_replay=True),
            moment(9.5, 14, is_replay=True),
            moment(60, 62),
            moment(90, 95, is_replay=True),  # too late
            moment(96, 100.5),
        ],
        end_s=100.0,
    )
    assert cut.replay_of == {2: 1, 3: 1}
    assert (cut.spans[1], cut.spans[-1]) == ((0.0, 4), (96, 100.0))


def test_moments_become_clips_and_a_second_run_looks_at_nothing(
    tiny_bundle, tmp_path, monkeypatch
) -> None:
    bundle = shutil.copytree(tiny_bundle, tmp_path / "bundle")
    torch.manual_seed(0)
    head = MomentHead(MomentConfig(width=8, duration_s=(0.5, 3.0))).eval()
    save_moment_head(bundle, head)
    (tmp_path / "videos").mkdir()
    video = write_video(tmp_path / "videos" / "a.mp4", 1, num_frames=100)
    found = [moment(0.4, 1.5), moment(1.9, 3.9, is_replay=True, score=0.95)]
    seen = []

    def find_moments(curves_TK, times_s, **settings):
        seen.append((curves_TK.shape, times_s[1] - times_s[0], settings))
        return found

    monkeypatch.setattr(moments_module, "find_moments", find_moments)
    config = SplitConfig(
        videos=str(tmp_path / "videos"),
        out=tmp_path / "clips.parquet",
        cut=CutSettings(by="moments"),
        bundle=bundle,
        num_workers=1,
    )
    assert split_videos(config).num_cut_now == 1
    assert seen == [
        ((34, 4), pytest.approx(0.12), {"duration_s": (0.5, 3.0), "min_score": 0.5})
    ]  # every third frame of 25 a second
    live, replay = read_clips(config.out)
    assert (live.clip_id, live.attributes) == ("a.mp4@0.400-1.500", {})
    assert (replay.start_s, replay.end_s, replay.attributes) == (1.9, 3.9, {REPLAY_OF: live.clip_id})  # fmt: skip
    assert best_span(bundle, str(video), MediaLimits(), deadline_s=60) == (1.9, 3.9)
    assert best_span(bundle, str(bundle / "card.json"), MediaLimits(), deadline_s=60) is None
    assert split_videos(config).num_cut_now == 0
    again = replace(head.config, min_score=0.6)
    save_moment_head(bundle, MomentHead(again))
    found.clear()
    with pytest.raises(ValueError, match="no moments in 1 videos"):
        split_videos(config)  # another head: it looks again


def test_moments_and_a_bundle_go_together(tmp_path) -> None:
    message = "--by moments needs --bundle, and nothing else takes"
    with pytest.raises(ValueError, match=message):
        SplitConfig(videos="v", out=tmp_path / "c.parquet", cut=CutSettings(by="moments"))
    with pytest.raises(ValueError, match=message):
        SplitConfig(videos="v", out=tmp_path / "c.parquet", bundle=tmp_path)
