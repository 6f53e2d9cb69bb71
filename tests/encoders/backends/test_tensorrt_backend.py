"""Which of a bundle's engines is opened, and that its bytes are those that were measured. What runs them is in tests/gpu."""

from dataclasses import replace

import pytest

from encoders.backends.tensorrt_backend import choose_engine, read_plans
from encoders.bundle.card import BundleMismatchError
from encoders.bundle.engine_records import DriftError, find_engines

FILES = {"video.onnx": "a" * 64, "video.safetensors": "c" * 64}


def test_the_fastest_precision_that_was_measured_and_is_near_enough_is_taken(engine):
    exact = replace(engine, precision="fp32")
    brain = replace(engine, precision="bf16")
    fitting = find_engines([exact, brain, engine], engine.target, FILES)
    assert [one.precision for one in fitting] == ["fp16", "bf16", "fp32"]
    assert choose_engine(fitting, what="b") is engine
    far = replace(engine, drift=replace(engine.drift, min_cosine_clips=0.99))
    not_run = replace(brain, drift=None)
    assert choose_engine([far, not_run, exact], what="b") is exact
    with pytest.raises(DriftError, match=r"min_cosine_clips is 0\.99"):
        choose_engine([far, not_run], what="b")
    with pytest.raises(DriftError, match="not run"):
        choose_engine([not_run, far], what="b")


def test_a_changed_engine_file_is_refused(tmp_path, engine):
    with pytest.raises(BundleMismatchError, match=r"video\.engine is missing or was changed"):
        read_plans(tmp_path, engine)
    (tmp_path / "video.engine").write_bytes(b"other")
    with pytest.raises(BundleMismatchError, match=r"video\.engine is missing or was changed"):
        read_plans(tmp_path, engine)
