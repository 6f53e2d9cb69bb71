"""One stage for decoding and encoding gives the rows of the two, whatever happens to a video on the way."""

import shutil
import textwrap
from contextlib import ExitStack
from dataclasses import replace
from itertools import chain

import numpy as np
import pytest

from encoders.backends.registry import open_backend
from encoders.bundle.card import read_card
from encoders.decoding.request import DecodeRequest
from encoders.media.errors import DecodeError, DecodeSetupError
from encoders.media.frame_index import Span
from encoders.stages.base import clip_rows_of
from encoders.stages.decode_embed_stage import VectorStage
from encoders.stages.decode_embed_worker import iter_encoded_spans
from encoders.stages.decode_stage import DecodeStage
from encoders.stages.encode_request import EncodeRequest, EncoderOptions

VP9 = {"codec": "libvpx-vp9", "options": {"g": "20", "cpu-used": "8"}}
CLIPS = [("late", 3, 4), ("outside", 30, 40), ("early", 0, 1), ("middle", 1, 2)]


def reason_of(row) -> str:
    return row["error"]["reason"]


def video_row(video, clips) -> dict:
    return {
        "video_uri": str(video),
        "clip_ids": [clip_id for clip_id, _, _ in clips],
        "spans": [{"start_s": start_s, "end_s": end_s} for _, start_s, end_s in clips],
        "shard": 7,
    }


def all_rows(stage, row) -> dict[str, dict]:
    """All rows of a video, and of what waited before it."""
    clips = stage.clips(row["video_uri"], clip_rows_of(row))
    return {one["clip_id"]: one for one in chain(clips, stage.flush())}


@pytest.fixture
def make_stage(exported_video_bundle):
    stages = []

    def make(**options) -> VectorStage:
        encode = {"bundle_dir": str(exported_video_bundle), "backend": "onnx", "num_threads": 1}
        encode |= {name: options.pop(name) for name in ("batch_size", "backend") if name in options}
        card = read_card(exported_video_bundle)
        options = {"backend": options.pop("decode", "pyav")} | options
        stage = VectorStage(sampling=card.sampling, encode=EncoderOptions(**encode), **options)
        stages.append(stage)
        return stage

    yield make
    for stage in stages:
        stage.close()


@pytest.mark.parametrize(
    ("decode", "spec", "backend", "batch_size"),
    [("pyav", {}, "onnx", 2), ("dali", VP9, "torch", 1), ("dali", VP9, "onnx", 8)],
)
def test_the_rows_are_those_of_two_stages(
    exported_video_bundle, make_stage, make_video, decode, spec, backend, batch_size
):
    if decode == "dali":
        pytest.importorskip("nvidia.dali", reason="the extra `dali` is not installed")
    video = make_video(f"{decode}.mp4", num_frames=100, **spec)
    stage = make_stage(decode=decode, batch_size=batch_size, backend=backend)
    rows = all_rows(stage, video_row(video, CLIPS))
    two = DecodeStage(sampling=read_card(exported_video_bundle).sampling, backend=decode)
    expected = {row["clip_id"]: row for row in two(video_row(video, CLIPS))}
    assert rows.keys() == expected.keys()
    assert len({tuple(sorted(row)) for row in rows.values()}) == 1
    encoder = open_backend(exported_video_bundle, "torch")
    for clip_id, one in expected.items():
        row = rows[clip_id]
        assert (reason_of(row), row["decode_backend"]) == (
            reason_of(one),
            one["decode_backend"],
        )
        assert (row["shard"], row["frames_used"]) == (7, one["frames_used"])
        if reason_of(one):
            assert not row["embedding"].any()
            continue
        assert (row["embed_backend"], row["embed_precision"]) == (backend, "float32")
        assert row["embed_ceiling_per_s"] > 0
        assert row["canary_min_cosine"] > 0.999
        vector = encoder.embed_clips(one["frames"][None])[0]
        np.testing.assert_allclose(row["embedding"], vector, atol=1e-5)
    assert sum(row["frames_decoded"] for row in rows.values()) == sum(
        row["frames_decoded"] for row in expected.values()
    )
    assert stage.busy_clock_s() > 0
    (again,) = stage([video_row(video, CLIPS[:1])])
    assert again["clip_id"] == "late"


def test_clips_of_several_videos_share_batches(exported_video_bundle, make_stage, make_video):
    """Three videos of two clips in batches of four: two batches, and every clip has the vector of its own frames."""
    videos = [make_video(f"{n}.mp4", num_frames=60 + 10 * n) for n in range(3)]
    given = [video_row(video, [(f"{n}a", 0, 1), (f"{n}b", 1, 2)]) for n, video in enumerate(videos)]
    stage = make_stage(batch_size=4)
    ready = []
    for n, row in enumerate(given):
        for one in stage.clips(row["video_uri"], clip_rows_of(row)):
            ready.append((n, one["clip_id"]))
    # The first full batch comes with the second video.
    assert sorted(ready) == [(1, "0a"), (1, "0b"), (1, "1a"), (1, "1b")]
    assert sorted(row["clip_id"] for row in stage.flush()) == ["2a", "2b"]
    assert list(stage.flush()) == []

    found = {row["clip_id"]: row for row in stage(given)}
    expected = {row["clip_id"]: row for one in given for row in stage([one])}
    assert found.keys() == expected.keys()
    for clip_id, row in found.items():
        assert row["video_uri"] == expected[clip_id]["video_uri"]
        assert row["frames_decoded"] == expected[clip_id]["frames_decoded"] > 0
        np.testing.assert_allclose(row["embedding"], expected[clip_id]["embedding"], atol=1e-6)
    vectors = np.stack([row["embedding"] for row in found.values()])
    assert len(np.unique(vectors.round(4), axis=0)) > 1


def test_a_bad_video_between_good_ones_costs_only_itself(tmp_path, make_stage, make_video):
    (tmp_path / "text.mp4").write_text("no video at all, however long the text is")
    good = [make_video(f"{n}.mp4", num_frames=60) for n in range(2)]
    given = [
        video_row(good[0], [("0a", 0, 1)]),
        video_row(tmp_path / "text.mp4", [("bad", 0, 1)]),
        video_row(good[1], [("1a", 0, 1), ("outside", 50, 60)]),
    ]
    rows = {row["clip_id"]: reason_of(row) for row in make_stage(batch_size=8)(given)}
    assert rows == {
        "0a": "",
        "bad": "container_not_allowed",
        "1a": "",
        "outside": "span_outside_video",
    }


PLANTED = """
import os, time
from encoders.stages import decode_embed_worker
from encoders.media.errors import DecodeError, DeviceLostError

real = decode_embed_worker.iter_spans

def faulty(request):
    for span in real(request):
        if request.spans[span.number].start_s == 2 and "FAULT" in request.video:
            if "abort" in request.video: os.abort()
            if "hang" in request.video: time.sleep(1000)
            if "gpu" in request.video: raise DeviceLostError("CUDA error: unspecified launch failure")
            raise DecodeError("corrupt_container", "planted")
        yield span

decode_embed_worker.iter_spans = faulty
iter_encoded_spans = decode_embed_worker.iter_encoded_spans
"""
# As on a GPU: several videos at once, and the encoder beside them.
AHEAD = """
decode_embed_worker.overlaps = lambda device: True
"""


NO_MEMORY = """
from encoders.stages import decode_embed_worker

video = ""

def iter_encoded_spans(request):
    global video
    video = request.decode.video or video  # what is flushed names none
    yield from decode_embed_worker.iter_encoded_spans(request)

class HostFrames(decode_embed_worker.HostFrames):
    def embed(self, backend, frames):
        if (len(frames) > 1 and video) or "LARGE" in video:
            raise RuntimeError("Failed to allocate memory for requested buffer")
        return super().embed(backend, frames)

decode_embed_worker.HostFrames = HostFrames
"""


@pytest.fixture
def make_faulty_stage(tmp_path, monkeypatch, make_stage):
    """Its process dies, hangs or fails at the clip that starts at 2 s, if the video's name says so."""
    (tmp_path / "planted.py").write_text(textwrap.dedent(PLANTED))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setitem(
        VectorStage.__init__.__globals__, "ENCODE_FUNCTION", "planted:iter_encoded_spans"
    )
    return lambda: make_stage(deadline_s=4.0)


@pytest.fixture(params=["in turn", "ahead"])
def is_ahead(request, tmp_path, monkeypatch, make_faulty_stage) -> bool:
    if request.param == "in turn":
        return False
    (tmp_path / "planted.py").write_text(textwrap.dedent(PLANTED + AHEAD))
    monkeypatch.setattr("encoders.stages.decode_embed_stage.overlaps", lambda _device: True)
    return True


@pytest.mark.parametrize(
    ("fault", "reason", "is_next_alive"),
    [
        ("abort", "decoder_crashed", True),
        ("hang", "decode_timeout", True),
        ("gpu", "decoder_crashed", True),
        ("error", "corrupt_container", False),  # of the file itself, as it is told
    ],
)
def test_a_fault_costs_no_neighbour(
    tmp_path, make_faulty_stage, is_ahead, make_video, fault, reason, is_next_alive
):
    """Neither those of its video, before and after it, nor those of an earlier one that waited for a full batch."""
    stage = make_faulty_stage()
    good = make_video("good.mp4", num_frames=100)
    bad = shutil.copy(good, tmp_path / f"FAULT-{fault}.mp4")
    clips = [("a", 0, 1), ("b", 1, 2), ("c", 2, 3), ("d", 3, 4)]
    opened = ExitStack()
    closed = []
    opened.callback(closed.append, "good")
    waiting = clip_rows_of(video_row(good, [("before", 1, 2)]))
    assert list(stage.clips(str(good), waiting, opened=opened)) == []
    assert closed == ([] if is_ahead else ["good"])  # it may still be decoded
    rows = all_rows(stage, video_row(bad, clips))
    assert {name: reason_of(row) for name, row in rows.items()} == {
        "before": "",
        "a": "",
        "b": "",
        "c": reason,
        "d": "" if is_next_alive else reason,
    }
    assert all(row["frames_decoded"] >= 0 for row in rows.values())
    assert closed == ["good"]
    clean = {row["clip_id"]: row for row in stage([video_row(good, clips)])}
    for name in ("a", "b", *(["d"] if is_next_alive else [])):
        np.testing.assert_allclose(rows[name]["embedding"], clean[name]["embedding"], atol=1e-6)
    np.testing.assert_allclose(rows["before"]["embedding"], clean["b"]["embedding"], atol=1e-6)


@pytest.mark.parametrize("is_gone", [False, True])
def test_a_clip_that_waited_when_its_process_died_is_decoded_again(
    tmp_path, make_faulty_stage, make_video, is_gone
):
    """From where its video lies by then: a fetched one had to make room meanwhile."""
    first = tmp_path / "first.mp4"
    shutil.copy(make_video("good.mp4", num_frames=100), first)
    moved = shutil.copy(first, tmp_path / "moved.mp4")
    bad = shutil.copy(first, tmp_path / "FAULT-abort.mp4")
    stage, opened_again = make_faulty_stage(), []

    def open_again(opened: ExitStack) -> str:
        if is_gone:
            raise DecodeError("fetch_failed", "the server is down")
        opened.callback(opened_again.append, "closed")
        opened_again.append("opened")
        return str(moved)

    clip = clip_rows_of(video_row(first, [("waiting", 1, 2)]))
    assert list(stage.clips(str(first), clip, open_again=open_again)) == []
    first.unlink()
    rows = all_rows(stage, video_row(bad, [("c", 2, 3)]))
    assert {name: reason_of(row) for name, row in rows.items()} == {
        "waiting": "fetch_failed" if is_gone else "",
        "c": "decoder_crashed",
    }
    assert rows["waiting"]["error"]["stage"] == ("fetch" if is_gone else "")
    assert opened_again == ([] if is_gone else ["opened", "closed"])


def test_an_encoder_without_memory_costs_a_batch_and_no_clip(
    tmp_path, make_faulty_stage, make_video
):
    """Batches become smaller; a clip that is too much even alone is a dead letter."""
    video = make_video("good.mp4", num_frames=100)
    (tmp_path / "planted.py").write_text(textwrap.dedent(NO_MEMORY))
    stage = make_faulty_stage()
    rows = all_rows(stage, video_row(video, [("a", 0, 1), ("b", 1, 2)]))
    assert {name: reason_of(row) for name, row in rows.items()} == {
        "a": "",
        "b": "",
    }
    large = video_row(shutil.copy(video, tmp_path / "LARGE.mp4"), [("c", 0, 1), ("d", 1, 2)])
    rows = all_rows(stage, large)
    assert {reason_of(row) for row in rows.values()} == {"limit_exceeded"}
    assert "one clip alone: Failed to allocate" in rows["c"]["error"]["detail"]


def test_a_video_whose_every_clip_kills_is_given_up(tmp_path, make_faulty_stage, make_video):
    stage = make_faulty_stage()
    bad = shutil.copy(make_video("good.mp4", num_frames=100), tmp_path / "FAULT-abort.mp4")
    row = video_row(bad, [(f"{n}", 2, 3) for n in range(6)])
    rows = list(stage([row]))
    assert sorted(one["clip_id"] for one in rows) == [f"{n}" for n in range(6)]
    assert {reason_of(one) for one in rows} == {"decoder_crashed"}


def test_each_clip_of_a_file_that_is_not_a_video_fails(tmp_path, make_stage):
    (tmp_path / "text.mp4").write_text("no video at all, however long the text is")
    found = all_rows(make_stage(), video_row(tmp_path / "text.mp4", CLIPS[:2]))
    assert sorted((row["clip_id"], reason_of(row)) for row in found.values()) == [
        ("late", "container_not_allowed"),
        ("outside", "container_not_allowed"),
    ]


def test_a_broken_encoder_ends_the_run(tmp_path, make_stage, exported_video_bundle, make_video):
    with pytest.raises(ValueError, match="'jax' is unknown"):
        make_stage(backend="jax")
    card = read_card(exported_video_bundle)
    request = EncodeRequest(
        decode=DecodeRequest(
            video=str(make_video("a.mp4")),
            spans=(Span(start_s=0, end_s=None),),
            sampling=replace(card.sampling, num_frames=card.sampling.num_frames + 1),
        ),
        encoder=EncoderOptions(bundle_dir=str(exported_video_bundle), backend="torch"),
    )
    with pytest.raises(DecodeSetupError, match="the encoder failed: ValueError: frames are"):
        list(iter_encoded_spans(request))
    with pytest.raises(ValueError, match="batch_size is 0"):
        EncoderOptions(bundle_dir="b", backend="onnx", batch_size=0)
