"""Random small models, saved as Hugging Face does, against transformers' own forward."""

import pytest
import torch
from transformers import BertConfig, BertModel

from encoders.query_encoder.text_encoder import build_text_encoder, open_text_encoder
from tests.support.qformer import TEXTS, bert_tokenizer, save_clip, save_qformer


def test_the_q_former_reads_text_as_blip_2_does(tmp_path):
    reference = save_qformer(tmp_path / "blip2")
    encoder = open_text_encoder(tmp_path / "blip2")
    tokens, mask = encoder.tokenizer.tokenize(TEXTS)
    with torch.no_grad():
        expected = reference(input_ids=tokens, attention_mask=mask).last_hidden_state[:, 0]
        torch.testing.assert_close(encoder(tokens, mask), expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(encoder.encode(TEXTS[1:2])[0], expected[1], atol=1e-5, rtol=1e-5)
    assert encoder.text_dim == 32


def test_every_weight_of_the_q_former_trains(tmp_path):
    save_qformer(tmp_path / "blip2")
    encoder = open_text_encoder(tmp_path / "blip2")
    encoder.encode(TEXTS)[:, :5].sum().backward()
    assert [name for name, p in encoder.named_parameters() if p.grad is None] == []


def test_clip_gives_its_own_text_vector(tmp_path):
    reference = save_clip(tmp_path / "clip")
    encoder = open_text_encoder(tmp_path / "clip")
    tokens, mask = encoder.tokenizer.tokenize(TEXTS)
    with torch.no_grad():
        expected = reference(input_ids=tokens, attention_mask=mask).text_embeds
        torch.testing.assert_close(encoder(tokens, mask), expected)
        torch.testing.assert_close(encoder.encode(TEXTS[1:2])[0], expected[1], atol=1e-5, rtol=1e-5)
    assert encoder.text_dim == 24


@pytest.mark.parametrize("save", [save_qformer, save_clip])
def test_a_bundle_can_build_the_model_again(tmp_path, save):
    save(tmp_path / "model")
    encoder = open_text_encoder(tmp_path / "model")
    again = build_text_encoder(encoder.config, encoder.architecture(), encoder.tokenizer.to_json())
    again.load_state_dict(encoder.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(again.encode(TEXTS), encoder.encode(TEXTS))


def test_a_blip_2_that_reads_no_text_is_refused(tmp_path):
    save_qformer(tmp_path / "blip2", reads_text=False)
    with pytest.raises(ValueError, match="reads no text"):
        open_text_encoder(tmp_path / "blip2")


def test_weights_that_a_model_lacks_are_not_made_up(tmp_path):
    tokenizer, size = bert_tokenizer(tmp_path)
    config = BertConfig(
        vocab_size=size, hidden_size=8, num_hidden_layers=2, num_attention_heads=1, intermediate_size=8
    )  # fmt: skip
    tokenizer.save_pretrained(tmp_path)
    model = BertModel(config)
    weights = {k: v for k, v in model.state_dict().items() if not k.startswith("pooler.")}
    model.save_pretrained(tmp_path, state_dict=dict(weights))
    assert open_text_encoder(tmp_path).text_dim == 8  # the pooler is not read
    weights.pop("encoder.layer.1.output.dense.weight")
    model.save_pretrained(tmp_path, state_dict=dict(weights))
    with pytest.raises(ValueError, match=r"1 weights are missing, first: .'encoder.layer.1"):
        open_text_encoder(tmp_path)
