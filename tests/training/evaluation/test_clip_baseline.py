"""A random small CLIP, saved as Hugging Face does, against transformers' own forward, one frame and one text at a time."""

import json

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel, CLIPConfig, CLIPModel, CLIPTokenizer

from encoders.stages.base import NO_ERROR
from tests.support.qformer import TEXTS, save_blip2
from training.evaluation.clip_baseline import ClipLike, FrameAverageStage, image_size_of

MEAN, STD = [0.5, 0.4, 0.3], [0.2, 0.25, 0.3]


def save_clip(folder):
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    tokens = [*letters, *(f"{x}</w>" for x in letters), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    text = {
        "vocab_size": len(tokens), "hidden_size": 32, "intermediate_size": 32,
        "num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": 20,
        "eos_token_id": len(tokens) - 1, "bos_token_id": len(tokens) - 2,
        "pad_token_id": len(tokens) - 1,
    }  # fmt: skip
    vision = {
        "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1,
        "num_attention_heads": 2, "image_size": 32, "patch_size": 16,
    }  # fmt: skip
    torch.manual_seed(0)
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=24)).eval()
    model.save_pretrained(folder)
    CLIPTokenizer(vocab=vocabulary, merges=[]).save_pretrained(folder)
    values = {"image_mean": MEAN, "image_std": STD}
    (folder / "preprocessor_config.json").write_text(json.dumps(values))
    return model


def test_a_clip_is_the_mean_of_its_frames_and_a_text_is_itself(tmp_path):
    reference = save_clip(tmp_path)
    model = ClipLike(str(tmp_path))
    frames_NTHWC = np.random.default_rng(0).integers(0, 256, (2, 3, 32, 32, 3)).astype(np.uint8)
    expected = []
    for frames in frames_NTHWC:
        units = []
        for frame in frames:
            pixels = (frame.astype(np.float32) / 255 - MEAN) / STD
            pixels_CHW = torch.tensor(pixels.transpose(2, 0, 1)[None], dtype=torch.float32)
            with torch.no_grad():
                vision = reference.vision_model(pixel_values=pixels_CHW).pooler_output
                vector = reference.visual_projection(vision)[0].numpy()
            units.append(vector / np.linalg.norm(vector))
        mean = np.mean(units, axis=0)
        expected.append(mean / np.linalg.norm(mean))
    np.testing.assert_allclose(model.embed_clips(frames_NTHWC), expected, atol=1e-5)

    stage = FrameAverageStage(model=str(tmp_path), device="cpu")
    rows = np.stack([frames_NTHWC[0], np.zeros_like(frames_NTHWC[0]), frames_NTHWC[1]])
    error = {"stage": "decode", "reason": "too_short", "detail": ""}
    vectors_out = stage({"frames": rows, "error": np.array([NO_ERROR, error, NO_ERROR])})["vector"]
    assert vectors_out[1] == b""
    np.testing.assert_allclose(np.frombuffer(vectors_out[2], np.float32), expected[1], atol=1e-5)

    texts = ["two twists", "a"]
    for text, vector in zip(texts, model.embed_texts(texts), strict=True):
        tokens = model._tokenizer([text], return_tensors="pt")
        with torch.no_grad():
            pooled = reference.text_model(**tokens).pooler_output
            alone = reference.text_projection(pooled)[0].numpy()
        np.testing.assert_allclose(vector, alone / np.linalg.norm(alone), atol=1e-5)
    assert image_size_of(str(tmp_path)) == 32


def test_what_is_no_image_text_model_or_has_no_pixel_statistics_is_refused(tmp_path):
    (tmp_path / "clip").mkdir()
    save_clip(tmp_path / "clip")
    (tmp_path / "clip" / "preprocessor_config.json").unlink()
    with pytest.raises(ValueError, match="without them the pixels are a guess"):
        ClipLike(str(tmp_path / "clip"))
    config = BertConfig(
        vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8
    )
    BertModel(config).save_pretrained(tmp_path / "bert")
    with pytest.raises(ValueError, match="has no get_image_features"):
        ClipLike(str(tmp_path / "bert"))
    with pytest.raises(ValueError, match="no vision tower"):
        image_size_of(str(tmp_path / "bert"))


def test_weights_that_a_model_lacks_are_not_made_up(tmp_path):
    model = save_clip(tmp_path)
    weights = dict(model.state_dict())
    weights.pop("visual_projection.weight")
    model.save_pretrained(tmp_path, state_dict=dict(weights))
    with pytest.raises(ValueError, match=r"1 weights are missing, first: .'visual_projection"):
        ClipLike(str(tmp_path))


def test_blip_2_embeds_as_its_own_retrieval_head(tmp_path):
    """With one frame the best image query is the head's own; the mean of the queries is what we take."""
    reference = save_blip2(tmp_path / "blip2")
    model = ClipLike(str(tmp_path / "blip2"))
    frames = np.random.default_rng(0).integers(0, 256, (2, 3, 16, 16, 3), np.uint8)
    tokens = model._tokenizer(TEXTS, padding=True, return_tensors="pt")
    pixels = (torch.from_numpy(frames).float() / 255 - torch.tensor([0.48, 0.46, 0.41])) / torch.tensor([0.27, 0.26, 0.28])  # fmt: skip
    expected = []
    for clip in pixels:
        with torch.no_grad():
            output = reference(
                pixel_values=clip.permute(0, 3, 1, 2),
                input_ids=tokens["input_ids"],
                attention_mask=tokens["attention_mask"],
            )
        per_frame = torch.nn.functional.normalize(output.image_embeds.mean(1), dim=-1).mean(0)
        expected.append(torch.nn.functional.normalize(per_frame, dim=-1))
    np.testing.assert_allclose(model.embed_clips(frames), torch.stack(expected), atol=1e-5)
    np.testing.assert_allclose(model.embed_texts(TEXTS), output.text_embeds, atol=1e-5)
    assert image_size_of(str(tmp_path / "blip2")) == 16
