"""The text encoder against sentence-transformers' own arithmetic, and what its tokenizer does to numbers."""

import socket

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel, BertTokenizer

from encoders.query_encoder.config import FusionConfig, TextConfig, text_config_to_dict
from encoders.query_encoder.fusion import build_fusion
from encoders.query_encoder.numbers import NUM_CODES, count_codes
from encoders.query_encoder.text_encoder import (
    build_text_encoder,
    open_text_encoder,
    tokenizer_from_json,
)


@pytest.fixture(scope="module")
def packaged():
    return open_text_encoder()


def test_the_packaged_encoder_pools_and_pads_as_sentence_transformers_do(packaged):
    """The masked mean of the last states, one text at a time and so without padding, then unit length."""
    texts = ["with two and a half twists", "in tuck", "from a back take-off, in pike position"]
    with torch.no_grad():
        found = packaged.encode(texts)
        for vector, text in zip(found, texts, strict=True):
            tokens, mask = packaged.tokenizer.tokenize([text])
            assert mask.all()
            states = packaged.model(input_ids=tokens).last_hidden_state[0].numpy()
            mean = states.mean(axis=0)
            np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), atol=1e-5)
    assert found.shape == (3, packaged.text_dim) == (3, 384)


def test_the_packaged_encoder_needs_no_network_and_knows_words(packaged, monkeypatch):
    def refuse(*_args, **_kwargs):
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    fresh = open_text_encoder()
    with torch.no_grad():
        vectors = fresh.encode(["in pike position", "in the pike position", "a bowl of soup"])
        torch.testing.assert_close(
            vectors, packaged.encode(["in pike position", "in the pike position", "a bowl of soup"])
        )
    assert vectors[0] @ vectors[1] > 0.9 > 0.3 > vectors[0] @ vectors[2]


def test_tokens_are_cut_padded_and_masked(packaged):
    tokens, mask = packaged.tokenizer.tokenize(["twist " * 60, "in tuck"])
    assert tokens.shape == mask.shape == (2, 32)
    assert mask.sum(dim=1).tolist() == [32, 4]
    assert tokens.dtype == mask.dtype == torch.int64
    alone, _ = packaged.tokenizer.tokenize(["in tuck"])
    assert alone[0].tolist() == tokens[1, :4].tolist()
    with pytest.raises(ValueError, match="list"):
        packaged.tokenizer.tokenize("in tuck")


def test_the_tokenizer_comes_back_from_its_json(packaged):
    again = tokenizer_from_json(packaged.tokenizer.to_json(), packaged.config)
    texts = ["with 2.5 twists", "in tuck, with 3 somersaults from a reverse take-off"]
    for found, expected in zip(
        again.tokenize(texts), packaged.tokenizer.tokenize(texts), strict=True
    ):
        assert torch.equal(found, expected)


@pytest.fixture(scope="module")
def tiny_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny-bert")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "in", "tuck", "pike", "with", "two"]
    (folder / "vocab.txt").write_text("\n".join(words))
    torch.manual_seed(0)
    model = BertModel(
        BertConfig(
            vocab_size=len(words),
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=24,
            max_position_embeddings=40,
        )
    )
    model.save_pretrained(folder)
    BertTokenizer.from_pretrained(folder).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_any_folder_serves_and_an_empty_copy_takes_its_weights(tiny_folder, pooling):
    encoder = open_text_encoder(tiny_folder, pooling=pooling, number_words=False)
    copy = build_text_encoder(encoder.config, encoder.architecture(), encoder.tokenizer.to_json())
    copy.load_state_dict(encoder.state_dict())
    texts = ["in tuck with two pike", "pike"]
    with torch.no_grad():
        vectors = encoder.encode(texts)
        tokens, _ = encoder.tokenizer.tokenize(texts[:1])
        states = encoder.model(input_ids=tokens).last_hidden_state[0]
        expected = states[0] if pooling == "cls" else states.mean(dim=0)
        torch.testing.assert_close(vectors[0], expected / expected.norm())
        torch.testing.assert_close(copy.encode(texts), vectors)


def test_counts_stand_behind_an_unchanged_text_vector(tiny_folder):
    texts = ["in tuck with 2.5 twists", "pike", "with one more somersault and half a turn"]
    plain = open_text_encoder(tiny_folder)
    counting = open_text_encoder(tiny_folder, counts=True)
    with torch.no_grad():
        expected, found = plain.encode(texts), counting.encode(texts)
    torch.testing.assert_close(found[:, :16], expected)
    assert found.shape == (3, counting.text_dim) == (3, 16 + 4 * NUM_CODES)
    for vector, text in zip(found, texts, strict=True):
        named = torch.nonzero(vector[16:]).flatten().tolist()
        assert named == [
            kind * NUM_CODES + code - 1 for kind, code in enumerate(count_codes(text)) if code
        ]
        assert set(vector[16:].tolist()) <= {0.0, 1.0}


def test_a_fusion_learns_a_vector_for_each_count_and_a_new_bundle_reads_them_alike(tiny_folder):
    """The first linear layer's column for a count is what is added to the text's own part."""
    counting = open_text_encoder(tiny_folder, counts=True)
    fusion = build_fusion(FusionConfig(kind="mean", video_dim=6, text_dim=counting.text_dim))
    texts = ["with 2 twists", "with 2.5 twists"]
    with torch.no_grad():
        vectors = counting.encode(texts)
        _, projected = fusion.project(torch.zeros(2, 6), vectors)
        weight, bias = (fusion.get_parameter(f"text_projection.{n}") for n in ("weight", "bias"))
        codes = [count_codes(text)[0] - 1 for text in texts]
        for row, code in enumerate(codes):
            expected = weight[:, :16] @ vectors[row, :16] + weight[:, 16 + code]
            torch.testing.assert_close(projected[row], expected + bias)
        again = build_text_encoder(
            counting.config, counting.architecture(), counting.tokenizer.to_json()
        )
        again.load_state_dict(counting.state_dict())
        torch.testing.assert_close(again.encode(texts), vectors)


def test_later_options_are_in_the_card_only_where_they_are_used(tiny_folder):
    """The ids of bundles that were written before them stay what they are."""
    plain = text_config_to_dict(TextConfig(source="x", pooling="mean"))
    assert set(plain) == {"source", "pooling", "max_tokens", "number_words", "max_words"}
    config = TextConfig(source="x", pooling="mean", counts=True, released_words=True)
    assert TextConfig(**text_config_to_dict(config)) == config


def test_every_weight_of_a_text_encoder_trains(tiny_folder):
    """DistributedDataParallel refuses a weight that no loss reaches."""
    encoder = open_text_encoder(tiny_folder)
    encoder.encode(["in tuck"])[:, 0].sum().backward()
    assert all(parameter.grad is not None for parameter in encoder.parameters())


def test_bad_names_and_settings_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"'nothing'.*all-MiniLM-L6-v2"):
        open_text_encoder("packaged:nothing")
    with pytest.raises(ValueError, match="released_words is True"):
        TextConfig(source="x", pooling="cls", number_words=False, released_words=True)
    with pytest.raises(ValueError, match="'max'"):
        TextConfig(source="x", pooling="max")  # type: ignore[arg-type]
    with pytest.raises((OSError, ValueError), match=str(tmp_path)):
        open_text_encoder(tmp_path)
