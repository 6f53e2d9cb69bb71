"""Published models as they are: beside transformers' own towers, through a bundle and ONNX, and what is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import CLIPConfig, Dinov2Model, VideoMAEModel, VJEPA2Model

from encoders.backends.registry import open_backend
from encoders.bundle.card import read_card
from encoders.bundle.folder import load_bundle
from encoders.bundle.import_config import ImportConfig
from encoders.bundle.importer import import_weights
from encoders.export.config import ExportConfig
from encoders.export.onnx_export import export_onnx
from tests.support.published_models import (
    write_clip,
    write_dinov2,
    write_siglip,
    write_videomae,
    write_vjepa2,
)
from tfcovr import run_command
from training.evaluation.clip_baseline import ClipLike

WRITERS: dict[str, Callable[[Path], Path]] = {
    "clip": write_clip,
    "siglip": write_siglip,
    "dinov2": write_dinov2,
    "vjepa2": write_vjepa2,
    "videomae": write_videomae,
}


def take(kind: str, folder: Path, **options: Any) -> tuple[Path, Path]:
    source, out = WRITERS[kind](folder / kind), folder / "bundle"
    import_weights(ImportConfig(source=str(source), out=out, frozen=True, **options))
    return source, out


def frames(out: Path, num_clips: int) -> np.ndarray:
    sampling = read_card(out).sampling
    size = sampling.frame_size
    shape = (num_clips, sampling.num_frames, size, size, 3)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_clips_and_texts_of_a_clip_like_model_are_those_of_its_own_towers(
    kind: str, tmp_path: Path
) -> None:
    source, out = take(kind, tmp_path)
    bundle, reference = load_bundle(out), ClipLike(str(source))
    clips, texts = frames(out, 3), ["in tuck", "with twists in pike"]
    assert bundle.text is not None
    with torch.inference_mode():
        np.testing.assert_allclose(
            bundle.video(torch.from_numpy(clips)), reference.embed_clips(clips), atol=1e-6
        )
        text_ND = torch.nn.functional.normalize(bundle.text.encode(texts), dim=-1)
        np.testing.assert_allclose(text_ND, reference.embed_texts(texts), atol=1e-6)
        query_ND = bundle.encode_queries(bundle.video(torch.from_numpy(clips[:2])), texts)
    summed = reference.embed_clips(clips[:2]) + reference.embed_texts(texts)
    summed /= np.linalg.norm(summed, axis=1, keepdims=True)
    np.testing.assert_allclose(query_ND, summed, atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "model", "num_frames"), [("vjepa2", VJEPA2Model, 16), ("videomae", VideoMAEModel, 4)]
)
def test_a_clip_of_a_video_model_is_the_mean_of_its_last_states(
    kind: str, model: Any, num_frames: int, tmp_path: Path
) -> None:
    source, out = take(kind, tmp_path)
    card, whole = read_card(out), model.from_pretrained(source).eval()
    assert (card.sampling.num_frames, card.fusion) == (num_frames, None)
    clips = frames(out, 2)
    pixels = torch.from_numpy(clips).float().permute(0, 1, 4, 2, 3) / 255
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ([0.5, 0.4, 0.3], [0.5, 0.6, 0.7]))
    with torch.inference_mode():
        expected = whole((pixels - mean) / std).last_hidden_state.mean(dim=1)
        found = load_bundle(out).video.features(torch.from_numpy(clips))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_a_clip_of_dinov2_is_the_mean_of_its_frames_at_the_size_it_is_shown(tmp_path: Path) -> None:
    source, out = take("dinov2", tmp_path)
    assert read_card(out).sampling.frame_size == 32  # and not the 64 of its training
    whole = Dinov2Model.from_pretrained(source).eval()
    clips = frames(out, 2)
    pixels = torch.from_numpy(clips).flatten(0, 1).float().permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ([0.5, 0.4, 0.3], [0.5, 0.6, 0.7]))
    with torch.inference_mode():
        vectors = whole((pixels - mean) / std).pooler_output.unflatten(0, (2, -1))
        found = load_bundle(out).video.features(torch.from_numpy(clips))
    expected = torch.nn.functional.normalize(vectors, dim=-1).mean(dim=1)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", list(WRITERS))
def test_onnx_gives_the_same_vectors(kind: str, tmp_path: Path) -> None:
    _, out = take(kind, tmp_path)
    report = export_onnx(ExportConfig(bundle=out, num_clips=4))
    assert report.min_cosine > 0.99999
    onnx, clips = open_backend(out, "onnx"), frames(out, 3)
    expected = open_backend(out, "torch").embed_clips(clips)
    np.testing.assert_allclose(onnx.embed_clips(clips), expected, atol=1e-5)
    if kind in ("clip", "siglip"):
        texts = ["in tuck", "with twists", "pike"]
        query = open_backend(out, "torch").embed_queries(expected, texts)
        np.testing.assert_allclose(onnx.embed_queries(expected, texts), query, atol=1e-5)


def test_the_same_import_again_writes_nothing_and_another_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = take("vjepa2", tmp_path)
    command = ["--source", str(source), "--out", str(out), "--frozen"]
    assert run_command("import-weights", command) == 0
    assert "already holds this bundle" in capsys.readouterr().out
    with pytest.raises(ValueError, match="holds another bundle"):
        run_command("import-weights", [*command, "--num-frames", "8"])


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"num_frames is 3; .* takes a multiple of 2"):
        take("vjepa2", tmp_path, num_frames=3)
    with pytest.raises(ValueError, match=r"num_frames is 8; .* takes exactly 4"):
        take("videomae", tmp_path, num_frames=8)
    with pytest.raises(ValueError, match="num_heads is given with frozen"):
        take("videomae", tmp_path, num_heads=2)
    clip = write_clip(tmp_path / "clip")
    (clip / "preprocessor_config.json").unlink()
    with pytest.raises(ValueError, match="image_mean and image_std; without them the pixels are"):
        import_weights(ImportConfig(source=str(clip), out=tmp_path / "bundle", frozen=True))
    values = CLIPConfig().to_dict() | {"model_type": "t5"}
    (clip / "config.json").write_text(json.dumps(values))
    with pytest.raises(ValueError, match="is a 't5' model; choose one of clip, siglip, dinov2, vj"):
        import_weights(ImportConfig(source=str(clip), out=tmp_path / "bundle", frozen=True))
    with pytest.raises(ValueError, match="it must be the folder of a model of transformers, or"):
        import_weights(ImportConfig(source="./gone", out=tmp_path / "bundle", frozen=True))
    assert not (tmp_path / "bundle").exists()
