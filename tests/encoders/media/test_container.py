"""Hostile files are refused for the right reason, before FFmpeg decodes, and without opening anything else."""

import io
import socket
import sys
import threading
import time

import av
import numpy as np
import pytest

from encoders.decoding.decode import decode_clips
from encoders.media.container import MediaLimits, local_path, sniff_container
from encoders.media.errors import DecodeError
from encoders.media.frame_index import Span
from encoders.media.sampling import SamplingConfig

WHOLE = [Span(start_s=0, end_s=None)]
SAMPLING = SamplingConfig(num_frames=4, frame_size=16)


def reason_for(path, **kwargs) -> str:
    """The reason for the whole video or for its one clip."""
    try:
        error = decode_clips(path, WHOLE, SAMPLING, **kwargs).errors[0]
    except DecodeError as raised:
        error = raised
    assert error is not None, f"{path} decodes"
    return error.reason


def write_audio(path):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=48000)
        for block in range(20):
            silence = np.zeros((1, 1024), np.float32)
            frame = av.AudioFrame.from_ndarray(silence, format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 48000, block * 1024
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def test_each_bad_file_has_its_own_reason(tmp_path, make_video):
    good = make_video("good.mp4").read_bytes()
    (tmp_path / "truncated.mp4").write_bytes(good[: len(good) // 2])
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("dive 107b, take 3\n" * 20)
    write_audio(tmp_path / "audio.mp4")
    (tmp_path / "one.mp4").write_bytes(make_video("one.mp4", num_frames=1).read_bytes())
    (tmp_path / "folder.mp4").mkdir()
    reasons = {path.stem: reason_for(path) for path in tmp_path.iterdir()}
    assert reasons == {
        "truncated": "corrupt_container",
        "empty": "empty_file",
        "text": "container_not_allowed",
        "audio": "no_video_stream",
        "one": "too_short",
        "folder": "fetch_failed",
    }
    assert reason_for(tmp_path / "absent.mp4") == "fetch_failed"
    assert reason_for("https://example.invalid/a.mp4") == "fetch_failed"


@pytest.mark.parametrize(
    ("name", "spec", "limits", "detail"),
    [
        ("a.mp4", {}, {"max_pixels": 64 * 48 - 1}, "max_pixels"),
        ("a.mp4", {}, {"max_frame_rate": 24.0}, "max_frame_rate"),
    ],
)
def test_limits_hold_before_decoding(make_video, monkeypatch, name, spec, limits, detail):
    path = make_video(name, **spec)
    assert decode_clips(path, WHOLE, SAMPLING).errors == (None,)
    monkeypatch.setattr(
        "encoders.decoding.pyav_video.PyavVideo.read_frames", None
    )  # decoding would fail
    with pytest.raises(DecodeError, match=detail) as error:
        decode_clips(path, WHOLE, SAMPLING, limits=MediaLimits(**limits))
    assert error.value.reason == "limit_exceeded"


def test_one_wrong_time_at_the_end_costs_no_span_before_it(make_video):
    """Nor does a header that says what this one time says."""
    gap, limits = {"pts": (*range(49), 100_000)}, MediaLimits(max_duration_s=60.0)
    for name in ("gap.mkv", "gap.mp4"):
        spans = [Span(start_s=0, end_s=1), Span(start_s=0, end_s=None)]
        path = make_video(name, **gap)
        good, too_far = decode_clips(path, spans, SAMPLING, limits=limits).errors
        assert good is None
        assert str(too_far).startswith("limit_exceeded: max_duration_s is 60; the file has 4")


def test_too_many_streams(tmp_path, make_video):
    path = tmp_path / "many.mkv"
    with av.open(str(make_video("a.mp4"))) as source, av.open(str(path), "w") as container:
        streams = [container.add_stream_from_template(source.streams.video[0]) for _ in range(5)]
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = streams[0]
                container.mux(packet)
    assert reason_for(path, limits=MediaLimits(max_streams=4)) == "limit_exceeded"
    assert decode_clips(path, WHOLE, SAMPLING, limits=MediaLimits(max_streams=5)).errors == (None,)


def test_a_codec_outside_the_list(make_video):
    path = make_video("cinepak.avi", codec="cinepak", pix_fmt="rgb24", num_frames=3)
    with pytest.raises(DecodeError, match=r"codec_unsupported: codec cinepak .*ffmpeg -i FILE"):
        decode_clips(path, WHOLE, SAMPLING)


def hls_playlist(*uris: str) -> str:
    segments = "".join(f"#EXTINF:2,\n{uri}\n" for uri in uris)
    return f"#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:2\n{segments}#EXT-X-ENDLIST\n"


@pytest.fixture
def listener():
    """A local server's port, and a call that waits for late connections and tells how many came."""
    connections = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.05)
        stop = threading.Event()

        def accept():
            while not stop.is_set():
                try:
                    connection, address = server.accept()
                except TimeoutError:
                    continue
                connections.append(address)
                connection.close()

        thread = threading.Thread(target=accept)
        thread.start()

        def count_connections(wait_s=0.15):
            time.sleep(wait_s)
            return len(connections)

        yield server.getsockname()[1], count_connections
        stop.set()
        thread.join()


AUDITED: list[tuple[str, str]] | None = None


def _audit(event: str, args: tuple) -> None:
    if AUDITED is not None and event in ("open", "socket.connect", "socket.getaddrinfo"):
        AUDITED.append((event, str(args[0])))


sys.addaudithook(_audit)  # cannot be taken away again; it is deaf outside the one test


@pytest.mark.parametrize("kind", ["hls", "dash", "concat", "sdp"])
def test_a_playlist_named_mp4_opens_nothing(tmp_path, listener, make_video, monkeypatch, kind):
    port, count_connections = listener
    secret = make_video("secret.mp4")
    url = f"http://127.0.0.1:{port}/a.ts"
    text = {
        "hls": hls_playlist(url, secret.as_uri()),
        "dash": f'<?xml version="1.0"?><MPD><BaseURL>{url}</BaseURL></MPD>',
        "concat": f"ffconcat version 1.0\nfile {secret}\nfile {url}\n",
        "sdp": f"v=0\nc=IN IP4 127.0.0.1\nm=video {port} RTP/AVP 96\n",
    }[kind]
    path = tmp_path / "playlist.mp4"
    path.write_text(text)
    decode_clips(secret, WHOLE, SAMPLING)  # imports what must be imported
    monkeypatch.setattr(sys.modules[__name__], "AUDITED", [])
    reason = reason_for(path)
    audited = AUDITED
    monkeypatch.undo()
    assert reason == "container_not_allowed"
    assert [name for event, name in audited or [] if event == "open"] == [str(path)]
    assert count_connections() == 0


def test_a_playlist_past_the_first_check_still_opens_nothing(tmp_path, listener, monkeypatch):
    """The second wall alone: even if the container check let a playlist through, FFmpeg would not follow it."""
    port, count_connections = listener
    path = tmp_path / "playlist.mp4"
    path.write_text(hls_playlist(f"http://127.0.0.1:{port}/a.ts"))
    for name in ("mov", "matroska", "hls"):
        monkeypatch.setattr(
            "encoders.media.packets.sniff_container", lambda file, name=name: (name, False)
        )
        assert reason_for(path) in ("corrupt_container", "no_video_stream")
    assert count_connections() == 0


def test_control_the_listener_sees_an_unguarded_open(tmp_path, listener):
    port, count_connections = listener
    path = tmp_path / "playlist.m3u8"
    path.write_text(hls_playlist(f"http://127.0.0.1:{port}/a.ts"))
    options = {"protocol_whitelist": "file,http,tcp", "extension_picky": "0"}
    with pytest.raises((av.FFmpegError, OSError)):
        av.open(str(path), options=options)
    assert count_connections() > 0, "without the walls the same playlist does connect"


@pytest.mark.parametrize(
    ("name", "options"),
    [("a.mp4", {}), ("faststart.mp4", {"movflags": "faststart"}), ("a.mkv", {}), ("a.webm", {})],
)
def test_a_file_shorter_than_it_says_is_known_from_its_first_bytes(make_video, name, options):
    codec = "libvpx-vp9" if name.endswith("webm") else "libx264"
    whole = make_video(name, codec=codec, container_options=options).read_bytes()
    expected = "mov" if name.endswith("mp4") else "matroska"
    assert sniff_container(io.BytesIO(whole)) == (expected, False)
    num_tags = 0 if name != "a.mp4" else len(whole) - whole.index(b"udta") + 4  # behind its index
    for num_bytes in (len(whole) - num_tags - 1, len(whole) // 2):
        assert sniff_container(io.BytesIO(whole[:num_bytes])) == (expected, True)


def test_rubbish_after_the_end_cuts_nothing(tmp_path, make_video):
    path = tmp_path / "tail.mp4"
    path.write_bytes(make_video("a.mp4").read_bytes() + b"\x7f recorded by nobody")
    assert decode_clips(path, WHOLE, SAMPLING).errors == (None,)


def test_a_first_element_that_ends_beyond_all_files_is_a_cut_off_file():
    head = bytes.fromhex("1a45dfa3 01 fffffffffffffe")
    assert sniff_container(io.BytesIO(head + bytes(100))) == ("matroska", True)


def test_file_uris_are_paths(tmp_path):
    path = tmp_path / "a clip.mp4"
    path.write_bytes(b"x")
    assert local_path(path.as_uri()) == path


def test_an_mp4_that_lost_only_its_tags_is_whole():
    def box(kind: bytes, *parts: bytes) -> bytes:
        body = b"".join(parts)
        return (8 + len(body)).to_bytes(4, "big") + kind + body

    front = box(b"ftyp", bytes(8)) + box(b"mdat", bytes(100))
    track = box(b"trak", bytes(60))
    tags = box(b"udta", bytes(50))
    file = front + box(b"moov", box(b"mvhd", bytes(20)), track, tags)
    after_tracks = len(file) - len(tags)
    for num_bytes in (after_tracks, after_tracks + 4, after_tracks + 20, len(file) - 1):
        assert sniff_container(io.BytesIO(file[:num_bytes])) == ("mov", False)
    for num_bytes in (after_tracks - 1, after_tracks - len(track), len(front) + 10):
        assert sniff_container(io.BytesIO(file[:num_bytes])) == ("mov", True)


def test_a_broadcast_that_begins_amid_damaged_packets_is_known():
    packets = b"".join(b"\x47" + bytes([n]) * 187 for n in range(20))
    for damaged in (packets[100:], b"\x47\0\0" + packets[50:], b"?" * 700 + packets):
        assert sniff_container(io.BytesIO(damaged)) == ("mpegts", False)
    with pytest.raises(DecodeError, match="container_not_allowed"):
        sniff_container(io.BytesIO(b"GGG" + bytes(4000)))
