"""A head of attributes places labels that it never saw, and becomes a plain head that ranks alike."""

import pytest
import torch
from torch.nn import functional as F

from encoders.video_encoder.config import FrameTemporalConfig
from training.recipes import demo_actions_factored
from training.stage1.factor_head import FactorHead
from training.stage1.task import build_classifier

LABELS = ("103b", "103c", "105b", "105c", "107b", "107c", "203b", "205c")


def test_a_class_and_a_count_that_were_never_shown_are_placed_by_what_was():
    """Weights fitted to directions of other labels give the left out ones, because counts share their columns."""
    torch.manual_seed(0)
    true = FactorHead(LABELS, 16, temperature=0.07)
    shown = [n for n, label in enumerate(LABELS) if label not in ("107b", "107c", "205c")]
    fitted = torch.randn_like(true.weight).requires_grad_()
    optimizer = torch.optim.Adam([fitted], lr=0.05)
    wanted = true.directions().detach()

    def directions() -> torch.Tensor:
        return F.normalize(true.codes_KC @ fitted, dim=-1)

    for _ in range(400):
        loss = (1 - (directions() * wanted)[shown].sum(dim=-1)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    placed = directions() @ wanted.T
    assert placed.argmax(dim=1).tolist() == list(range(len(LABELS)))


def test_the_plain_head_ranks_alike():
    head = FactorHead(LABELS, 16, temperature=0.07)
    features = torch.randn(20, 16, generator=torch.Generator().manual_seed(0))
    plain = head.as_linear()
    assert plain.bias is not None
    order, plain_order = (rows.argsort(dim=1) for rows in (head(features), plain(features)))
    assert torch.equal(order, plain_order)


def test_labels_of_the_same_attributes_are_refused():
    with pytest.raises(ValueError, match="'cooking' and 'dancing' have the same attributes"):
        FactorHead(("cooking", "dancing"), 8, temperature=0.1)


def test_the_recipe_trains_it_and_the_bundle_gets_a_plain_one():
    recipe = demo_actions_factored()
    config = recipe.__class__(
        encoder=FrameTemporalConfig(num_frames=8, embedding_dim=32, depth=1),
        loop=recipe.loop,
        head=recipe.head,
    )
    classifier = build_classifier(config, {"label": LABELS})
    assert isinstance(classifier.head, FactorHead)
    batch = {
        "frame_vectors": torch.randn(4, 8, config.encoder.image.vector_dim),
        "weights": torch.ones(4),
        "label": torch.tensor([0, 3, 5, 7]),
    }
    classifier(batch)["loss"].sum().backward()
    assert classifier.head.weight.grad is not None
    assert classifier.head.weight.grad.abs().sum() > 0
    assert classifier.linear_head().out_features == len(LABELS)
