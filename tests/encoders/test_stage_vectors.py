"""One stage for decoding and encoding gives the rows of the two, whatever happens to a video on the way."""

import shutil
import textwrap
from dataclasses import replace

import numpy as np
import pytest

from encoders.backends import open_backend
from encoders.canaries import read_canaries
from encoders.card import read_card
from encoders.clip_vectors import iter_encoded_spans
from encoders.decode import DecodeRequest, Span
from encoders.encode_request import EncodeRequest
from encoders.media import DecodeSetupError
from encoders.stage_vectors import VectorStage
from encoders.stages import DecodeStage

VP9 = {"codec": "libvpx-vp9", "options": {"g": "20", "cpu-used": "8"}}
CLIPS = [("late", 3, 4), ("outside", 30, 40), ("early", 0, 1), ("middle", 1, 2)]


def video_row(video, clips) -> dict:
    return {
        "video_uri": str(video),
        "clip_ids": [clip_id for clip_id, _, _ in clips],
        "starts_s": np.array([start_s for _, start_s, _ in clips]),
        "ends_s": np.array([end_s for _, _, end_s in clips], float),
        "shard": 7,
    }


def rider(number: int) -> tuple[int, dict]:
    row = {"video_uri": "", "clip_id": f"canary-{number}", "start_s": 0.0, "end_s": 1.0, "shard": 7}
    return number, row


@pytest.fixture
def make_stage(exported_video_bundle):
    stages = []

    def make(**options) -> VectorStage:
        encode = {"bundle_dir": str(exported_video_bundle), "backend": "onnx", "num_threads": 1}
        encode |= {name: options.pop(name) for name in ("batch_size", "backend") if name in options}
        card = read_card(exported_video_bundle)
        options = {"backend": options.pop("decode", "pyav")} | options
        stage = VectorStage(sampling=card.sampling, encode=EncodeRequest(**encode), **options)
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
    stage.ride([rider(3), rider(5)])
    rows = {row["clip_id"]: row for row in stage(video_row(video, CLIPS))}
    two = DecodeStage(sampling=read_card(exported_video_bundle).sampling, backend=decode)
    expected = {row["clip_id"]: row for row in two(video_row(video, CLIPS))}
    assert rows.keys() == expected.keys() | {"canary-3", "canary-5"}
    assert len({tuple(sorted(row)) for row in rows.values()}) == 1
    encoder = open_backend(exported_video_bundle, "torch")
    shape = (1, encoder.card.sampling.num_frames, 16, 16, 3)
    for clip_id, one in expected.items():
        row = rows[clip_id]
        assert (row["dead_reason"], row["decode_backend"]) == (
            one["dead_reason"],
            one["decode_backend"],
        )
        assert (row["shard"], row["frames_used"]) == (7, one["frames_used"])
        if one["dead_reason"]:
            assert not row["embedding"].any()
            continue
        assert (row["embed_backend"], row["embed_precision"]) == (backend, "float32")
        assert row["embed_ceiling_per_s"] > 0
        assert row["canary_min_cosine"] > 0.999
        vector = encoder.embed_clips(np.frombuffer(one["frames"], np.uint8).reshape(shape))[0]
        np.testing.assert_allclose(row["embedding"], vector, atol=1e-5)
    assert sum(row["frames_decoded"] for row in rows.values()) == sum(
        row["frames_decoded"] for row in expected.values()
    )
    assert stage.busy_clock_s() > 0
    _, canaries_ND = read_canaries(exported_video_bundle)
    for number in (3, 5):
        np.testing.assert_allclose(
            rows[f"canary-{number}"]["embedding"], canaries_ND[number], atol=1e-5
        )
    (again,) = stage(video_row(video, CLIPS[:1]))
    assert again["clip_id"] == "late"


PLANTED = """
import os, time
from encoders import clip_vectors
from encoders.media import DecodeError

real = clip_vectors.iter_device_spans

def faulty(request):
    for span in real(request):
        if span.number == len(request.spans) - 1 and "FAULT" in request.video:
            if "abort" in request.video: os.abort()
            if "hang" in request.video: time.sleep(1000)
            raise DecodeError("corrupt_container", "planted")
        yield span

clip_vectors.iter_device_spans = faulty
iter_encoded_spans = clip_vectors.iter_encoded_spans
"""


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("abort", "decoder_crashed"),
        ("hang", "decode_timeout"),
        ("error", "corrupt_container"),
    ],
)
def test_what_was_decoded_before_a_fault_has_its_vector(
    tmp_path, monkeypatch, make_stage, make_video, fault, reason
):
    (tmp_path / "planted.py").write_text(textwrap.dedent(PLANTED))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    real = VectorStage.__init__.__globals__["decoder_for"]
    monkeypatch.setitem(
        VectorStage.__init__.__globals__,
        "decoder_for",
        lambda *a, **b: real(*a, **b | {"decode_function": "planted:iter_encoded_spans"}),
    )
    stage = make_stage(deadline_s=2.0)
    good = make_video("good.mp4", num_frames=100)
    bad = shutil.copy(good, tmp_path / f"FAULT-{fault}.mp4")
    clips = [("a", 0, 1), ("b", 1, 2), ("c", 2, 3)]
    stage.ride([rider(0)])
    rows = {row["clip_id"]: row for row in stage(video_row(bad, clips))}
    assert {name: row["dead_reason"] for name, row in rows.items()} == {
        "a": "",
        "b": "",
        "c": reason,
        "canary-0": "",
    }
    assert all(row["frames_decoded"] >= 0 for row in rows.values())
    clean = {row["clip_id"]: row for row in stage(video_row(good, clips))}
    for name in ("a", "b"):
        np.testing.assert_array_equal(rows[name]["embedding"], clean[name]["embedding"])


def test_a_file_that_is_no_video_costs_no_canary(tmp_path, make_stage):
    (tmp_path / "text.mp4").write_text("no video at all, however long the text is")
    stage = make_stage()
    stage.ride([rider(1)])
    rows = list(stage(video_row(tmp_path / "text.mp4", CLIPS[:2])))
    assert sorted((row["clip_id"], row["dead_reason"]) for row in rows) == [
        ("canary-1", ""),
        ("late", "container_not_allowed"),
        ("outside", "container_not_allowed"),
    ]


def test_a_broken_encoder_ends_the_run(tmp_path, make_stage, exported_video_bundle, make_video):
    with pytest.raises(DecodeSetupError, match="'jax' is unknown"):
        make_stage(backend="jax")
    card = read_card(exported_video_bundle)
    request = DecodeRequest(
        video=str(make_video("a.mp4")),
        spans=(Span(start_s=0, end_s=None),),
        sampling=replace(card.sampling, num_frames=card.sampling.num_frames + 1),
        encode=EncodeRequest(bundle_dir=str(exported_video_bundle), backend="torch"),
    )
    with pytest.raises(DecodeSetupError, match="the encoder failed: ValueError: frames are"):
        list(iter_encoded_spans(request))
    with pytest.raises(ValueError, match="encode is None"):
        list(iter_encoded_spans(replace(request, encode=None)))
    with pytest.raises(ValueError, match="batch_size is 0"):
        EncodeRequest(bundle_dir="b", backend="onnx", batch_size=0)
