"""An engine runs on the GPU, version and graphs it was built for and on no other."""

from dataclasses import replace

import pytest

from encoders.bundle.card import card_from_dict, card_to_dict, read_card
from encoders.bundle.engine_records import EngineTarget, engine_name, find_engines

FILES = {"video.onnx": "a" * 64, "video.safetensors": "c" * 64}


@pytest.mark.parametrize(
    "change",
    [
        {"gpu": "NVIDIA H100"},
        {"version": "11.4.1"},
        {"compute_capability": "SM100"},
        {"library": "tensorrt-rtx"},
    ],
)
def test_another_machine_has_no_engine(engine, change):
    assert find_engines([engine], engine.target, FILES) == [engine]
    assert find_engines([engine], replace(engine.target, **change), FILES) == []


def test_graphs_that_were_exported_again_have_no_engine(engine):
    assert find_engines([engine], engine.target, FILES | {"video.onnx": "d" * 64}) == []
    assert find_engines([engine], engine.target, {}) == []


def test_an_engine_built_ahead_of_time_runs_on_every_gpu_of_its_capability(engine):
    ahead = EngineTarget(
        library="tensorrt-rtx", version="1.7", gpu="any", compute_capability="SM89"
    )
    engine = replace(engine, target=ahead)
    here = replace(ahead, gpu="NVIDIA L4")
    assert find_engines([engine], here, FILES) == [engine]
    assert find_engines([engine], replace(here, compute_capability="SM86"), FILES) == []


def test_the_line_of_an_engine_says_not_run_until_it_was(engine):
    assert engine.line() == (
        "tensorrt 11.4.0 on NVIDIA H200 (SM90), fp16: lowest cosine 0.999900 over 64 clips (clips.parquet)"
    )
    assert replace(engine, drift=None).line().endswith("fp16: not run")


def test_a_file_name_says_everything_that_an_engine_depends_on(engine):
    name = engine_name("video.onnx", "1a2b3c4d" * 8, engine.target, "fp16")
    assert name == "video-nvidia-h200-sm90-tensorrt-11.4.0-fp16-1a2b3c4d.engine"


def test_a_card_without_engines_is_written_as_before_and_bad_ones_are_refused(
    exported_bundle, engine
):
    card = read_card(exported_bundle)
    values = card_to_dict(card)
    assert "engines" not in values
    listed = card_to_dict(replace(card, engines=(engine,)))
    assert listed["bundle_id"] == values["bundle_id"]
    with pytest.raises(ValueError, match="own folder"):
        card_from_dict(
            listed | {"engines": [listed["engines"][0] | {"files": {"../x.engine": "b"}}]}
        )
    with pytest.raises(ValueError, match="speed"):
        card_from_dict(listed | {"engines": [listed["engines"][0] | {"speed": 3}]})
    for wrong in (["fast"], [3], 3):
        with pytest.raises(ValueError, match=r"card\.engines.* is ('fast'|3); it must be"):
            card_from_dict(values | {"engines": wrong})
