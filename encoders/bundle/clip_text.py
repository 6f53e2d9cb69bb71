"""Text tower of an OpenAI CLIP checkpoint as a Hugging Face folder, which `--config.text` of stage 2 takes.

TF-CoVR's code has a variant with the frozen text tower of CLIP's RN50 (width 512, vectors of 1024), which exists as OpenAI's file
alone: transformers has no CLIP with a ResNet. `python -m encoders.bundle.clip_text --help`.
"""

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor
from transformers import AutoTokenizer, CLIPTextConfig, CLIPTextModelWithProjection

from encoders.query_encoder.text_encoder import no_progress_bar
from encoders.video_encoder.pretrained.checkpoint import read_tensors

_HEAD_WIDTH = 64  # of all OpenAI's CLIP text towers
_LAYER = re.compile(r"transformer\.resblocks\.(\d+)\.")
_TOP_NAMES = {
    "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    "text_model.final_layer_norm.weight": "ln_final.weight",
    "text_model.final_layer_norm.bias": "ln_final.bias",
}
_LAYER_NAMES = {
    "self_attn.out_proj": "attn.out_proj",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}


def read_clip_text(path: Path) -> CLIPTextModelWithProjection:
    """The text tower of an OpenAI CLIP state dict (RN50, ViT-B/16 ...), float32; ValueError where it holds none."""
    state = read_tensors(path)
    needed = (*_TOP_NAMES.values(), "text_projection")
    missing = [name for name in needed if name not in state]
    layers = {int(match[1]) for name in state if (match := _LAYER.match(name))}
    if missing or not layers:
        raise ValueError(
            f"{path} holds no CLIP text tower: {', '.join(missing) or 'transformer.resblocks'} missing"
        )
    vocabulary_size, width = state["token_embedding.weight"].shape
    config = CLIPTextConfig(
        vocab_size=vocabulary_size,
        hidden_size=width,
        intermediate_size=state["transformer.resblocks.0.mlp.c_fc.weight"].shape[0],
        num_hidden_layers=max(layers) + 1,
        num_attention_heads=max(1, width // _HEAD_WIDTH),
        max_position_embeddings=len(state["positional_embedding"]),
        projection_dim=state["text_projection"].shape[1],
        hidden_act="quick_gelu",
        # OpenAI's code reads the state of the largest token id, which is the end of the text.
        eos_token_id=vocabulary_size - 1,
        bos_token_id=vocabulary_size - 2,
        pad_token_id=vocabulary_size - 1,
    )
    model = CLIPTextModelWithProjection(config)
    model.load_state_dict(_renamed(state, depth=max(layers) + 1))
    return model.eval()


def write_clip_text(source: Path, tokenizer: str, out: Path) -> None:
    """A folder of Hugging Face's form; `tokenizer` is any CLIP by folder or name, whose tokens must be as many."""
    model, read = read_clip_text(source), AutoTokenizer.from_pretrained(tokenizer)
    if len(read) != model.config.vocab_size:
        raise ValueError(
            f"tokenizer {tokenizer} has {len(read)} tokens; {source} has {model.config.vocab_size}"
        )
    with no_progress_bar():
        model.save_pretrained(out)
    read.save_pretrained(out)


def _renamed(state: Mapping[str, Tensor], *, depth: int) -> dict[str, Tensor]:
    weights = {name: state[theirs].float() for name, theirs in _TOP_NAMES.items()}
    weights["text_projection.weight"] = state["text_projection"].float().T.contiguous()
    for i in range(depth):
        ours, theirs = f"text_model.encoder.layers.{i}", f"transformer.resblocks.{i}"
        for part in ("weight", "bias"):
            split = state[f"{theirs}.attn.in_proj_{part}"].float().chunk(3)
            for letter, value in zip("qkv", split, strict=True):
                weights[f"{ours}.self_attn.{letter}_proj.{part}"] = value
            for name, their_name in _LAYER_NAMES.items():
                weights[f"{ours}.{name}.{part}"] = state[f"{theirs}.{their_name}.{part}"].float()
    return weights


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m encoders.bundle.clip_text",
        description=__doc__,
        epilog="example: python -m encoders.bundle.clip_text --source RN50.pth "
        "--tokenizer openai/clip-vit-base-patch16 --out runs/clip_rn50",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--source", type=Path, required=True, help="state dict of OpenAI's CLIP")
    parser.add_argument("--tokenizer", required=True, help="any CLIP, by folder or name")
    parser.add_argument("--out", type=Path, required=True, help="folder that is written")
    given = parser.parse_args(argv)
    write_clip_text(given.source, given.tokenizer, given.out)
    sys.stdout.write(f"{given.out}: text encoder for --config.text\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
