"""A BLIP-2 whose Q-Former reads a few words, and a CLIP text tower, with random weights, saved as Hugging Face does."""

import json
from pathlib import Path

import torch
from transformers import (
    BertTokenizer,
    Blip2Config,
    Blip2ForImageTextRetrieval,
    Blip2QFormerConfig,
    Blip2TextModelWithProjection,
    Blip2VisionConfig,
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    OPTConfig,
)

WORDS = ["with", "two", "and", "a", "half", "twist", "##s", "in", "pike", "tuck", "show"]
TEXTS = ["with 2.5 twists", "in tuck", "show a pike with two and a half twists"]


def bert_tokenizer(folder):
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    (folder / "vocab.txt").write_text("\n".join(tokens) + "\n")
    return BertTokenizer(str(folder / "vocab.txt")), len(tokens)


def save_qformer(folder, *, reads_text=True):
    folder.mkdir()
    tokenizer, size = bert_tokenizer(folder)
    config = Blip2Config(
        vision_config=Blip2VisionConfig(
            hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2
        ),
        qformer_config=Blip2QFormerConfig(
            vocab_size=size, hidden_size=32, num_hidden_layers=3, num_attention_heads=4,
            intermediate_size=48, max_position_embeddings=40, encoder_hidden_size=16,
            use_qformer_text_input=reads_text, cross_attention_frequency=2,
        ),
        text_config=OPTConfig(
            hidden_size=16, num_hidden_layers=1, num_attention_heads=2, ffn_dim=16, vocab_size=20
        ),
        image_text_hidden_size=8,
    )  # fmt: skip
    torch.manual_seed(0)
    model = Blip2TextModelWithProjection(config).eval()
    for parameter in model.parameters():  # norms and biases too: a swapped one must show
        torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model


def save_blip2(folder: Path) -> Blip2ForImageTextRetrieval:
    """The whole model for image-text retrieval, with pixel statistics."""
    folder.mkdir()
    tokenizer, size = bert_tokenizer(folder)
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = Blip2Config(
        vision_config=Blip2VisionConfig(**small, intermediate_size=16, image_size=16, patch_size=8),
        qformer_config=Blip2QFormerConfig(
            vocab_size=size, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
            intermediate_size=48, max_position_embeddings=40, encoder_hidden_size=16,
            use_qformer_text_input=True, cross_attention_frequency=1,
        ),
        text_config=OPTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, ffn_dim=16, vocab_size=20),
        image_text_hidden_size=8, num_query_tokens=5,
    )  # fmt: skip
    torch.manual_seed(0)
    model = Blip2ForImageTextRetrieval(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    statistics = {"image_mean": [0.48, 0.46, 0.41], "image_std": [0.27, 0.26, 0.28]}
    (folder / "preprocessor_config.json").write_text(json.dumps(statistics))
    return model


def save_clip(folder):
    folder.mkdir()
    letters = sorted(set("".join(TEXTS).lower()) | set("abcdefghijklmnopqrstuvwxyz"))
    letters = [letter for letter in letters if letter != " "]
    tokens = [
        *letters,
        *(f"{letter}</w>" for letter in letters),
        "<|startoftext|>",
        "<|endoftext|>",
    ]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=[])
    config = CLIPTextConfig(
        vocab_size=len(tokens), hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, max_position_embeddings=77, projection_dim=24,
        eos_token_id=vocabulary["<|endoftext|>"], bos_token_id=vocabulary["<|startoftext|>"],
        pad_token_id=vocabulary["<|endoftext|>"],
    )  # fmt: skip
    torch.manual_seed(0)
    model = CLIPTextModelWithProjection(config).eval()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model
