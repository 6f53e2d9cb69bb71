"""Frames come from another process, and a file that is no video costs its own clip alone."""

import numpy as np

from encoders import decode
from encoders.clip_frames import iter_clip_frames
from encoders.clips import Clip
from encoders.media import DecodeError
from encoders.sampling import SamplingConfig


def test_every_clip_comes_with_its_frames_or_its_reason(
    make_video, numbers_in, tmp_path, monkeypatch
):
    (tmp_path / "bad.mp4").write_text("no video")
    good = str(make_video("good.mp4"))
    clips = [
        Clip(clip_id="bad", video_uri=str(tmp_path / "bad.mp4")),
        Clip(clip_id="outside", video_uri=good, start_s=90, end_s=91),
        Clip(clip_id="good", video_uri=good, start_s=0.4, end_s=0.6),
    ]
    monkeypatch.setattr(decode, "_BACKENDS", {})  # nothing can be decoded in this process
    found = list(iter_clip_frames(clips, SamplingConfig(num_frames=5, frame_size=None)))
    assert [clip.clip_id for clip, _ in found] == ["bad", "outside", "good"]
    reasons = [error.reason for _, error in found[:2] if isinstance(error, DecodeError)]
    assert reasons == ["container_not_allowed", "span_outside_video"]
    assert isinstance(found[2][1], np.ndarray)
    assert numbers_in(found[2][1]) == [10, 11, 12, 13, 14]
