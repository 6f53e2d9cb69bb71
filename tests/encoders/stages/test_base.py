"""Rows in, rows out: one row per clip whatever happens to its video, and vectors only for the living."""

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from ray.data._internal.arrow_ops import transform_pyarrow
from ray.data.block import BlockAccessor

from encoders.decoding.decode import decode_clips
from encoders.decoding.isolated import IsolatedDecoder
from encoders.media.frame_index import Span
from encoders.media.sampling import SamplingConfig
from encoders.stages.base import MAX_DECODER_CRASHES_PER_VIDEO, NO_ERROR, ClipError, error_of
from encoders.stages.decode_stage import DecodeStage
from encoders.stages.embed_stage import EmbedStage

SAMPLING = SamplingConfig(num_frames=4, frame_size=16)
ERROR = {"stage": "decode", "reason": "too_short", "detail": "1 frame"}


def reason_of(row) -> str:
    return row["error"]["reason"]


def video_row(video, clips, **passed) -> dict:
    return {
        "video_uri": str(video),
        "clip_ids": [clip_id for clip_id, _, _ in clips],
        "spans": [{"start_s": start_s, "end_s": end_s} for _, start_s, end_s in clips],
        **passed,
    }


def test_one_row_per_clip_with_its_frames_or_its_reason(make_video):
    video = make_video("a.mp4", num_frames=100)
    clips = [("late", 3, 4), ("outside", 30, 40), ("early", 0, 1), ("open", 1, None)]
    stage = DecodeStage(sampling=SAMPLING, isolate=False)
    rows = {row["clip_id"]: row for row in stage(video_row(video, clips, shard=7))}
    assert set(rows) == {"late", "outside", "early", "open"}
    assert {row["shard"] for row in rows.values()} == {7}
    assert {row["video_uri"] for row in rows.values()} == {str(video)}
    dead = rows.pop("outside")
    assert (dead["clip_id"], dead["video_uri"]) == ("outside", str(video))
    error = ClipError(**dead["error"])
    assert (error.stage, error.reason) == ("decode", "span_outside_video")
    assert error.detail
    assert dead["frames"].shape == (4, 16, 16, 3)
    assert not dead["frames"].any()
    for clip_id, start_s, end_s in (("late", 3, 4), ("early", 0, 1), ("open", 1, None)):
        direct = decode_clips(video, [Span(start_s=start_s, end_s=end_s)], SAMPLING)
        np.testing.assert_array_equal(rows[clip_id]["frames"], direct.frames_NTHWC[0])
        assert error_of(rows[clip_id]["error"]) is None
        assert rows[clip_id]["decode_backend"] == "pyav"
        assert rows[clip_id]["decode_busy_s"] > 0


def test_a_bad_video_is_a_dead_letter_for_each_of_its_clips(tmp_path, make_video):
    (tmp_path / "text.mp4").write_text("no video at all, however long the text is")
    stage = DecodeStage(sampling=SAMPLING)
    bad = list(stage(video_row(tmp_path / "text.mp4", [("a", 0, 1), ("b", 1, 2)])))
    assert [(row["clip_id"], reason_of(row)) for row in bad] == [
        ("a", "container_not_allowed"),
        ("b", "container_not_allowed"),
    ]
    (good,) = stage(video_row(make_video("a.mp4", num_frames=100), [("c", 0, 1)]))
    assert not reason_of(good)
    assert good.keys() == bad[0].keys()


@pytest.fixture
def crashing_stage(tmp_path, monkeypatch):
    """Its decoder dies at every clip that starts at 1 s, and counts its deaths."""
    (tmp_path / "planted_crash.py").write_text(
        "import os\nfrom encoders.decoding.decode import iter_spans\n"
        "def crash_at_one(request):\n"
        "    for span in iter_spans(request):\n"
        "        if request.spans[span.number].start_s == 1:\n"
        f"            open({str(tmp_path / 'deaths')!r}, 'a').write('x')\n"
        "            os.abort()\n"
        "        yield span\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    stage = DecodeStage(sampling=SAMPLING)
    decoder = IsolatedDecoder(deadline_s=30, decode_function="planted_crash:crash_at_one")
    monkeypatch.setattr(stage, "_iter_spans", decoder.iter_spans)
    with decoder:
        yield stage


def test_a_crash_costs_no_neighbour(crashing_stage, make_video):
    video = make_video("a.mp4", num_frames=100)
    clips = [("a", 0, 1), ("b", 1, 2), ("c", 2, 3), ("d", 1, 3), ("e", 3, 4)]
    rows = {row["clip_id"]: row for row in crashing_stage(video_row(video, clips))}
    assert {clip_id: reason_of(row) for clip_id, row in rows.items()} == {
        "a": "",
        "b": "decoder_crashed",
        "c": "",
        "d": "decoder_crashed",
        "e": "",
    }
    direct = decode_clips(video, [Span(start_s=3, end_s=4)], SAMPLING)
    np.testing.assert_array_equal(rows["e"]["frames"], direct.frames_NTHWC[0])


def test_a_clip_that_came_before_its_decoder_died_is_alive_and_comes_once(
    tmp_path, monkeypatch, make_video
):
    """As one that is asked for alone: the decoder dies after it gave it back."""
    (tmp_path / "planted_late.py").write_text(
        "import os\nfrom encoders.decoding.decode import iter_spans\n"
        "def crash_after_all(request):\n"
        "    yield from iter_spans(request)\n"
        "    os.abort()\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    stage = DecodeStage(sampling=SAMPLING)
    with IsolatedDecoder(deadline_s=30, decode_function="planted_late:crash_after_all") as decoder:
        monkeypatch.setattr(stage, "_iter_spans", decoder.iter_spans)
        row = video_row(make_video("a.mp4", num_frames=100), [("a", 0, 1), ("b", 50, 60)])
        outcomes = [(one["clip_id"], reason_of(one)) for one in stage(row)]
        assert sorted(outcomes) == [("a", ""), ("b", "span_outside_video")]


def test_a_video_whose_every_clip_kills_is_given_up(crashing_stage, make_video, tmp_path):
    video = make_video("a.mp4", num_frames=100)
    rows = list(crashing_stage(video_row(video, [(f"{n}", 1, 2) for n in range(9)])))
    assert [row["clip_id"] for row in rows] == [f"{n}" for n in range(9)]
    assert {reason_of(row) for row in rows} == {"decoder_crashed"}
    assert (tmp_path / "deaths").read_text() == "x" * (1 + MAX_DECODER_CRASHES_PER_VIDEO)
    (alone,) = crashing_stage(video_row(video, [("alone", 1, 2)]))
    assert reason_of(alone) == "decoder_crashed"
    assert (tmp_path / "deaths").read_text() == "x" * (
        3 + MAX_DECODER_CRASHES_PER_VIDEO
    )  # twice: it may have been a kill


def test_a_fallback_is_in_the_row(make_video):
    pytest.importorskip("nvidia.dali", reason="the extra `dali` is not installed")
    stage = DecodeStage(sampling=SAMPLING, backend="dali", isolate=False)
    (row,) = stage(video_row(make_video("a.mp4", num_frames=100), [("a", 0, 1)]))
    assert row["decode_backend"] == "pyav"
    assert "h264" in row["decode_fallback_reason"]


def test_a_stage_needs_one_frame_size():
    with pytest.raises(ValueError, match="frame_size is None"):
        DecodeStage(sampling=SamplingConfig(num_frames=4, frame_size=None))


@pytest.fixture
def mean_backend(monkeypatch):
    """A backend whose vector is the mean brightness of the clip's four frames."""

    class MeanBackend:
        kind = "mean"
        precision = "float64"
        card = SimpleNamespace(sampling=SAMPLING, embedding_dim=4)

        def embed_clips(self, frames_NTHWC):
            assert frames_NTHWC.shape[1:] == (4, 16, 16, 3)
            assert frames_NTHWC.dtype == np.uint8
            return frames_NTHWC.mean((2, 3, 4)).astype(np.float32)

    module = ModuleType("encoders.backends.registry")
    module.open_backend = lambda bundle_dir, kind, *, device, num_threads: MeanBackend()
    monkeypatch.setitem(sys.modules, "encoders.backends.registry", module)


def test_dead_rows_get_zeros_and_cost_no_embedding(mean_backend):
    rng = np.random.default_rng(0)
    clips = rng.integers(0, 256, (2, 4, 16, 16, 3), np.uint8)
    frames = np.stack([clips[0], np.zeros_like(clips[0]), clips[1]])
    errors = np.array([NO_ERROR, ERROR, NO_ERROR])
    batch = {"clip_id": np.array(["a", "dead", "b"]), "frames": frames, "error": errors}
    out = EmbedStage(bundle_dir="anywhere")(batch)
    assert "frames" not in out
    assert out["clip_id"].tolist() == ["a", "dead", "b"]
    np.testing.assert_allclose(out["embedding"][[0, 2]], clips.mean((2, 3, 4)), rtol=1e-6)
    assert not out["embedding"][1].any()
    assert out["embed_backend"].tolist() == ["mean"] * 3
    assert out["embed_precision"].tolist() == ["float64"] * 3
    assert (out["embed_busy_s"] > 0).all()


def test_a_batch_of_the_dead_alone(mean_backend):
    frames, errors = np.zeros((2, 4, 16, 16, 3), np.uint8), np.array([ERROR, ERROR])
    out = EmbedStage(bundle_dir="anywhere")({"frames": frames, "error": errors})
    assert out["embedding"].shape == (2, 4)


def test_a_row_says_in_one_column_whether_its_clip_is_fine():
    assert error_of(NO_ERROR) is None
    fields = {"stage": "decode", "reason": "too_short", "detail": "none"}
    assert error_of(fields) == ClipError(**fields)


def test_blocks_of_good_and_of_failed_rows_join_after_a_numpy_stage():
    """As in Ray Data: rows to a block, the block to a NumPy batch and back, then blocks of both kinds to one."""
    failed = {"stage": "decode", "reason": "too_short", "detail": "none"}
    span = {"start_s": 0.0, "end_s": None}
    blocks = [
        BlockAccessor.batch_to_block(
            BlockAccessor.for_block(pa.table({"error": [error], "span": [span]})).to_numpy()
        )
        for error in (NO_ERROR, failed)
    ]
    joined = transform_pyarrow.concat(blocks, promote_types=True)
    batch = BlockAccessor.for_block(joined).to_numpy()
    assert [error_of(error) for error in batch["error"]] == [None, ClipError(**failed)]
    assert [Span(**fields) for fields in batch["span"]] == [Span(start_s=0.0, end_s=None)] * 2
