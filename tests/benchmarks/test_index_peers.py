from pathlib import Path

import numpy as np
import pytest

from benchmarks import index, index_peers
from benchmarks.dives.video import write_video
from benchmarks.index_decode import moving_pictures
from benchmarks.index_peers import (
    Plan,
    available_peers,
    decode_all,
    decode_planned_packets,
    missing_peers,
    seek_per_clip,
)


def test_every_way_decodes_no_less_than_the_plan_and_the_full_way_everything(
    tmp_path: Path,
) -> None:
    path = tmp_path / "video.mp4"
    write_video(path, moving_pictures(60, (48, 64), 1), codec="h264")
    numbers = [np.array([3, 9, 15]), np.array([20, 26, 30])]
    for resize in ("swscale_area", "pillow_bicubic"):
        plan = Plan(numbers=numbers, size=32, resize=resize)
        assert decode_all(path, plan) == 60
        assert seek_per_clip(path, plan) == 16 + 31  # from the only keyframe, to each clip's last
        assert 6 <= decode_planned_packets(path, plan) <= 40


def test_a_record_without_its_peers_is_refused_before_anything_is_measured(
    tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(index, "missing_peers", lambda: {"torchcodec": "does not load: no FFmpeg"})
    with pytest.raises(
        ImportError, match=r"\(torchcodec: does not load: no FFmpeg\); .*'\.\[bench\]'"
    ):
        index.main(["--parts", "decode", "--work-dir", str(tmp_path / "work")])
    assert not (tmp_path / "work").exists()


def test_a_peer_that_does_not_load_is_named_with_its_reason(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "broken_peer.py").write_text("raise OSError('libavutil.so: no such file')")
    monkeypatch.syspath_prepend(str(tmp_path))
    ways = {"broken": ("broken_peer", decode_all), "gone": ("no_such_peer.part", decode_all)}
    monkeypatch.setattr(index_peers, "_OPTIONAL", ways)
    assert missing_peers() == {
        "broken": "does not load: libavutil.so: no such file",
        "gone": "not installed",
    }
    assert list(available_peers()) == ["pyav_seek", "pyav_full"]
