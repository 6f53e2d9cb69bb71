"""Fixtures of the encoder tests: numbered videos, tiny bundles and an engine record."""

from pathlib import Path

import pytest

from tests.support.bundles import make_parts, tiny_text_encoder
from tests.support.videos import VideoSpec, read_numbers, write_video


@pytest.fixture(scope="session")
def make_video(tmp_path_factory):
    """make_video("name.mp4", num_frames=..., ...) -> path, made once per session for the same arguments."""
    folder = tmp_path_factory.mktemp("videos")
    made: dict[str, Path] = {}

    def make(name: str, **spec) -> Path:
        key = f"{name} {sorted(spec.items())}"
        if key not in made:
            made[key] = write_video(folder / f"{len(made)}_{name}", VideoSpec(**spec))
        return made[key]

    return make


@pytest.fixture(scope="session")
def numbers_in():
    return read_numbers


@pytest.fixture
def make_tiny_text():
    return tiny_text_encoder


@pytest.fixture
def tiny_parts():
    return make_parts()


@pytest.fixture(scope="session")
def exported_bundle(tmp_path_factory) -> Path:
    """A tiny bundle with its ONNX files and canaries; copy it before changing it."""
    from encoders.bundle.folder import save_bundle
    from encoders.export.config import ExportConfig
    from encoders.export.onnx_export import export_onnx

    folder = tmp_path_factory.mktemp("exported") / "bundle"
    save_bundle(folder, **make_parts())
    export_onnx(ExportConfig(bundle=folder))
    return folder


@pytest.fixture(scope="session")
def exported_video_bundle(tmp_path_factory) -> Path:
    """As after stage 1: no text encoder and no fusion. Checked on five clips of the caller."""
    from encoders.bundle.canaries import synthetic_clips
    from encoders.bundle.folder import save_bundle
    from encoders.export.config import ExportConfig
    from encoders.export.onnx_export import export_onnx

    folder = tmp_path_factory.mktemp("exported") / "video_bundle"
    card = save_bundle(folder, video=make_parts()["video"])
    frames = synthetic_clips(card.sampling, 5, name="mine")
    export_onnx(ExportConfig(bundle=folder, num_clips=5), frames_NTHWC=frames)
    return folder


@pytest.fixture
def engine():
    """The record of an engine that was run on a GPU and came near enough."""
    from encoders.bundle.engine_records import DriftReport, EngineRecord, EngineTarget

    target = EngineTarget(
        library="tensorrt", version="11.4.0", gpu="NVIDIA H200", compute_capability="SM90"
    )
    drift = DriftReport(
        min_cosine_clips=0.9999,
        mean_cosine_clips=0.99999,
        min_cosine_queries=None,
        mean_cosine_queries=None,
        top_k_overlap=0.99,
        map_difference=-0.001,
        map_of="labels",
        top_k=10,
        num_clips=64,
        num_queries=0,
        clips_from="clips.parquet",
    )
    return EngineRecord(
        target=target,
        precision="fp16",
        reduced="most",
        max_batch_size=64,
        graphs={"video.onnx": "a" * 64},
        files={"video.engine": "b" * 64},
        drift=drift,
        onnx_drift=None,
    )
