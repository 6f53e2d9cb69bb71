"""The text tower of an OpenAI CLIP file, against a restatement of what OpenAI's model computes."""

import math

import pytest
import torch
from torch.nn import functional as F

from encoders.bundle import clip_text
from encoders.query_encoder.text_encoder import open_text_encoder
from tests.support.qformer import TEXTS, save_clip

WIDTH, HEADS, DIM, CONTEXT = 128, 2, 48, 77


def released_tower(vocabulary_size):
    """Weights under OpenAI's names, of RN50's form: vectors wider or narrower than the tower."""
    torch.manual_seed(0)

    def weight(*shape):
        return torch.randn(*shape) * 0.2

    state = {
        "token_embedding.weight": weight(vocabulary_size, WIDTH),
        "positional_embedding": weight(CONTEXT, WIDTH),
        "ln_final.weight": 1 + weight(WIDTH),
        "ln_final.bias": weight(WIDTH),
        "text_projection": weight(WIDTH, DIM),
        "visual.layer1.0.conv1.weight": weight(3, 3),
        "logit_scale": weight(()),
    }
    shapes = {
        "attn.in_proj_weight": (3 * WIDTH, WIDTH), "attn.in_proj_bias": (3 * WIDTH,),
        "attn.out_proj.weight": (WIDTH, WIDTH), "attn.out_proj.bias": (WIDTH,),
        "ln_1.weight": (WIDTH,), "ln_1.bias": (WIDTH,), "ln_2.weight": (WIDTH,), "ln_2.bias": (WIDTH,),
        "mlp.c_fc.weight": (4 * WIDTH, WIDTH), "mlp.c_fc.bias": (4 * WIDTH,),
        "mlp.c_proj.weight": (WIDTH, 4 * WIDTH), "mlp.c_proj.bias": (WIDTH,),
    }  # fmt: skip
    for i in range(2):
        for name, shape in shapes.items():
            state[f"transformer.resblocks.{i}.{name}"] = weight(*shape)
    return state


def restated(state, tokens_L):
    """One text [L], the end being its largest id: causal attention, QuickGELU, the end's state projected."""
    x_LD = (
        state["token_embedding.weight"][tokens_L] + state["positional_embedding"][: len(tokens_L)]
    )

    def norm(x, name):
        return F.layer_norm(x, (WIDTH,), state[f"{name}.weight"], state[f"{name}.bias"])

    for i in range(2):
        layer = {
            name.removeprefix(f"transformer.resblocks.{i}."): value for name, value in state.items()
        }
        block = f"transformer.resblocks.{i}"
        qkv = F.linear(
            norm(x_LD, f"{block}.ln_1"), layer["attn.in_proj_weight"], layer["attn.in_proj_bias"]
        )
        heads = []
        for q, k, v in zip(
            *(part.chunk(HEADS, dim=1) for part in qkv.chunk(3, dim=1)), strict=True
        ):
            scores = q @ k.T / math.sqrt(WIDTH // HEADS)
            later = torch.ones(len(x_LD), len(x_LD)).triu(1).bool()
            heads.append(scores.masked_fill(later, -math.inf).softmax(dim=1) @ v)
        x_LD = x_LD + F.linear(
            torch.cat(heads, dim=1), layer["attn.out_proj.weight"], layer["attn.out_proj.bias"]
        )
        hidden = F.linear(
            norm(x_LD, f"{block}.ln_2"), layer["mlp.c_fc.weight"], layer["mlp.c_fc.bias"]
        )
        hidden = hidden * torch.sigmoid(1.702 * hidden)
        x_LD = x_LD + F.linear(hidden, layer["mlp.c_proj.weight"], layer["mlp.c_proj.bias"])
    return norm(x_LD, "ln_final")[tokens_L.argmax()] @ state["text_projection"]


def test_the_folder_reads_texts_as_openais_model_does(tmp_path, capsys):
    save_clip(tmp_path / "clip")
    tokens_of = open_text_encoder(tmp_path / "clip").tokenizer
    size = int(max(tokens_of.tokenize(TEXTS)[0].flatten())) + 1  # the end is the last token
    state = released_tower(size)
    torch.save({"state_dict": state}, tmp_path / "RN50.pth")
    arguments = ["--source", tmp_path / "RN50.pth", "--tokenizer", tmp_path / "clip"]
    assert clip_text.main([*map(str, arguments), "--out", str(tmp_path / "rn50")]) == 0
    assert "--config.text" in capsys.readouterr().out

    encoder = open_text_encoder(tmp_path / "rn50", max_tokens=77, released_words=True)
    assert (encoder.text_dim, encoder.config.is_unit) == (DIM, False)
    tokens_NL, mask_NL = encoder.tokenizer.tokenize(TEXTS)
    with torch.no_grad():
        found_ND = encoder(tokens_NL, mask_NL)
    for tokens_L, mask_L, found_D in zip(tokens_NL, mask_NL, found_ND, strict=True):
        expected_D = restated(state, tokens_L[: int(mask_L.sum())])
        torch.testing.assert_close(found_D, expected_D, atol=1e-4, rtol=1e-4)


def test_a_file_without_a_text_tower_is_refused(tmp_path):
    state = released_tower(20)
    torch.save({"a": state["ln_final.weight"]}, tmp_path / "image.pth")
    with pytest.raises(ValueError, match=r"holds no CLIP text tower: token_embedding\.weight"):
        clip_text.read_clip_text(tmp_path / "image.pth")


def test_a_tokenizer_of_another_size_is_refused(tmp_path):
    save_clip(tmp_path / "clip")
    torch.save(released_tower(20), tmp_path / "RN50.pth")
    with pytest.raises(ValueError, match=r"tokens; .*RN50.pth has 20"):
        clip_text.write_clip_text(tmp_path / "RN50.pth", str(tmp_path / "clip"), tmp_path / "out")
    assert not (tmp_path / "out").exists()
