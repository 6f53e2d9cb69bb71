"""Frame exactness against videos whose frames carry their own number, on every kind of file that breaks seeking."""

from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest

from encoders.decoding.decode import decode_clips, iter_timeline
from encoders.decoding.isolated import IsolatedTimeline
from encoders.decoding.pyav_video import PyavVideo
from encoders.decoding.request import TimelineRequest
from encoders.media import packets
from encoders.media.container import MediaLimits
from encoders.media.errors import DecodeError
from encoders.media.frame_index import Span, forget_index
from encoders.media.sampling import SamplingConfig, sample_positions

X264 = {"bf": "3", "preset": "veryfast"}
VFR = tuple(np.cumsum(np.random.default_rng(0).integers(1, 5, 60)).tolist())
KINDS = {
    "gop_250.mp4": {"num_frames": 300, "options": X264 | {"g": "250"}},
    "gop_12.mp4": {"num_frames": 120, "options": X264 | {"g": "12"}},
    "gop_1.mp4": {"num_frames": 120, "options": X264 | {"g": "1"}},
    "open_gop.mp4": {
        "num_frames": 120,
        "options": X264 | {"g": "12", "x264-params": "open-gop=1"},
    },
    "open_gop.mkv": {
        "num_frames": 120,
        "options": X264 | {"g": "12", "x264-params": "open-gop=1"},
    },
    "intra_refresh.mp4": {
        "num_frames": 120,
        "options": X264 | {"g": "12", "x264-params": "intra-refresh=1"},
    },
    "hevc.mp4": {
        "num_frames": 60,
        "codec": "libx265",
        "options": {"x265-params": "keyint=12:bframes=3:log-level=none", "preset": "ultrafast"},
    },
    "vp9_hidden_frames.webm": {
        "num_frames": 60,
        "codec": "libvpx-vp9",
        "options": {"g": "20", "auto-alt-ref": "1", "lag-in-frames": "16", "cpu-used": "8"},
    },
    "vp8.webm": {
        "num_frames": 60,
        "codec": "libvpx",
        "options": {"g": "20", "auto-alt-ref": "1", "lag-in-frames": "16", "cpu-used": "8"},
    },
    "mjpeg.mov": {"num_frames": 60, "codec": "mjpeg", "pix_fmt": "yuvj420p"},
    "mpeg4.mp4": {"num_frames": 60, "codec": "mpeg4", "options": {"bf": "2"}},
    "start_4s.mp4": {"num_frames": 60, "pts": tuple(range(100, 160)), "options": X264},
    "start_4s.mkv": {"num_frames": 60, "pts": tuple(range(100, 160)), "options": X264},
    "odd_size.webm": {"num_frames": 60, "codec": "libvpx-vp9", "width": 63, "height": 47},
    "fragmented.mp4": {
        "num_frames": 60,
        "options": X264 | {"g": "10"},
        "container_options": {"movflags": "frag_keyframe+empty_moov"},
    },
}


def spans_of(num_frames: int, fps: int = 25) -> list[tuple[int, int]]:
    """Frame ranges in an awkward order: late, early, overlapping, whole, two frames."""
    n = num_frames
    return [(3 * n // 4, n - 5), (5, n // 3), (n // 4, n // 2), (0, n), (n - 2, n)]


@pytest.mark.parametrize("name", KINDS)
def test_the_frames_are_the_ones_asked_for(make_video, numbers_in, monkeypatch, name):
    spec = KINDS[name]
    ranges = spans_of(spec["num_frames"])
    spans = [Span(start_s=first / 25, end_s=end / 25) for first, end in ranges]
    sampling = SamplingConfig(num_frames=12, frame_size=None)
    video = make_video(name, **spec)
    # Packets kept from reading the index; sought again, as in a large file; and sought where nobody has read them before, for some
    # containers learn to seek while they are read.
    for kept_bytes, is_read in ((1 << 20, True), (0, True), (0, False)):
        monkeypatch.setattr(packets, "_KEPT_BYTES", kept_bytes)
        if is_read:
            forget_index()
        clips = decode_clips(video, spans, sampling)
        assert clips.errors == (None,) * len(spans)
        for (first, end), frames_THWC, indices in zip(
            ranges, clips.frames_NTHWC, clips.frame_indices_NT, strict=True
        ):
            expected = (first + sample_positions(end - first, 12)).tolist()
            assert indices.tolist() == expected
            assert numbers_in(frames_THWC) == expected


@pytest.mark.parametrize("name", ["vfr.mp4", "vfr.mkv"])
def test_variable_frame_rate_goes_by_time(make_video, numbers_in, name):
    path = make_video(name, num_frames=60, pts=VFR, options=X264)
    span = Span(start_s=1.0, end_s=3.0)
    clips = decode_clips(path, [span], SamplingConfig(num_frames=8, frame_size=None))
    times_s = (np.array(VFR) - VFR[0]) / 25
    inside = np.flatnonzero((times_s >= 1.0) & (times_s < 3.0))
    expected = inside[sample_positions(len(inside), 8)].tolist()
    assert clips.frame_indices_NT[0].tolist() == expected
    assert numbers_in(clips.frames_NTHWC[0]) == expected


def test_frames_before_an_edit_list_are_not_counted(make_video, numbers_in):
    path = make_video("edit.mp4", num_frames=60, pts=tuple(range(-10, 50)), options=X264)
    clips = decode_clips(
        path, [Span(start_s=0, end_s=0.2)], SamplingConfig(num_frames=5, frame_size=None)
    )
    assert clips.frame_indices_NT[0].tolist() == [0, 1, 2, 3, 4]
    assert numbers_in(clips.frames_NTHWC[0]) == [10, 11, 12, 13, 14]


@pytest.mark.parametrize("rotation", [90, 180, 270])
@pytest.mark.parametrize("hflip", [False, True])
def test_rotation_metadata_is_applied(make_video, numbers_in, rotation, hflip):
    path = make_video("turned.mp4", num_frames=20, rotation=rotation, hflip=hflip)
    clips = decode_clips(
        path, [Span(start_s=0, end_s=None)], SamplingConfig(num_frames=20, frame_size=None)
    )
    shown = clips.frames_NTHWC[0]
    assert shown.shape[1:3] == ((64, 48) if rotation in (90, 270) else (48, 64))
    if hflip:
        shown = shown[:, :, ::-1]
    assert numbers_in(np.rot90(shown, -rotation // 90, axes=(1, 2))) == list(range(20))


def test_seeking_pays_only_past_a_keyframe(make_video):
    """100 frames between the spans: GOP 1 decodes only what is used, GOP 12 skips most, one long GOP cannot skip."""
    spans = [Span(start_s=0, end_s=0.4), Span(start_s=4.4, end_s=4.8)]
    sampling = SamplingConfig(num_frames=10, frame_size=16)
    kinds = {"gop_1": "gop_1.mp4", "gop_12": "gop_12.mp4", "gop_250": "gop_250.mp4"}
    decoded = {
        kind: decode_clips(make_video(name, **KINDS[name]), spans, sampling).num_frames_decoded
        for kind, name in kinds.items()
    }
    assert decoded["gop_1"] == 20
    assert 20 <= decoded["gop_12"] <= 30
    assert 20 + 100 // 4 <= decoded["gop_250"] < 120, "every frame that others need, not every B"


def test_frames_that_no_frame_needs_are_not_decoded(make_video):
    no_pyramid = X264 | {"g": "250", "x264-params": "b-pyramid=none:b-adapt=0"}
    path = make_video("bbb.mp4", num_frames=101, options=no_pyramid)  # I BBB P BBB P ...
    clips = decode_clips(
        path, [Span(start_s=0, end_s=None)], SamplingConfig(num_frames=2, frame_size=16)
    )
    assert clips.errors == (None,)
    assert clips.num_frames_decoded <= 101 // 4 + 6


def test_a_decoder_that_loses_the_order_is_asked_again(make_video, monkeypatch, numbers_in):
    """If skipping makes wanted frames vanish, they come from a second pass that skips nothing."""
    path = make_video("gop_12.mp4", **KINDS["gop_12.mp4"])
    read_pass = PyavVideo._read_pass

    def lossy(video, numbers, out_buffer_for, *, is_thorough):
        for number, picture in read_pass(video, numbers, out_buffer_for, is_thorough=is_thorough):
            yield number, None if not is_thorough and number % 2 else picture

    monkeypatch.setattr(PyavVideo, "_read_pass", lossy)
    clips = decode_clips(
        path, [Span(start_s=0, end_s=2)], SamplingConfig(num_frames=12, frame_size=None)
    )
    assert clips.errors == (None,)
    assert numbers_in(clips.frames_NTHWC[0]) == clips.frame_indices_NT[0].tolist()


def test_neighbouring_keyframes_are_read_through(make_video):
    """From one GOP into the next there is nothing to skip: the file is not sought, each frame is decoded once."""
    path = make_video("gop_12.mp4", **KINDS["gop_12.mp4"])
    with closing(PyavVideo(path, MediaLimits())) as video:
        seeks = []
        seek = video._reader.packets_from
        video._reader.packets_from = lambda start, index: seeks.append(start) or seek(start, index)
        assert len(list(video.read_frames([2, 14, 26, 110]))) == 4
    assert seeks == [0, 108]


def test_jitter_draws_other_frames_from_the_same_intervals(make_video, numbers_in):
    path = make_video("gop_12.mp4", **KINDS["gop_12.mp4"])
    spans = [Span(start_s=0, end_s=4)] * 2
    sampling = SamplingConfig(num_frames=10, frame_size=None)
    clips = decode_clips(path, spans, sampling, rng=np.random.default_rng(1))
    again = decode_clips(path, spans, sampling, rng=np.random.default_rng(1))
    np.testing.assert_array_equal(clips.frame_indices_NT, again.frame_indices_NT)
    assert (clips.frame_indices_NT // 10 == np.arange(10)).all()
    assert (clips.frame_indices_NT[0] != clips.frame_indices_NT[1]).any()
    assert numbers_in(clips.frames_NTHWC[1]) == clips.frame_indices_NT[1].tolist()


def test_a_bad_span_leaves_its_neighbours_whole(make_video):
    path = make_video("gop_12.mp4", **KINDS["gop_12.mp4"])
    spans = [
        Span(start_s=0, end_s=1),
        Span(start_s=50, end_s=60),
        Span(start_s=1, end_s=1.04),
        Span(start_s=4, end_s=99),
    ]
    sampling = SamplingConfig(num_frames=4, frame_size=16)
    clips = decode_clips(path, spans, sampling)
    reasons = [error.reason if error else None for error in clips.errors]
    assert reasons == [None, "span_outside_video", "too_short", None]
    assert not clips.frames_NTHWC[1:3].any()
    alone = decode_clips(path, [spans[3]], sampling)
    np.testing.assert_array_equal(clips.frames_NTHWC[3], alone.frames_NTHWC[0])


def test_a_truncated_file_gives_the_clips_before_the_cut(tmp_path, make_video, numbers_in):
    whole = make_video(
        "faststart.mp4", num_frames=120, options=X264, container_options={"movflags": "faststart"}
    ).read_bytes()
    path = tmp_path / "cut.mp4"
    path.write_bytes(whole[: len(whole) * 3 // 4])
    spans = [Span(start_s=0, end_s=1), Span(start_s=1, end_s=4.7), Span(start_s=0, end_s=None)]
    clips = decode_clips(path, spans, SamplingConfig(num_frames=5, frame_size=None))
    reasons = [error.reason if error else None for error in clips.errors]
    assert reasons == [None, "corrupt_container", "corrupt_container"]
    assert numbers_in(clips.frames_NTHWC[0]) == [2, 7, 12, 17, 22]


def test_damaged_packets_cost_only_the_clips_that_need_them(tmp_path, make_video, numbers_in):
    source = make_video("gop_1.mp4", **KINDS["gop_1.mp4"])
    with closing(PyavVideo(source, MediaLimits())) as video:
        places = video.index.places_P2.tolist()
    data = bytearray(source.read_bytes())
    for position, size in places[50:60]:
        data[position : position + size] = bytes(size)
    path = tmp_path / "damaged.mp4"
    path.write_bytes(data)
    spans = [Span(start_s=1, end_s=2), Span(start_s=2, end_s=3), Span(start_s=3, end_s=4)]
    clips = decode_clips(path, spans, SamplingConfig(num_frames=25, frame_size=None))
    reasons = [error.reason if error else None for error in clips.errors]
    assert reasons == [None, "corrupt_container", None]
    assert numbers_in(clips.frames_NTHWC[2]) == list(range(75, 100))


def test_bytes_of_noise_never_raise_anything_else(tmp_path, make_video):
    """Hostile by chance: whatever is overwritten, the answer is frames or a DecodeError."""
    rng = np.random.default_rng(0)
    for name in ("gop_12.mp4", "open_gop.mkv", "vp9_hidden_frames.webm"):
        whole = make_video(name, **KINDS[name]).read_bytes()
        for _ in range(25):
            data = bytearray(whole)
            for _ in range(rng.integers(1, 6)):
                at = int(rng.integers(0, len(data)) * rng.random() ** 3)
                data[at : at + 8] = rng.bytes(8)
            path = tmp_path / "noise"
            path.write_bytes(data)
            try:
                clips = decode_clips(
                    path, [Span(start_s=0, end_s=1)], SamplingConfig(num_frames=3, frame_size=16)
                )
            except DecodeError:
                continue
            assert clips.frames_NTHWC.shape == (1, 3, 16, 16, 3)


def test_bad_arguments_are_named(make_video):
    path = make_video("gop_12.mp4", **KINDS["gop_12.mp4"])
    sampling = SamplingConfig(num_frames=3, frame_size=16)
    with pytest.raises(
        ValueError, match="decode backend is 'decord'; it must be one of pyav, dali"
    ):
        decode_clips(path, [Span(start_s=0, end_s=1)], sampling, backend="decord")
    with pytest.raises(ValueError, match=r"span is \[2, 1\)"):
        Span(start_s=2, end_s=1)
    with pytest.raises(ValueError, match="at least one span"):
        decode_clips(path, [], sampling)


def request(path, *, frames: bool = True, block: int = 16, **limits) -> TimelineRequest:
    return TimelineRequest(
        video=str(path),
        reads_frames=frames,
        frames_per_block=block,
        limits=MediaLimits(**limits),
    )


def test_every_frame_comes_once_in_order_in_a_child_as_here(make_video, numbers_in) -> None:
    path = make_video("all.mp4", num_frames=50, options={"bf": "2", "g": "12"})
    here = list(iter_timeline(request(path)))
    with IsolatedTimeline(deadline_s=60) as decoder:
        there = list(decoder.iter_blocks(request(path)))
    assert [len(block.frame_indices_T) for block in there] == [0, 16, 16, 16, 2]
    assert there[0].frames_THWC is None
    assert there[0].times_s.tolist() == pytest.approx([0, 2.0])
    assert np.concatenate([b.frame_indices_T for b in there]).tolist() == list(range(50))
    assert [n for block in there[1:] for n in numbers_in(block.frames_THWC)] == list(range(50))
    assert there[1].times_s.tolist() == pytest.approx([n / 25 for n in range(17)])
    assert there[-1].times_s.tolist() == pytest.approx([48 / 25, 49 / 25, 2.0])
    for one, other in zip(here, there, strict=True):
        assert one.times_s.tolist() == other.times_s.tolist()


def test_every_so_many_th_frame_comes_with_its_time(make_video, numbers_in) -> None:
    path = make_video("all.mp4", num_frames=50, options={"bf": "2", "g": "12"})
    blocks = list(iter_timeline(replace(request(path), frames_per_s=8.0)))
    wanted = list(range(0, 50, 3))
    assert [n for block in blocks[1:] for n in numbers_in(block.frames_THWC)] == wanted
    assert np.concatenate([b.times_s[:-1] for b in blocks[1:]]) == pytest.approx([n / 25 for n in wanted])  # fmt: skip
    with pytest.raises(ValueError, match="frames_per_s is 0; it must be above 0"):
        replace(request(path), frames_per_s=0)


def test_times_are_those_of_a_variable_rate(make_video) -> None:
    path = make_video("vfr.mp4", num_frames=5, pts=(10, 11, 15, 16, 17))
    first, block = iter_timeline(request(path))
    assert block.times_s.tolist() == pytest.approx([0, 0.04, 0.2, 0.24, 0.28, 0.32])
    assert first.times_s.tolist() == pytest.approx([0, 0.32])


def test_without_frames_only_the_end_is_told(make_video) -> None:
    (only,) = iter_timeline(request(make_video("short.mp4", num_frames=10), frames=False))
    assert only.times_s.tolist() == pytest.approx([0, 0.4])


def test_limits_and_damage_are_those_of_decoding(make_video, tmp_path) -> None:
    with pytest.raises(DecodeError, match="limit_exceeded"):
        list(iter_timeline(request(make_video("long.mp4", num_frames=50), max_duration_s=1)))
    (tmp_path / "no.mp4").write_text("#EXTM3U\nhttp://127.0.0.1/x.ts\n")
    with pytest.raises(DecodeError, match="container_not_allowed"):
        list(iter_timeline(request(tmp_path / "no.mp4")))
