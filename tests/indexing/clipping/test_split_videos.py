"""Videos without labels become clips: windows or shots, none of it lost, and a second run does nothing."""

import json
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from encoders.clips import read_clips
from indexing.clipping import cut_video
from indexing.clipping import split_videos as split_videos_module
from indexing.clipping.cut_video import CutSettings
from indexing.clipping.split_videos import SplitConfig, split_videos


def write_video(path: Path, *, shots: tuple[int, ...]) -> Path:
    """Frames per shot, 25 of them a second; every shot is a picture of its own, drifting."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        number = 0
        for seed, count in enumerate(shots):
            picture = np.random.default_rng(seed).integers(0, 255, (4, 40, 3), dtype=np.uint8)
            picture = picture.repeat(16, axis=0).repeat(16, axis=1)
            for step in range(count):
                seen = np.ascontiguousarray(picture[:, step : step + 96])
                frame = av.VideoFrame.from_ndarray(seen, "rgb24")
                frame.pts, frame.time_base = number, Fraction(1, 25)
                container.mux(stream.encode(frame))
                number += 1
        container.mux(stream.encode(None))
    return path


def test_shots_of_real_files_and_bad_ones_beside_them(tmp_path) -> None:
    videos = tmp_path / "videos"
    write_video(videos / "a" / "cut.mp4", shots=(50, 75, 25))
    write_video(videos / "b.mp4", shots=(30,))
    write_video(videos / "still.mp4", shots=(1,))
    (videos / "text.mp4").write_text("no video")
    config = SplitConfig(
        videos=str(videos),
        out=tmp_path / "clips.parquet",
        cut=CutSettings(by="shots"),
        num_workers=2,
    )
    summary = split_videos(config)
    assert (summary.num_videos, summary.num_cut_now, summary.num_clips) == (4, 4, 4)
    clips = {clip.clip_id: clip for clip in read_clips(config.out)}
    assert list(clips) == [
        "a/cut.mp4@0.000-2.000", "a/cut.mp4@2.000-5.000", "a/cut.mp4@5.000-6.000", "b.mp4@0.000-1.200",
    ]  # fmt: skip
    first = clips["a/cut.mp4@2.000-5.000"]
    assert (first.video_uri, first.start_s, first.end_s, first.label) == (
        str(videos / "a" / "cut.mp4"), 2.0, 5.0, None,
    )  # fmt: skip
    problems = (tmp_path / "clips.problems.txt").read_text().splitlines()
    assert [line.split(": ")[:2] for line in problems] == [
        [str(videos / "still.mp4"), "too_short"],
        [str(videos / "text.mp4"), "container_not_allowed"],
    ]


def test_the_same_command_cuts_only_what_is_new(tmp_path, monkeypatch) -> None:
    videos = tmp_path / "videos"
    write_video(videos / "a.mp4", shots=(100,))
    config = SplitConfig(
        videos=str(videos), out=tmp_path / "clips.parquet", cut=CutSettings(length_s=2.0)
    )
    assert split_videos(config).num_cut_now == 1
    ledger = tmp_path / "clips.split.jsonl"
    ledger.write_text(ledger.read_text() + '{"uri": "torn')
    write_video(videos / "b.mp4", shots=(100,))
    assert split_videos(config).num_cut_now == 1
    assert len(read_clips(config.out)) == 4
    monkeypatch.setattr(
        cut_video.IsolatedTimeline, "iter_blocks", lambda *_: pytest.fail("it decodes")
    )
    assert split_videos(config).num_cut_now == 0
    monkeypatch.undo()
    write_video(videos / "a.mp4", shots=(50,))  # another content: cut again
    assert split_videos(config).num_cut_now == 1
    longer = SplitConfig(videos=str(videos), out=config.out)  # another way: all
    assert split_videos(longer).num_cut_now == 2
    assert [c.clip_id for c in read_clips(config.out)] == ["a.mp4@0.000-2.000", "b.mp4@0.000-4.000"]


def test_a_killed_run_keeps_the_videos_that_it_cut(tmp_path, monkeypatch) -> None:
    for name in "abc":
        write_video(tmp_path / "videos" / f"{name}.mp4", shots=(50,))
    config = SplitConfig(
        videos=str(tmp_path / "videos"), out=tmp_path / "clips.parquet", num_workers=1
    )
    add, added = split_videos_module._Ledger.add, []

    def die_at_the_second(ledger, uri, *rest) -> None:
        if len(added) == 1:
            raise KeyboardInterrupt
        add(ledger, uri, *rest)
        added.append(uri)

    monkeypatch.setattr(split_videos_module._Ledger, "add", die_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        split_videos(config)
    assert not config.out.exists()
    monkeypatch.undo()
    assert split_videos(config).num_cut_now == 2
    lines = [json.loads(line) for line in config.out.with_suffix(".split.jsonl").read_text().splitlines()]  # fmt: skip
    assert len({line["uri"] for line in lines}) == 3


def test_what_cannot_be_cut_is_said(tmp_path) -> None:
    (tmp_path / "bad.mp4").write_bytes(b"\0" * 64)
    with pytest.raises(ValueError, match=r"none of 1 videos can be cut; .*bad\.mp4: "):
        split_videos(SplitConfig(videos=str(tmp_path), out=tmp_path / "clips.parquet"))
    with pytest.raises(ValueError, match="num_workers is 0; it must be above 0"):
        SplitConfig(videos="x", out=tmp_path / "c.parquet", num_workers=0)
