from pathlib import Path

import numpy as np
import pytest

from benchmarks.dives.video import write_video
from benchmarks.throughput import decode_peers, index
from benchmarks.throughput.decode import measure_decode, moving_pictures
from benchmarks.throughput.decode_peers import (
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
    monkeypatch.setattr(decode_peers, "_OPTIONAL", ways)
    assert missing_peers() == {
        "broken": "does not load: libavutil.so: no such file",
        "gone": "not installed",
    }
    assert list(available_peers()) == ["pyav_seek", "pyav_full"]


def test_a_small_measurement_has_every_figure_of_the_record_and_decodes_less_than_everything(
    tmp_path: Path,
) -> None:
    """Ours stops it where a clip's frames are others than those that the peers decode."""
    figures = measure_decode(num_rounds=1, scale=0.02, folder=tmp_path, say=lambda _line: None)
    for behind in ("", "_pillow"):
        for archive in ("short", "dense", "sparse"):
            assert figures[f"decode_ratio_{archive}{behind}"] > 0
            assert figures[f"decode_best_peer_{archive}{behind}"] in available_peers()
            samples = figures[f"decode_{archive}_clips_per_s{behind}"]
            assert {"ours", *available_peers()} <= samples.keys()
            used, decoded = (
                figures[f"decode_{archive}_frames_{one}{behind}"] for one in ("used", "decoded")
            )
            assert used <= decoded, archive
        assert figures[f"decode_dense_of_libav{behind}"] > 0
        assert figures[f"decode_dense_over_seek{behind}"] > 0
    assert figures["decode_dense_frames_used"] == 4 * 12
    assert figures["decode_sparse_frames_decoded"] < 4 * 25
