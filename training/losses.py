"""Losses by name: smoothed cross-entropy for actions, hard-negative NCE for composed queries.

A new loss is a function here, a line in `LOSSES`, and a recipe whose `loss` names it.

N queries and their N targets: row i of the similarities is query i, column j the target of query j.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from training.configs import Stage1Config, Stage2Config


def hn_nce(
    cosine_NN: Tensor,
    *,
    temperature: float = 0.07,
    alpha: float = 1.0,
    beta: float = 0.5,
    is_ignored_NN: Tensor | None = None,
) -> Tensor:
    """Hard-negative NCE (arXiv 2301.02280) in both directions; only the diagonal is positive.

    `is_ignored_NN` marks pairs that are neither positive nor negative; they do not count in N - 1 either.
    """
    if cosine_NN.ndim != 2 or cosine_NN.shape[0] != cosine_NN.shape[1]:
        raise ValueError(f"cosine_NN has shape {tuple(cosine_NN.shape)}; it must be square")
    if temperature <= 0:
        raise ValueError(f"temperature is {temperature}; it must be above 0")
    # At least float32: exp() of cosine / 0.07 spans 12 decades, too many to sum in half precision.
    similarity_NN = at_least_float32(cosine_NN) / temperature
    is_negative_NN = ~torch.eye(len(cosine_NN), dtype=torch.bool, device=cosine_NN.device)
    if is_ignored_NN is not None:
        is_negative_NN = is_negative_NN & ~is_ignored_NN
    rows = _one_direction(similarity_NN, is_negative_NN, alpha, beta)
    columns = _one_direction(similarity_NN.T, is_negative_NN.T, alpha, beta)
    return rows + columns


def multi_positive_nce(cosine_NN: Tensor, is_same_NN: Tensor, *, temperature: float) -> Tensor:
    """Cross-entropy in both directions where every column marked the same as the row is a positive, the diagonal always."""
    is_positive_NN = is_same_NN | torch.eye(
        len(cosine_NN), dtype=torch.bool, device=cosine_NN.device
    )
    similarity_NN = at_least_float32(cosine_NN) / temperature
    share_NN = is_positive_NN / is_positive_NN.sum(dim=1, keepdim=True)
    rows = (similarity_NN.log_softmax(dim=1) * share_NN).sum(dim=1)
    columns = (similarity_NN.log_softmax(dim=0) * share_NN.T).sum(dim=0)
    return -(rows + columns).mean()


def at_least_float32(x: Tensor) -> Tensor:
    """Convert half precision to float32; float64 stays."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _one_direction(
    similarity_NN: Tensor, is_negative_NN: Tensor, alpha: float, beta: float
) -> Tensor:
    """mean_i(log sum_j w_ij exp(s_ij) - s_ii), all in logarithms; a row without negatives gives log(alpha)."""
    positive_N = similarity_NN.diagonal()
    lowest = torch.finfo(similarity_NN.dtype).min
    scaled_NN = (beta * similarity_NN).masked_fill(~is_negative_NN, lowest)
    num_negatives_N1 = is_negative_NN.sum(dim=1, keepdim=True)
    log_weight_NN = (
        scaled_NN
        - scaled_NN.logsumexp(dim=1, keepdim=True)
        + num_negatives_N1.clamp(min=1).to(similarity_NN.dtype).log()
    )
    negatives_NN = (log_weight_NN + similarity_NN).masked_fill(~is_negative_NN, lowest)
    log_alpha = torch.tensor(alpha, dtype=similarity_NN.dtype, device=similarity_NN.device).log()
    terms = torch.cat([negatives_NN, (positive_N + log_alpha)[:, None]], dim=1)
    return (terms.logsumexp(dim=1) - positive_N).mean()


def smoothed_cross_entropy(
    logits_NK: Tensor, labels_N: Tensor, weights_N: Tensor, *, smoothing: float
) -> Tensor:
    """Weighted mean over examples; a label of -1 (unknown) has no weight."""
    known_N = weights_N * (labels_N >= 0)
    losses_N = F.cross_entropy(
        logits_NK.float(), labels_N.clamp(min=0), reduction="none", label_smoothing=smoothing
    )
    return (losses_N * known_N).sum() / known_N.sum().clamp(min=1)


def same_label_mask(labels_N: Tensor) -> Tensor:
    """True where two different examples have the same label; a label of -1 (unknown) equals no other."""
    is_same_NN = (labels_N[:, None] == labels_N[None, :]) & (labels_N >= 0)[:, None]
    return is_same_NN & ~torch.eye(len(labels_N), dtype=torch.bool, device=labels_N.device)


def _stage1_cross_entropy(
    logits_NK: Tensor, labels_N: Tensor, weights_N: Tensor, config: Stage1Config
) -> Tensor:
    return smoothed_cross_entropy(logits_NK, labels_N, weights_N, smoothing=config.label_smoothing)


def _stage2_hn_nce(cosine_NN: Tensor, is_ignored_NN: Tensor | None, config: Stage2Config) -> Tensor:
    return hn_nce(
        cosine_NN,
        temperature=config.temperature,
        alpha=config.alpha,
        beta=config.beta,
        is_ignored_NN=is_ignored_NN,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Loss:
    """A loss of one stage. Parameters that only this loss has come from the config's `loss_options`.

    Stage 1 calls compute(logits_NK, labels_N, weights_N, config); stage 2 compute(cosine_NN, is_ignored_NN, config), where
    the diagonal is positive. Both return a scalar.
    """

    stage: Literal[1, 2]
    compute: Callable[..., Tensor]


LOSSES: dict[str, Loss] = {
    "smoothed_cross_entropy": Loss(stage=1, compute=_stage1_cross_entropy),
    "hn_nce": Loss(stage=2, compute=_stage2_hn_nce),
}


def loss_of(config: Stage1Config | Stage2Config) -> Callable[..., Tensor]:
    """The loss that the config names; ValueError if its stage does not have it."""
    stage = 1 if isinstance(config, Stage1Config) else 2
    loss = LOSSES.get(config.loss)
    if loss is None or loss.stage != stage:
        names = sorted(name for name, loss in LOSSES.items() if loss.stage == stage)
        raise ValueError(f"loss is {config.loss!r}; it must be one of {', '.join(names)}")
    return loss.compute
