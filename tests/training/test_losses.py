import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks.fidelity.release import measure_losses
from training.losses import (
    LOSSES,
    cross_entropy,
    hn_nce,
    hn_nce_released,
    loss_of,
    same_label_mask,
    smoothed_cross_entropy,
)
from training.recipes import demo_actions, demo_fusion


def hn_nce_in_loops(cosine, temperature, alpha, beta, ignored=None):
    """The formula of the paper, one number at a time."""
    total = 0.0
    for s in (cosine / temperature, cosine.T / temperature):
        skip = np.zeros(s.shape, bool) if ignored is None else ignored
        losses = []
        for i in range(len(s)):
            negatives = [j for j in range(len(s)) if j != i and not skip[i, j]]
            weight_sum = sum(math.exp(beta * s[i, j]) for j in negatives)
            inner = alpha * math.exp(s[i, i])
            for j in negatives:
                weight = len(negatives) * math.exp(beta * s[i, j]) / weight_sum
                inner += weight * math.exp(s[i, j])
            losses.append(math.log(inner) - s[i, i])
        total += sum(losses) / len(losses)
    return total


def unit_rows(rng, rows, width):
    x = rng.normal(size=(rows, width))
    return x / np.linalg.norm(x, axis=1, keepdims=True)


@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 0.5), (0.7, 0.0), (2.0, 1.5)])
def test_hn_nce_is_the_formula(alpha, beta) -> None:
    rng = np.random.default_rng(0)
    cosine = unit_rows(rng, 7, 5) @ unit_rows(rng, 7, 5).T
    loss = hn_nce(torch.tensor(cosine), temperature=0.07, alpha=alpha, beta=beta)
    assert float(loss) == pytest.approx(hn_nce_in_loops(cosine, 0.07, alpha, beta), rel=1e-5)


def test_without_weighting_it_is_symmetric_cross_entropy() -> None:
    cosine = torch.rand(6, 6, dtype=torch.float64)
    targets = torch.arange(6)
    expected = sum(
        torch.nn.functional.cross_entropy(logits, targets)
        for logits in (cosine / 0.1, cosine.T / 0.1)
    )
    assert float(hn_nce(cosine, temperature=0.1, beta=0.0)) == pytest.approx(float(expected))


def test_ignored_pairs_are_as_if_they_were_not_there() -> None:
    rng = np.random.default_rng(1)
    cosine = unit_rows(rng, 8, 5) @ unit_rows(rng, 8, 5).T
    labels = np.array([0, 1, 0, 2, 2, 2, -1, -1])
    mask = same_label_mask(torch.tensor(labels))
    by_hand = (labels[:, None] == labels) & (labels >= 0)[:, None] & ~np.eye(8, dtype=bool)
    assert np.array_equal(mask.numpy(), by_hand)
    loss = hn_nce(torch.tensor(cosine), is_ignored_NN=mask)
    assert float(loss) == pytest.approx(hn_nce_in_loops(cosine, 0.07, 1, 0.5, by_hand), rel=1e-5)


def test_a_row_without_negatives_has_a_finite_gradient() -> None:
    cosine = torch.rand(3, 3, requires_grad=True)
    loss = hn_nce(cosine, is_ignored_NN=same_label_mask(torch.zeros(3, dtype=torch.int64)))
    loss.backward()
    assert loss.item() == pytest.approx(0.0, abs=1e-6)
    assert cosine.grad is not None
    assert torch.isfinite(cosine.grad).all()


def test_cosines_of_one_do_not_overflow() -> None:
    assert torch.isfinite(hn_nce(torch.ones(4, 4, dtype=torch.bfloat16), temperature=0.005))


def test_unknown_labels_and_dead_clips_count_nothing() -> None:
    logits = torch.randn(4, 3)
    labels, weights = torch.tensor([0, -1, 2, 1]), torch.tensor([1.0, 1.0, 0.0, 1.0])
    loss = smoothed_cross_entropy(logits, labels, weights, smoothing=0.1)
    alone = torch.nn.functional.cross_entropy(
        logits[[0, 3]], torch.tensor([0, 1]), label_smoothing=0.1
    )
    assert float(loss) == pytest.approx(float(alone), rel=1e-6)


def test_a_matrix_that_is_not_square_is_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(2, 3\)"):
        hn_nce(torch.zeros(2, 3))


@pytest.mark.parametrize("recipe", [demo_actions, demo_fusion])
def test_a_loss_that_the_stage_does_not_have_is_refused_by_name(recipe) -> None:
    stage = LOSSES[recipe().loss].stage
    other = next(name for name, loss in LOSSES.items() if loss.stage != stage)
    own = ", ".join(sorted(name for name, loss in LOSSES.items() if loss.stage == stage))
    for name in (other, "unheard_of"):
        with pytest.raises(ValueError, match=rf"loss is {name!r}; it must be one of {own}$"):
            loss_of(replace(recipe(), loss=name))


def test_the_release_weighs_a_pair_by_the_row_of_its_column() -> None:
    cosine = torch.tensor([[0.9, 0.1, 0.6], [0.2, 0.8, 0.0], [0.3, 0.5, 0.7]], dtype=torch.float64)
    assert float(hn_nce_released(cosine)) == pytest.approx(0.346691, abs=1e-6)
    assert float(hn_nce(cosine)) == pytest.approx(0.176555, abs=1e-6)
    assert float(hn_nce_released(cosine, beta=0.0)) == pytest.approx(
        float(hn_nce(cosine, beta=0.0))
    )


def test_losses_and_gradients_are_those_of_the_restated_release() -> None:
    errors = measure_losses()
    assert errors["release_loss_error"] < 1e-9
    assert errors["release_grad_error"] < 1e-9


@pytest.mark.parametrize("loss", [hn_nce, hn_nce_released, cross_entropy])
def test_a_batch_of_one_has_a_loss_and_a_gradient(loss) -> None:
    cosine = torch.tensor([[0.3]], requires_grad=True)
    loss(cosine).backward()
    assert cosine.grad is not None
    assert torch.isfinite(cosine.grad).all()


def test_false_negative_losses_need_to_know_the_labels() -> None:
    recipe = replace(demo_fusion(), loss="false_negative_attraction")
    assert loss_of(recipe) is LOSSES["false_negative_attraction"].compute
    with pytest.raises(ValueError, match="mask_same_label is False"):
        loss_of(replace(recipe, mask_same_label=False))
