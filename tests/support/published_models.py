"""Tiny models with random weights, saved by transformers as the published ones are: CLIP, SigLIP, DINOv2, V-JEPA 2, VideoMAE."""

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTokenizer,
    Dinov2Config,
    Dinov2Model,
    PreTrainedTokenizerFast,
    SiglipConfig,
    SiglipModel,
    VideoMAEConfig,
    VideoMAEModel,
    VJEPA2Config,
    VJEPA2Model,
)

_SMALL = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}  # fmt: skip
_VISION = {**_SMALL, "image_size": 32, "patch_size": 16}
_VIDEO = {**_SMALL, "patch_size": 16, "tubelet_size": 2}


def write_clip(folder: Path) -> Path:
    """A CLIP whose tokenizer knows letters."""
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    tokens = [*letters, *(f"{x}</w>" for x in letters), "<|startoftext|>", "<|endoftext|>"]
    last = len(tokens) - 1
    text = {**_SMALL, "vocab_size": len(tokens), "eos_token_id": last, "bos_token_id": last - 1, "pad_token_id": last}  # fmt: skip
    torch.manual_seed(0)
    config = CLIPConfig(
        text_config={**text, "projection_dim": 12},
        vision_config={**_VISION, "projection_dim": 12},
        projection_dim=12,
    )
    CLIPModel(config).save_pretrained(folder)
    vocabulary = {token: number for number, token in enumerate(tokens)}
    CLIPTokenizer(vocab=vocabulary, merges=[]).save_pretrained(folder)
    return _with_pixels(folder, "preprocessor_config.json")


def write_siglip(folder: Path) -> Path:
    """A SigLIP whose tokenizer knows a few words."""
    words = ["<pad>", "</s>", "<unk>", "in", "tuck", "pike", "with", "twists"]
    fast = Tokenizer(WordLevel({word: n for n, word in enumerate(words)}, unk_token="<unk>"))
    fast.pre_tokenizer = Whitespace()
    fast.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    text = {**_SMALL, "vocab_size": len(words), "max_position_embeddings": 8, "projection_size": 16}
    torch.manual_seed(0)
    SiglipModel(SiglipConfig(text_config=text, vision_config=_VISION)).save_pretrained(folder)
    PreTrainedTokenizerFast(
        tokenizer_object=fast, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_input_names=["input_ids"]
    ).save_pretrained(folder)  # fmt: skip
    return _with_pixels(folder, "preprocessor_config.json")


def write_dinov2(folder: Path) -> Path:
    """A DINOv2 trained on larger frames than it is shown."""
    sizes = {name: v for name, v in _SMALL.items() if name != "intermediate_size"}
    torch.manual_seed(0)
    Dinov2Model(Dinov2Config(**sizes, image_size=64, patch_size=16)).save_pretrained(folder)
    return _with_pixels(folder, "preprocessor_config.json", crop_size={"height": 32, "width": 32})


def write_vjepa2(folder: Path) -> Path:
    """A V-JEPA 2, predictor and all."""
    config = VJEPA2Config(
        **{name: v for name, v in _VIDEO.items() if name != "intermediate_size"},
        crop_size=32, frames_per_clip=64, pred_hidden_size=12, pred_num_attention_heads=2, pred_num_hidden_layers=1,
    )  # fmt: skip
    torch.manual_seed(0)
    VJEPA2Model(config).save_pretrained(folder)
    return _with_pixels(folder, "video_preprocessor_config.json")


def write_videomae(folder: Path) -> Path:
    """A VideoMAE of four frames."""
    torch.manual_seed(0)
    VideoMAEModel(VideoMAEConfig(**_VIDEO, image_size=32, num_frames=4)).save_pretrained(folder)
    return _with_pixels(folder, "preprocessor_config.json")


def _with_pixels(folder: Path, name: str, **others: Any) -> Path:
    values = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.5, 0.6, 0.7]}
    (folder / name).write_text(json.dumps(values | others))
    return folder
