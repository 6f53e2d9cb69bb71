"""What is read of a text: its tokens and no padding, in a fixed width, the same in training tables as through the encoder."""

import pytest
import torch

from encoders.query_encoder.text_encoder import build_text_encoder, open_text_encoder
from encoders.query_encoder.token_reader import READ_WIDTH, TokenReader
from training.stage2.text_table import read_texts

TEXTS = ["no twists", "with one more somersault, and from the opposite take-off", "in pike"]


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    encoder = open_text_encoder(counts=True, max_tokens=64)
    encoder.add_reader(4)
    return encoder.eval()


def test_padding_is_not_read():
    torch.manual_seed(0)
    reader = TokenReader(6, 3).eval()
    states = torch.randn(2, 5, 6)
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    read = reader(states, mask)
    assert read.shape == (2, 3 * READ_WIDTH)
    other = states.clone()
    other[0, 3:] = 9.0
    torch.testing.assert_close(reader(other, mask), read)
    torch.testing.assert_close(reader(states[:1, :3], mask[:1, :3]), read[:1])


def test_a_text_is_read_alike_alone_and_beside_longer_ones(encoder):
    together = encoder.encode(TEXTS)
    assert together.shape == (3, encoder.text_dim)
    torch.testing.assert_close(encoder.encode(TEXTS[:1]), together[:1], atol=1e-4, rtol=1e-3)


def test_the_training_table_holds_what_the_encoder_reads(encoder, tmp_path):
    table = read_texts(TEXTS, encoder, cache_dir=tmp_path)
    rows = table.rows(torch.tensor([2, 0, 1]))
    read = encoder.reader.read_packed(rows["states"].float(), rows["lengths"])
    made = torch.cat([rows["text"], read], dim=1)
    # The table keeps states in half precision.
    torch.testing.assert_close(
        made, encoder.encode([TEXTS[2], TEXTS[0], TEXTS[1]]), atol=5e-3, rtol=5e-3
    )


def test_an_encoder_of_a_card_has_its_reader(encoder):
    again = build_text_encoder(encoder.config, encoder.architecture(), encoder.tokenizer.to_json())
    again.load_state_dict(encoder.state_dict())
    torch.testing.assert_close(again.encode(TEXTS), encoder.encode(TEXTS))
