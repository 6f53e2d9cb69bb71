"""Makes tiny random bundles: a video encoder, a text encoder of twelve words and a fusion."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer as FastTokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import BertConfig, BertModel

from encoders.bundle.folder import save_bundle
from encoders.export.config import ExportConfig
from encoders.export.onnx_export import export_onnx
from encoders.query_encoder.config import FusionConfig, TextConfig
from encoders.query_encoder.fusion import build_fusion
from encoders.query_encoder.text_encoder import TextEncoder, Tokenizer
from encoders.video_encoder.config import AimConfig
from encoders.video_encoder.registry import build_video_encoder

WORDS = ["[PAD]", "[UNK]", "with", "in", "tuck", "pike", "one", "two", "and", "a", "half", "twists"]
TINY = AimConfig(num_frames=3, image_size=16, patch_size=8, width=12, depth=1, num_heads=2)
INDEXED = AimConfig(num_frames=4, image_size=32, patch_size=16, width=16, depth=2, num_heads=2)


def tiny_text_encoder() -> TextEncoder:
    """A random BERT of one layer with a tokenizer of WORDS."""
    fast = FastTokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    fast.pre_tokenizer = Whitespace()
    config = TextConfig(source="made-up", pooling="mean", max_tokens=8)
    bert = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=12,
        max_position_embeddings=16,
    )
    return TextEncoder(config, BertModel(bert), Tokenizer(fast, config, pad_token="[PAD]")).eval()


def make_parts(config: AimConfig = TINY, *, seed: int = 0) -> dict[str, Any]:
    """Everything that save_bundle takes, with no weight at zero."""
    torch.manual_seed(seed)
    video = build_video_encoder(config).eval()
    with torch.no_grad():
        for parameter in video.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    fusion = FusionConfig(
        kind="combiner", video_dim=config.width, text_dim=8, projection_dim=8, hidden_dim=16
    )
    return {
        "video": video,
        "text": tiny_text_encoder(),
        "fusion": build_fusion(fusion).eval(),
        "head": torch.nn.Linear(config.width, 2),
        "labels": ["107b", "109c"],
        "training_info": {"seed": seed, "recipe": "made-up"},
    }


def write_tiny_bundle(folder: Path, *, seed: int) -> Path:
    """An exported bundle for the tests that index and search with it."""
    save_bundle(folder, **make_parts(INDEXED, seed=seed))
    export_onnx(ExportConfig(bundle=folder, num_clips=4))
    return folder
