"""Which of a bundle's engines is opened, and that its bytes are those that were measured. What runs them is in tests/gpu."""

from dataclasses import replace

import pytest

from encoders.backend_tensorrt import choose_engine, read_plans
from encoders.card import BundleMismatchError
from encoders.drift import DriftError, DriftReport
from encoders.engines import EngineRecord, EngineTarget, find_engines

H200 = EngineTarget(
    library="tensorrt", version="11.4.0", gpu="NVIDIA H200", compute_capability="SM90"
)
GOOD = DriftReport(
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
ENGINE = EngineRecord(
    target=H200,
    precision="fp16",
    reduced="most",
    max_batch_size=64,
    graphs={"video.onnx": "a" * 64},
    files={"video.engine": "b" * 64},
    drift=GOOD,
    onnx_drift=None,
)
FILES = {"video.onnx": "a" * 64, "video.safetensors": "c" * 64}


def test_the_fastest_precision_that_was_measured_and_is_near_enough_is_taken():
    exact = replace(ENGINE, precision="fp32")
    brain = replace(ENGINE, precision="bf16")
    fitting = find_engines([exact, brain, ENGINE], H200, FILES)
    assert [one.precision for one in fitting] == ["fp16", "bf16", "fp32"]
    assert choose_engine(fitting, what="b") is ENGINE
    far = replace(ENGINE, drift=replace(GOOD, min_cosine_clips=0.99))
    not_run = replace(brain, drift=None)
    assert choose_engine([far, not_run, exact], what="b") is exact
    with pytest.raises(DriftError, match=r"min_cosine_clips is 0\.99"):
        choose_engine([far, not_run], what="b")
    with pytest.raises(DriftError, match="not run"):
        choose_engine([not_run, far], what="b")


def test_a_changed_engine_file_is_refused(tmp_path):
    with pytest.raises(BundleMismatchError, match=r"video\.engine is missing or was changed"):
        read_plans(tmp_path, ENGINE)
    (tmp_path / "video.engine").write_bytes(b"other")
    with pytest.raises(BundleMismatchError, match=r"video\.engine is missing or was changed"):
        read_plans(tmp_path, ENGINE)
