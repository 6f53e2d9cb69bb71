"""Two hours of 1080p in one file: its clips are found at their places, in the memory that a short file takes."""

import json
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from benchmarks.throughput.growth import index_measured
from encoders.backends.registry import open_backend
from encoders.bundle.card import read_card
from encoders.clips import Clip, write_clips
from encoders.decoding.decode import decode_clips
from encoders.media.frame_index import Span
from indexing.ledger.summary import SUMMARY
from indexing.store.collection import open_collection

FPS, PIECE_S, NUM_PIECES = 25, 10, 720
NUM_CLIPS = 24
MAX_PEAK_BYTES = 3 * 10**9


def write_piece(path: Path) -> Path:
    """10 s at 1920x1080 whose picture says which second it is."""
    with av.open(str(path), "w") as container:
        options = {"preset": "ultrafast", "g": str(FPS), "threads": "2"}
        stream = container.add_stream("libx264", rate=FPS, options=options)
        stream.width, stream.height, stream.pix_fmt = 1920, 1080, "yuv420p"
        for second in range(PIECE_S):
            blocks = np.random.default_rng(second).integers(0, 255, (9, 16, 3)).astype(np.uint8)
            picture = blocks.repeat(120, 0).repeat(120, 1)
            for turn in range(FPS):
                shifted = np.roll(picture, 8 * turn, axis=1)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(shifted, format="rgb24")))
        container.mux(stream.encode())
    return path


def repeat_by_stream_copy(piece: Path, path: Path, times: int) -> Path:
    """The same packets again and again, with later times; nothing is encoded."""
    with av.open(str(piece)) as source, av.open(str(path), "w") as container:
        given = source.streams.video[0]
        stream = container.add_stream_from_template(given)
        assert given.time_base is not None
        packets = [
            (bytes(packet), packet.pts, packet.dts, packet.is_keyframe)
            for packet in source.demux(given)
            if packet.pts is not None
        ]
        step = round(Fraction(PIECE_S) / given.time_base)
        for turn in range(times):
            for content, pts, dts, is_keyframe in packets:
                packet = av.Packet(content)
                packet.pts, packet.dts = pts + turn * step, dts + turn * step
                packet.time_base, packet.stream = given.time_base, stream
                packet.is_keyframe = is_keyframe
                container.mux(packet)
    return path


@pytest.mark.long
def test_two_hours_of_1080p_stay_below_three_gigabytes(tmp_path: Path, tiny_bundle: Path) -> None:
    piece = write_piece(tmp_path / "piece.mp4")
    video = repeat_by_stream_copy(piece, tmp_path / "long.mp4", NUM_PIECES)
    # In different pieces, each from another second of it.
    starts_s = [
        float(PIECE_S * (i * (NUM_PIECES - 1) // (NUM_CLIPS - 1)) + i % (PIECE_S - 1))
        for i in range(NUM_CLIPS)
    ]
    clips = [
        Clip(clip_id=f"{i:02d}", video_uri=str(video), start_s=start_s, end_s=start_s + 1)
        for i, start_s in enumerate(starts_s)
    ]
    write_clips(tmp_path / "clips.parquet", clips)
    assert 0 < index_measured(tiny_bundle, tmp_path) < MAX_PEAK_BYTES

    summary = json.loads((tmp_path / "run" / SUMMARY).read_text())
    assert (summary["written"], summary["dead"]) == (NUM_CLIPS, 0)
    # Each span costs its groups of pictures of one second, not the way to it.
    assert summary["frames_decoded"] <= NUM_CLIPS * 3 * FPS
    card, encoder = read_card(tiny_bundle), open_backend(tiny_bundle, "onnx")
    with open_collection(str(tmp_path / "milvus"), "clips") as collection:
        collection.check(encoder_id=card.encoder_id)
        stored = {
            row["clip_id"]: row["embedding"] for row in collection.rows(("clip_id", "embedding"))
        }
    for clip in clips:
        start_s = clip.start_s % PIECE_S
        span = Span(start_s=start_s, end_s=start_s + 1)
        frames_NTHWC = decode_clips(str(piece), [span], card.sampling).frames_NTHWC
        expected_D = encoder.embed_clips(frames_NTHWC)[0]
        np.testing.assert_allclose(stored[clip.clip_id], expected_D, atol=1e-5)
