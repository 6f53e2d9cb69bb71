"""The exported graphs parse and build through TensorRT's API on a machine without a GPU, ahead of time for another one."""

import importlib.util
import shutil
from dataclasses import replace

import onnx
import pytest
import torch

from encoders.backends.registry import choose_backend, open_backend
from encoders.backends.tensorrt_library import import_library
from encoders.bundle.canaries import synthetic_clips
from encoders.bundle.card import read_card
from encoders.export.drift import Probe
from encoders.export.precision import reduce_precision
from encoders.export.tensorrt_export import (
    EngineBuildError,
    EngineOptions,
    add_engines,
    build_engine,
    engine_shapes,
)
from tfcovr import run_command

needs_rtx = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx_bindings") is None,
    reason="needs the extra: pip install '.[tensorrt-rtx]'",
)
RTX = EngineOptions(library="tensorrt-rtx", compute_capability="SM86", max_batch_size=4)


@pytest.fixture
def bundle_copy(exported_bundle, tmp_path):
    return shutil.copytree(exported_bundle, tmp_path / "bundle")


@pytest.fixture
def probe(exported_bundle):
    frames = synthetic_clips(read_card(exported_bundle).sampling, 2, name="probe")
    return Probe(frames_NTHWC=frames, source="synthetic")


@needs_rtx
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_graphs_parse_and_build_ahead_of_time(exported_bundle, precision):
    library, card = import_library("tensorrt-rtx"), read_card(exported_bundle)
    for name in ("video.onnx", "text.onnx", "fusion.onnx"):
        graph = reduce_precision(onnx.load(exported_bundle / name), precision)
        plan = build_engine(
            library,
            graph.SerializeToString(),
            engine_shapes(card, name, 4),
            compute_capability="SM86",
        )
        assert len(plan) > 10_000


@needs_rtx
def test_a_graph_that_cannot_be_parsed_or_built_says_why(exported_bundle):
    library, card = import_library("tensorrt-rtx"), read_card(exported_bundle)
    shapes = engine_shapes(card, "video.onnx", 4)
    raw = (exported_bundle / "video.onnx").read_bytes()
    with pytest.raises(EngineBuildError, match=r"(?s)can't parse the graph.*UInt8"):
        build_engine(library, raw, shapes, compute_capability="SM86")
    graph = reduce_precision(onnx.load(exported_bundle / "video.onnx"), "fp32").SerializeToString()
    with pytest.raises(EngineBuildError, match=r"can't build the graph: .*frames"):
        build_engine(library, graph, {}, compute_capability="SM86")
    with pytest.raises(ValueError, match=r"'SM90'; this library builds for.*SM86"):
        build_engine(library, graph, shapes, compute_capability="SM90")


@needs_rtx
def test_an_engine_built_ahead_of_time_is_listed_as_not_run_and_changes_no_id(bundle_copy, capsys):
    before = read_card(bundle_copy)
    flags = ["--bundle", str(bundle_copy), "--backend", "tensorrt-rtx", "--precision", "fp16"]
    assert (
        run_command("export", [*flags, "--compute-capability", "SM86", "--max-batch-size", "4"])
        == 0
    )
    assert capsys.readouterr().out.splitlines()[-1].endswith("on any (SM86), fp16: not run")
    card = read_card(bundle_copy)
    assert (card.bundle_id, card.encoder_id) == (before.bundle_id, before.encoder_id)
    (record,) = card.engines
    assert record.drift is None
    assert record.graphs == {
        name: card.files[name] for name in ("video.onnx", "text.onnx", "fusion.onnx")
    }
    assert {path.name for path in bundle_copy.glob("*.engine")} == set(record.files)
    assert replace(card, engines=()) == before


@needs_rtx
def test_the_same_target_and_precision_replaces_and_another_precision_joins(
    exported_video_bundle, tmp_path, probe
):
    folder = shutil.copytree(exported_video_bundle, tmp_path / "bundle")
    first = add_engines(folder, probe, RTX)
    other = add_engines(folder, probe, replace(RTX, precision="fp32"))
    again = add_engines(folder, probe, replace(RTX, max_batch_size=2))
    assert again.files.keys() == first.files.keys()
    assert read_card(folder).engines == (other, again)
    assert {path.name for path in folder.glob("*.engine")} == {*other.files, *again.files}


def test_shapes_hold_every_batch_and_every_text(exported_bundle, exported_video_bundle):
    card = read_card(exported_bundle)
    assert card.text is not None
    shapes = engine_shapes(card, "text.onnx", 64)
    assert shapes["input_ids"][0] == (1, 1)
    assert shapes["input_ids"][2] == shapes["attention_mask"][2] == (64, card.text.max_tokens)
    assert engine_shapes(card, "fusion.onnx", 64) == {
        "clip_vector": ((1, 12), (32, 12), (64, 12)),
        "text_vector": ((1, 8), (32, 8), (64, 8)),
    }
    assert engine_shapes(card, "video.onnx", 1)["frames"] == ((1, 3, 16, 16, 3),) * 3
    assert set(engine_shapes(read_card(exported_video_bundle), "video.onnx", 8)) == {"frames"}


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens without a GPU")
def test_without_a_gpu_nothing_falls_back_in_silence(bundle_copy, probe):
    with pytest.raises(ValueError, match="tensorrt engines need a CUDA GPU"):
        add_engines(bundle_copy, probe, EngineOptions())
    with pytest.raises(ValueError, match="TensorRT engines run on 'cuda'"):
        open_backend(bundle_copy, "tensorrt")
    assert choose_backend(bundle_copy, device="cpu") == "onnx"
    assert open_backend(bundle_copy, "auto").kind == "onnx"


@pytest.mark.parametrize(
    "change",
    [
        {"library": "trt"},
        {"precision": "int8"},
        {"max_batch_size": 0},
        {"compute_capability": "SM90"},
    ],
)
def test_options_that_cannot_be_are_refused(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        replace(EngineOptions(), **change)


def test_a_library_that_is_not_there_names_its_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tensorrt", None)
    with pytest.raises(ImportError, match=r"\.\[gpu\]"):
        import_library("tensorrt")
