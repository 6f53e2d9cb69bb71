"""The factored fusion: matrices that move probability, correction of what is read, and what happens without factors."""

import pytest
import torch

from encoders.files import from_dict
from encoders.query_encoder.config import (
    FusionConfig,
    fusion_config_to_dict,
)
from encoders.query_encoder.factored import EditFactor, FactoredFusion, apply_edits
from encoders.query_encoder.factors import Factor, find_factors
from encoders.query_encoder.fusion import build_fusion

FACTORS = find_factors(
    [
        {"twists": "0", "position": "pike"},
        {"twists": "1.5", "position": "tuck"},
        {"twists": "2", "position": "pike", "armstand": "yes"},
    ]
)
CONFIG = FusionConfig(
    kind="factored", video_dim=6, text_dim=5, projection_dim=7, hidden_dim=9, factors=FACTORS
)


def built(config: FusionConfig) -> FactoredFusion:
    torch.manual_seed(1)
    fusion = build_fusion(config).double().eval()
    assert isinstance(fusion, FactoredFusion)
    return fusion


def inputs(num_queries: int = 4):
    generator = torch.Generator().manual_seed(0)
    video = torch.randn(num_queries, 6, generator=generator, dtype=torch.float64)
    text = torch.randn(num_queries, 5, generator=generator, dtype=torch.float64)
    return video / video.norm(dim=1, keepdim=True), text


def test_every_edit_keeps_probability():
    fusion = built(CONFIG)
    video, text = inputs()
    with torch.no_grad():
        composed = fusion.compose(video, text)
        matrices = fusion.edits(text)
    for matrix in matrices:
        torch.testing.assert_close(matrix.sum(-1), torch.ones_like(matrix[..., 0]))
        assert (matrix >= 0).all()
    for part in composed.target_NS.split(fusion.sizes, dim=1):
        torch.testing.assert_close(part.sum(-1), torch.ones(4, dtype=torch.float64))
    torch.testing.assert_close(composed.query_NV.norm(dim=1), torch.ones(4, dtype=torch.float64))
    assert composed.asked_NF.shape == (4, len(FACTORS))


@pytest.mark.parametrize("offset", [-3, -1, 0, 2, 20])
def test_a_shift_moves_along_the_line_to_values_that_no_label_has(offset):
    factor = Factor(name="n", values=("0", "1", "2", "3", "4", ""), is_ordered=True)
    edit = EditFactor(factor, 3).eval()
    with torch.no_grad():
        for layer in (edit.gate, edit.shift):
            layer.weight.zero_()
            layer.bias.fill_(-50.0)
        edit.gate.bias[2] = 50.0
        edit.shift.bias[min(max(offset, -4), 4) + 4] = 50.0
        matrix = edit(torch.zeros(1, 3))
    read = torch.eye(6)
    (moved,) = apply_edits([read], [matrix.expand(6, -1, -1)])
    for slot in range(5):
        assert int(moved[slot].argmax()) == min(max(slot + offset, 0), 4)
    assert int(moved[5].argmax()) == 5  # what is absent stays so


def test_a_corrected_reading_holds_and_silences_the_combiner():
    fusion = built(CONFIG)
    video, text = inputs()
    names = [factor.name for factor in FACTORS]
    n = names.index("position")
    start = sum(fusion.sizes[:n])
    given = torch.zeros(4, sum(fusion.sizes), dtype=torch.float64)
    given[:2, start] = 1
    with torch.no_grad():
        plain, corrected = fusion.compose(video, text), fusion.compose(video, text, given)
        other = fusion.compose(-video, text, torch.ones_like(given) / len(FACTORS))
        same = fusion.compose(video, text, torch.ones_like(given) / len(FACTORS))
    torch.testing.assert_close(corrected.source_NS[:2, start : start + fusion.sizes[n]], given[:2, start : start + fusion.sizes[n]])  # fmt: skip
    torch.testing.assert_close(corrected.query_NV[2:], plain.query_NV[2:])
    assert (corrected.query_NV[:2] - plain.query_NV[:2]).abs().max() > 1e-4
    torch.testing.assert_close(other.query_NV, same.query_NV)  # nothing of the clip is left


def test_without_factors_it_is_the_combiner():
    fusion = built(FusionConfig(kind="factored", video_dim=6, text_dim=5, projection_dim=7, hidden_dim=9))  # fmt: skip
    video, text = inputs()
    with torch.no_grad():
        torch.testing.assert_close(fusion(video, text), fusion.combiner(video, text))
        assert fusion.compose(video, text).source_NS.shape == (4, 0)


def test_the_card_keeps_factors_and_older_cards_stay_as_they_are():
    values = fusion_config_to_dict(CONFIG)
    assert from_dict(FusionConfig, values, "fusion") == CONFIG
    combiner = FusionConfig(kind="combiner", video_dim=6, text_dim=5)
    assert "factors" not in fusion_config_to_dict(combiner)
    with pytest.raises(ValueError, match="'combiner'"):
        FusionConfig(kind="combiner", video_dim=6, text_dim=5, factors=FACTORS)
