"""Decoding and encoding in one process on a GPU: the vectors of the CPU, and resized pictures to the bit."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.gpu.backends import save_random_bundle
from encoders.backends.registry import open_backend
from encoders.decoding.decode import decode_clips
from encoders.decoding.frames.pixels import resize_frame
from encoders.export.config import ExportConfig
from encoders.export.parity import cosines
from encoders.media.frame_index import Span
from encoders.stages.decode_embed_stage import VectorStage
from encoders.stages.encode_request import EncoderOptions

# Its host side is numba and OpenCV.
resize_tensor = pytest.importorskip(
    "encoders.decoding.nvidia.resize", reason="numba or cv2 is missing", exc_type=ImportError
).resize_tensor
export_onnx = pytest.importorskip(
    "encoders.export.onnx_export", reason="the package 'onnx' is missing", exc_type=ImportError
).export_onnx
pytestmark = pytest.mark.needs_gpu
NUM_CLIPS = 6


@pytest.fixture(scope="module")
def bundle_dir(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("bundle") / "random"
    save_random_bundle(folder, "aim_small")
    export_onnx(ExportConfig(bundle=folder, num_clips=4))  # with the canaries
    return folder


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    pytest.importorskip("av", reason="the package 'av' is not installed")
    from benchmarks.dives.video import write_video
    from benchmarks.gpu.backends import draw_moving_colours

    path = tmp_path_factory.mktemp("video") / "moving.mp4"
    write_video(path, [draw_moving_colours(num_frames=25 * NUM_CLIPS)], codec="h264")
    return path


@pytest.mark.parametrize("size", [(720, 1280), (240, 320), (224, 224), (100, 37)])
@pytest.mark.parametrize("resize", ["pillow_bicubic", "swscale_area"])
def test_a_picture_is_resized_to_the_bits_of_the_host(size, resize):
    picture = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
    on_gpu = resize_tensor(torch.from_numpy(picture).cuda(), 224, resize).cpu().numpy()
    on_host = resize_tensor(torch.from_numpy(picture), 224, resize).numpy()
    if resize == "pillow_bicubic":
        np.testing.assert_array_equal(on_gpu, on_host)
        np.testing.assert_array_equal(on_gpu, resize_frame(picture, 224))
    # Averages are sums of fractions, whose order is the device's: a tie may fall to either side.
    assert np.abs(on_gpu.astype(int) - on_host).max() <= 1


@pytest.mark.parametrize(("decode", "least_cosine"), [("pyav", 0.9999), ("dali", 0.99)])
def test_the_vectors_are_those_of_the_cpu(bundle_dir, video, decode, least_cosine):
    if decode == "dali":
        has_dali = importlib.util.find_spec("nvidia") and importlib.util.find_spec("nvidia.dali")
        if not has_dali:
            pytest.skip("the extra `dali` is not installed")
    encoder = open_backend(bundle_dir, "torch")
    spans = [Span(start_s=i, end_s=i + 1) for i in range(NUM_CLIPS)]
    frames_NTHWC = decode_clips(video, spans, encoder.card.sampling).frames_NTHWC
    stage = VectorStage(
        sampling=encoder.card.sampling,
        encode=EncoderOptions(bundle_dir=str(bundle_dir), backend="torch", batch_size=4),
        backend=decode,
        device="cuda",
    )
    row = {
        "video_uri": str(video),
        "clip_ids": [f"{i}" for i in range(NUM_CLIPS)],
        "spans": [{"start_s": float(i), "end_s": i + 1.0} for i in range(NUM_CLIPS)],
    }
    try:
        rows = {one["clip_id"]: one for one in stage([row])}
    finally:
        stage.close()
    assert {one["error"]["reason"] for one in rows.values()} == {""}
    assert {one["decode_backend"] for one in rows.values()} == {decode}
    found_ND = np.stack([rows[f"{i}"]["embedding"] for i in range(NUM_CLIPS)])
    assert cosines(encoder.embed_clips(frames_NTHWC), found_ND).min() > least_cosine
