"""Exported graphs give torch's vectors at every batch and length, and a bundle gets all of an export or nothing."""

import shutil
from dataclasses import replace
from typing import get_args

import numpy as np
import onnx
import pytest
import torch

from encoders.backends.onnx_backend import open_session
from encoders.backends.registry import open_backend
from encoders.bundle.canaries import synthetic_clips
from encoders.bundle.card import BundleMismatchError, read_card, with_bundle_id, write_card
from encoders.bundle.folder import load_bundle, save_bundle
from encoders.clips import Clip, write_clips
from encoders.commands.export import Config as ExportCommand
from encoders.commands.export import run_export
from encoders.export.config import ExportConfig
from encoders.export.onnx_export import ExportError, export_onnx, write_fusion
from encoders.files import hash_file
from encoders.query_encoder.config import FusionInputs, FusionKind
from encoders.query_encoder.fusion import build_fusion
from encoders.query_encoder.text_encoder import TextEncoder, tokenizer_from_json
from encoders.video_encoder.aim import AimEncoder
from tfcovr import run_command

GRAPHS = ("video.onnx", "text.onnx", "fusion.onnx")
ADDED = {*GRAPHS, "canaries.safetensors"}


@pytest.fixture
def bundle_copy(exported_bundle, tmp_path):
    return shutil.copytree(exported_bundle, tmp_path / "bundle")


def test_the_report_of_the_card_holds_for_an_independent_comparison(exported_bundle):
    card = read_card(exported_bundle)
    assert card.onnx is not None
    assert card.onnx.num_clips == 64
    torch_backend, onnx_backend = (
        open_backend(exported_bundle, kind) for kind in ("torch", "onnx")
    )
    texts = ["in tuck", "with two twists " * 9, "in 2.5"]
    for num_clips in (1, 2, 3, 11):
        frames = synthetic_clips(card.sampling, num_clips, name=f"test {num_clips}")
        expected, found = torch_backend.embed_clips(frames), onnx_backend.embed_clips(frames)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, atol=2e-6)
        edits = (texts * 4)[:num_clips]
        np.testing.assert_allclose(
            onnx_backend.embed_queries(expected, edits),
            torch_backend.embed_queries(expected, edits),
            atol=2e-6,
        )


def test_an_export_adds_its_files_and_keeps_the_encoder_id(bundle_copy, tiny_parts, tmp_path):
    before = save_bundle(tmp_path / "plain", **tiny_parts)
    after = load_bundle(bundle_copy).card
    assert after.encoder_id == before.encoder_id
    assert after.bundle_id != before.bundle_id
    assert set(after.files) - set(before.files) == ADDED
    assert {path.name for path in bundle_copy.iterdir()} == {*after.files, "card.json"}


def test_the_graphs_carry_their_weights_inside(exported_bundle):
    for name in GRAPHS:
        graph = onnx.load(exported_bundle / name, load_external_data=False).graph
        assert all(not tensor.external_data for tensor in graph.initializer)


def test_an_export_that_disagrees_adds_nothing(tiny_parts, tmp_path):
    """No float32 graph is equal to the last bit over 64 clips, so a bound of 1 must refuse it."""
    folder = tmp_path / "bundle"
    card = save_bundle(folder, video=tiny_parts["video"])
    with pytest.raises(ExportError, match="nothing was added"):
        export_onnx(ExportConfig(bundle=folder, min_cosine=1.0))
    assert load_bundle(folder).card == card
    assert not ADDED & {path.name for path in folder.iterdir()}
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_a_second_export_does_no_work_but_notices_changed_files(bundle_copy):
    before = {path: path.stat().st_mtime_ns for path in bundle_copy.iterdir()}
    assert export_onnx(ExportConfig(bundle=bundle_copy)) == read_card(bundle_copy).onnx
    assert before == {path: path.stat().st_mtime_ns for path in bundle_copy.iterdir()}
    (bundle_copy / "fusion.onnx").write_bytes(b"truncated")
    with pytest.raises(BundleMismatchError, match=r"fusion\.onnx has sha256"):
        export_onnx(ExportConfig(bundle=bundle_copy))


def test_the_command_checks_on_clips_of_the_archive(tiny_parts, make_video, tmp_path, capsys):
    """A stage 1 bundle: no query graph. Of three clips one is not a video, synthetic clips make up the number."""
    folder = tmp_path / "bundle"
    save_bundle(folder, video=tiny_parts["video"])
    bad = tmp_path / "bad.mp4"
    bad.write_text("no video")
    good = str(make_video("export.mp4"))
    clips = [
        Clip(clip_id="a", video_uri=good),
        Clip(clip_id="b", video_uri=str(bad)),
        Clip(clip_id="c", video_uri=good, start_s=0.5, end_s=1.0),
    ]
    write_clips(tmp_path / "clips.parquet", clips)
    flags = ["--bundle", str(folder), "--clips", str(tmp_path / "clips.parquet")]
    assert run_command("export", [*flags, "--num-clips", "4"]) == 0
    assert "over 4 clips (clips.parquet (2) and synthetic (2))" in capsys.readouterr().out
    card = read_card(folder)
    assert card.onnx is not None
    assert card.onnx.min_cosine_queries is None
    assert not {"text.onnx", "fusion.onnx"} & set(card.files)


def test_attention_over_frames_and_counts_export_and_only_the_first_changes_the_encoder_id(
    tiny_parts, tmp_path
):
    """Another pooling is another encoder, also while it still computes the mean; counts are on the query's side."""
    mean = tiny_parts["video"]
    ids = [save_bundle(tmp_path / "mean", video=mean).encoder_id]
    video = AimEncoder(replace(mean.config, temporal_pooling="attention", num_time_adapters=2))
    video.load_state_dict(mean.state_dict(), strict=False)
    ids.append(save_bundle(tmp_path / "fresh", video=video.eval()).encoder_id)
    with torch.no_grad():
        assert video.temporal_pool is not None
        for parameter in video.temporal_pool.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    ids.append(save_bundle(tmp_path / "trained", video=video).encoder_id)
    assert len(set(ids)) == 3
    text = tiny_parts["text"]
    config = replace(text.config, counts=True)
    text = TextEncoder(config, text.model, tokenizer_from_json(text.tokenizer.to_json(), config))
    fusion = build_fusion(replace(tiny_parts["fusion"].config, text_dim=text.text_dim)).eval()
    card = save_bundle(tmp_path / "trained", video=video, text=text, fusion=fusion)
    assert card.encoder_id == ids[-1]
    config = ExportConfig(bundle=tmp_path / "trained", num_clips=9)
    report = export_onnx(config)
    assert report.min_cosine_queries is not None
    assert report.min_cosine > 0.9999
    backend = open_backend(tmp_path / "trained", "onnx")
    frames = synthetic_clips(backend.card.sampling, 4, name="order")
    backwards = backend.embed_clips(np.ascontiguousarray(frames[:, ::-1]))
    vectors = backend.embed_clips(frames)
    assert np.abs(vectors - backwards).max() > 1e-3
    # To the tiny tokenizer these are four times the same unknown words; the longest leaves no room behind the counts.
    texts = [
        "show 2.5 leaps",
        "show 3.5 leaps",
        "show 3.5 twists",
        "show 3.5 more twists" + " so" * 20,
    ]
    found = backend.embed_queries(vectors[:1].repeat(4, axis=0), texts)
    expected = load_bundle(tmp_path / "trained").encode_queries(
        torch.from_numpy(vectors[:1]).expand(4, -1), texts
    )
    np.testing.assert_allclose(found, expected.detach(), atol=2e-6)
    assert len({tuple(row) for row in found.round(5).tolist()}) == 4


def test_text_and_fusion_are_two_graphs_with_named_ends(exported_bundle):
    ends = {}
    for name in GRAPHS[1:]:
        graph = onnx.load(exported_bundle / name).graph
        ends[name] = [[value.name for value in part] for part in (graph.input, graph.output)]
    assert ends == {
        "text.onnx": [["input_ids", "attention_mask"], ["text_vector"]],
        "fusion.onnx": [["clip_vector", "text_vector"], ["query_vector"]],
    }


@pytest.mark.parametrize("kind", get_args(FusionKind))
@pytest.mark.parametrize("inputs", get_args(FusionInputs))
def test_every_fusion_keeps_both_inputs_also_where_it_reads_one(tiny_parts, tmp_path, kind, inputs):
    # A sum needs both to be as wide.
    text_dim = 12 if kind == "sum" else 8
    config = replace(tiny_parts["fusion"].config, kind=kind, inputs=inputs, text_dim=text_dim)
    fusion = build_fusion(config).eval()
    write_fusion(fusion, tmp_path / "fusion.onnx")
    session = open_session(tmp_path / "fusion.onnx")
    rng = np.random.default_rng(0)
    for num_queries in (1, 5):
        pair = [
            rng.standard_normal((num_queries, width)).astype(np.float32) for width in (12, text_dim)
        ]
        vectors = session.run(["query_vector"], {"clip_vector": pair[0], "text_vector": pair[1]})[0]
        expected = fusion(*map(torch.from_numpy, pair)).detach().numpy()
        np.testing.assert_allclose(vectors, expected, atol=2e-6)


def test_a_bundle_of_an_earlier_export_is_refused_until_it_is_exported_again(bundle_copy):
    card = read_card(bundle_copy)
    files = {name: value for name, value in card.files.items() if name not in GRAPHS[1:]}
    for name in GRAPHS[1:]:
        (bundle_copy / name).unlink()
    (bundle_copy / "query.onnx").write_bytes(b"text and fusion in one graph")
    files["query.onnx"] = hash_file(bundle_copy / "query.onnx")
    write_card(bundle_copy, with_bundle_id(replace(card, files=files)))
    command = f"tfcovr export --bundle {bundle_copy}"
    with pytest.raises(BundleMismatchError, match=f"no text.onnx and no fusion.onnx.*{command}"):
        open_backend(bundle_copy, "onnx")
    assert run_command("export", ["--bundle", str(bundle_copy), "--num-clips", "3"]) == 0
    after = read_card(bundle_copy)
    assert set(after.files) == set(card.files)
    assert after.encoder_id == card.encoder_id
    assert not (bundle_copy / "query.onnx").exists()
    assert open_backend(bundle_copy, "onnx").encode_texts(["in tuck"]).shape == (1, 8)


def test_frames_of_the_caller_go_first(exported_video_bundle):
    report = read_card(exported_video_bundle).onnx
    assert report is not None
    assert (report.num_clips, report.clips_from) == (5, "frames of the caller")


@pytest.mark.parametrize("change", [{"num_clips": 0}, {"min_cosine": 1.5}, {"min_cosine": 0.0}])
def test_settings_that_check_nothing_are_refused(change, tmp_path):
    with pytest.raises(ValueError, match=next(iter(change))):
        replace(ExportConfig(bundle=tmp_path), **change)


def test_options_of_engines_are_not_passed_over(tmp_path, monkeypatch):
    def refuse(*_args, **_kwargs):
        raise AssertionError("exported before the options were looked at")

    monkeypatch.setattr("encoders.export.onnx_export.export_onnx", refuse)
    command = ExportCommand(bundle=tmp_path)
    with pytest.raises(ValueError, match="compute_capability is for engines"):
        replace(command, compute_capability="SM89")
    with pytest.raises(ValueError, match="triplets is for --backend"):
        replace(command, triplets=tmp_path / "triplets.parquet", clips=tmp_path / "clips.parquet")
    with pytest.raises(ValueError, match="triplets needs clips"):
        replace(command, backend="tensorrt", triplets=tmp_path / "triplets.parquet")
    with pytest.raises(ValueError, match="max_batch_size is 0"):
        run_export(replace(command, backend="tensorrt", max_batch_size=0))
