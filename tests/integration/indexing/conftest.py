"""A whole bundle in small, exported, for the tests that index and search with it."""

import sys
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer as FastTokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import BertConfig, BertModel

from encoders.bundle.folder import save_bundle
from encoders.export.onnx_export import ExportConfig, export_onnx
from encoders.query_encoder.config import FusionConfig, TextConfig
from encoders.query_encoder.fusion import build_fusion
from encoders.query_encoder.text_encoder import TextEncoder, Tokenizer
from encoders.video_encoder.config import AimConfig
from encoders.video_encoder.registry import build_video_encoder

_HERE = Path(__file__).parent
sys.path[:0] = [str(_HERE), str(_HERE / "faults")]  # what these tests share lies beside them
WORDS = ["[PAD]", "[UNK]", "with", "in", "tuck", "pike", "one", "two", "and", "a", "half", "twists"]


def tiny_text() -> TextEncoder:
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


def write_tiny_bundle(folder: Path, *, seed: int) -> Path:
    torch.manual_seed(seed)
    config = AimConfig(num_frames=4, image_size=32, patch_size=16, width=16, depth=2, num_heads=2)
    video = build_video_encoder(config).eval()
    with torch.no_grad():
        for parameter in video.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    fusion = build_fusion(
        FusionConfig(kind="combiner", video_dim=16, text_dim=8, projection_dim=8, hidden_dim=16)
    ).eval()
    save_bundle(folder, video=video, text=tiny_text(), fusion=fusion, training_info={"seed": seed})
    export_onnx(ExportConfig(bundle_dir=folder, num_clips=4))
    return folder


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("bundles") / "one", seed=1)


@pytest.fixture(scope="session")
def other_bundle(tmp_path_factory) -> Path:
    """Another encoder with the same widths."""
    return write_tiny_bundle(tmp_path_factory.mktemp("bundles") / "other", seed=2)
