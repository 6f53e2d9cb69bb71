"""Headers of pictures, written by hand and by encoders: hidden frames, the order of showing, and keyframes that are none."""

from contextlib import closing

import av
import pytest

from encoders.decoding.pyav_video import PyavVideo
from encoders.media.container import MediaLimits
from encoders.media.picture_headers import is_shown_av1, is_shown_vp8, is_shown_vp9, picture_reader

AVCC = bytes.fromhex("01 64 00 0a ff")  # lengths of 4 bytes
AVCC_SHORT = bytes.fromhex("01 64 00 0a fd")  # of 2 bytes


def packet(*units: str, length_size: int = 4) -> memoryview:
    chunks = [bytes.fromhex(unit) for unit in units]
    return memoryview(b"".join(len(c).to_bytes(length_size, "big") + c for c in chunks))


@pytest.mark.parametrize(
    ("units", "is_clean"),
    [
        (["65 88 84"], True),  # IDR
        (["06 06 01 c4 80", "41 9a 00"], True),  # recovery_frame_cnt 0: bit 1 first
        (["06 06 01 24 80", "41 9a 00"], False),  # recovery_frame_cnt 3
        (["06 05 02 aa bb 06 01 24 80", "41 9a 00"], False),  # after another message
        (["06 05 ff 01" + "aa" * 256 + "06 01 24 80", "41 9a 00"], False),  # after a long one
        (["09 10", "06 06 01 24 80", "65 88"], False),
        (["41 9a 00"], True),  # nothing said: the container's word holds
        ([], True),
    ],
)
@pytest.mark.parametrize(("extradata", "length_size"), [(AVCC, 4), (AVCC_SHORT, 2)])
def test_recovery_points(units, is_clean, extradata, length_size):
    data = packet(*units, length_size=length_size)
    assert picture_reader("h264", extradata)(data).is_clean_start is is_clean
    assert picture_reader("hevc", None)(data).is_clean_start


def test_lengths_that_lie_end_the_search():
    assert picture_reader("h264", AVCC)(memoryview(bytes.fromhex("ffffffff 41 9a"))).is_clean_start
    assert picture_reader("h264", AVCC)(
        memoryview(bytes.fromhex("00000003 06 06 ff"))
    ).is_clean_start
    assert picture_reader("h264", AVCC)(
        memoryview(bytes.fromhex("00000000 00000000 00"))
    ).is_clean_start


def test_vp8_hidden_frames():
    assert is_shown_vp8(memoryview(b"\x10"))
    assert not is_shown_vp8(memoryview(b"\x01"))


@pytest.mark.parametrize(
    ("params", "has_false", "num_starts"),
    [("intra-refresh=1", True, 1), ("open-gop=1", False, 5), ("scenecut=0", False, 5)],
)
def test_real_files(make_video, params, has_false, num_starts):
    options = {"g": "12", "bf": "2", "preset": "veryfast", "x264-params": params}
    path = make_video("keys.mp4", num_frames=60, options=options)
    with closing(PyavVideo(path, MediaLimits())) as video:
        assert video.has_false_keyframes is has_false
        assert int(video.index.is_keyframe_P.sum()) == num_starts


@pytest.mark.parametrize(
    ("codec", "options", "name"),
    [
        ("libx264", {"g": "12", "bf": "3"}, "a.mp4"),
        ("libx264", {"g": "30", "bf": "8", "x264-params": "b-pyramid=normal:b-adapt=0"}, "b.mkv"),
        ("libx264", {"g": "12", "bf": "3", "x264-params": "open-gop=1"}, "c.ts"),
        ("libx264", {"g": "12", "bf": "2", "x264-params": "interlaced=1"}, "d.mp4"),
        ("libx264", {"g": "12", "bf": "0"}, "e.mp4"),
        ("libx265", {"x265-params": "keyint=12:bframes=4:log-level=none"}, "f.mp4"),
        ("libx265", {"x265-params": "keyint=12:bframes=3:log-level=none"}, "g.ts"),
        ("mpeg2video", {"g": "12", "bf": "2"}, "h.ts"),
        ("mpeg4", {"g": "12", "bf": "2"}, "i.mp4"),
        ("libvpx-vp9", {"g": "12"}, "j.webm"),
    ],
)
def test_the_order_of_showing_is_the_one_that_the_times_have(make_video, codec, options, name):
    path = make_video(name, codec=codec, options=options, num_frames=70)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        name = stream.codec_context.codec.canonical_name
        read = picture_reader(name, stream.codec_context.extradata)
        pictures = [(read(memoryview(p)), p.pts) for p in container.demux(stream) if p.size]
    shown = [(picture.order, pts) for picture, pts in pictures if picture.is_shown]
    assert None not in [order for order, _ in shown]
    assert sorted(shown) == sorted(shown, key=lambda pair: pair[1])


@pytest.mark.parametrize(
    ("first", "is_shown"),
    [
        (0b10_00_0_0_1_0, True),
        (0b10_00_0_1_0_0, False),
        (0b10_00_1_0_0_0, True),  # shows an earlier frame
        (0b10_11_0_0_0_1, True),  # profile 3 has a reserved bit
        (0b10_11_0_0_0_0, False),
    ],
)
def test_vp9_hidden_frames(first, is_shown):
    assert is_shown_vp9(memoryview(bytes([first, 0, 0]))) is is_shown


def test_a_vp9_superframe_is_shown_if_one_of_its_frames_is():
    hidden, shown, marker = bytes([0b10000000, 1]), bytes([0b10000010, 1, 1]), 0b110_00_001
    for frames, expected in (((hidden, shown), True), ((hidden, hidden), False)):
        index = bytes([marker, *(len(frame) for frame in frames), marker])
        assert is_shown_vp9(memoryview(b"".join(frames) + index)) is expected


@pytest.mark.parametrize(
    ("units", "is_shown"),
    [
        ("12 00 32 01 10", True),  # a frame with show_frame
        ("12 00 32 01 00", False),
        ("1a 01 80", True),  # a frame header that shows an earlier frame
        ("32 01 00 32 01 10", True),
        ("30 00", False),  # without a size
        ("12 00", True),  # no frame header at all
    ],
)
def test_av1_hidden_frames(units, is_shown):
    assert is_shown_av1(memoryview(bytes.fromhex(units))) is is_shown


@pytest.mark.parametrize("codec", ["h264", "hevc", "mpeg2video", "mpeg4", "vp9", "av1", "vc1"])
def test_noise_is_read_without_an_error(codec):
    import random

    draw = random.Random(codec)
    starts = (b"\0\0\1\x67", b"\0\0\1\x65", b"\0\0\1\x42\1", b"\0\0\1\x44\1", b"\0\0\1\0", b"")
    for _ in range(300):
        read = picture_reader(codec, draw.choice(starts) + draw.randbytes(draw.randrange(40)))
        for _ in range(4):
            data = draw.choice(starts) + draw.randbytes(draw.randrange(1, 60))
            read(memoryview(data))
