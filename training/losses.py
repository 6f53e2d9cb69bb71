"""Losses by name: smoothed cross-entropy for actions; hard-negative NCE, cross-entropy and false-negative losses for queries.

`hn_nce` is the published formula, `hn_nce_released` what TF-CoVR's code computes: they differ in one direction. A new loss is a
function here, a line in `LOSSES`, and a recipe whose `loss` names it.

N queries and their N targets: row i of the similarities is query i, column j the target of query j.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from training.configs import Stage1Config, Stage2Config

_RELEASED_EPSILON = 1e-8


def hn_nce(
    cosine_NN: Tensor,
    *,
    temperature: float = 0.07,
    alpha: float = 1.0,
    beta: float = 0.5,
    is_ignored_NN: Tensor | None = None,
) -> Tensor:
    """Hard-negative NCE as published (arXiv 2301.02280), in both directions; only the diagonal is positive.

    `is_ignored_NN` marks pairs that are neither positive nor negative; they do not count in N - 1 either.
    """
    similarity_NN, is_negative_NN = _scaled(cosine_NN, temperature, is_ignored_NN)
    rows = _one_direction(similarity_NN, is_negative_NN, alpha, beta)
    columns = _one_direction(similarity_NN.T, is_negative_NN.T, alpha, beta)
    return rows + columns


def hn_nce_released(
    cosine_NN: Tensor,
    *,
    temperature: float = 0.07,
    alpha: float = 1.0,
    beta: float = 0.5,
    is_ignored_NN: Tensor | None = None,
) -> Tensor:
    """Hard-negative NCE as in TF-CoVR's code: query i weighs target j by the row sum of query j, not by its own.

    The columns are as published, and with beta 0 all is. `is_ignored_NN`, which the release does not have, as in `hn_nce`.
    """
    similarity_NN, is_negative_NN = _scaled(cosine_NN, temperature, is_ignored_NN)
    rows = _one_direction(similarity_NN, is_negative_NN, alpha, beta, weighs_by_column=True)
    columns = _one_direction(similarity_NN.T, is_negative_NN.T, alpha, beta)
    return rows + columns


def cross_entropy(
    cosine_NN: Tensor, *, temperature: float = 0.07, is_ignored_NN: Tensor | None = None
) -> Tensor:
    """Mean of the cross-entropies of both directions (InfoNCE), as in TF-CoVR's code."""
    similarity_NN, is_negative_NN = _scaled(cosine_NN, temperature, is_ignored_NN)
    is_term_NN = is_negative_NN | _diagonal(similarity_NN)
    kept_NN = similarity_NN.masked_fill(~is_term_NN, torch.finfo(similarity_NN.dtype).min)
    targets_N = torch.arange(len(kept_NN), device=kept_NN.device)
    return (F.cross_entropy(kept_NN, targets_N) + F.cross_entropy(kept_NN.T, targets_N)) / 2


def false_negative(
    cosine_NN: Tensor,
    is_false_negative_NN: Tensor,
    *,
    mode: Literal["elimination", "attraction"],
    temperature: float = 0.07,
    beta: float = 0.5,
) -> Tensor:
    """Mean of both directions of -log(exp(s_ii) / sum_j w_ij exp(s_ij)) over the negatives j, weights as in `hn_nce`.

    False negatives leave the sum, whose weights still count them; with `attraction` they are positives too, each as much as the
    diagonal. As in TF-CoVR's code, row i of the mask is the set of false negatives of query i and of target i.
    """
    similarity_NN, is_negative_NN = _scaled(cosine_NN, temperature, None)
    is_false_NN = is_false_negative_NN & is_negative_NN
    total = similarity_NN.new_zeros(())
    for s_NN in (similarity_NN, similarity_NN.T):
        log_weight_NN = _log_weights(s_NN, is_negative_NN, beta)
        log_sum_N = (log_weight_NN + s_NN).masked_fill(~is_negative_NN | is_false_NN, -math.inf)
        # The release adds 1e-8 to every denominator: a row that has only false negatives stays finite.
        tiny_N1 = torch.full_like(s_NN[:, :1], math.log(_RELEASED_EPSILON))
        log_sum_N = torch.cat([log_sum_N, tiny_N1], dim=1).logsumexp(dim=1)
        losses_N = log_sum_N - s_NN.diagonal()
        if mode == "attraction":
            attracted_NN = (log_sum_N[:, None] - s_NN) * is_false_NN
            losses_N = (losses_N + attracted_NN.sum(dim=1)) / (1 + is_false_NN.sum(dim=1))
        total = total + losses_N.mean()
    return total / 2


def _scaled(
    cosine_NN: Tensor, temperature: float, is_ignored_NN: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Similarities over the temperature, and which pairs are negative."""
    if cosine_NN.ndim != 2 or cosine_NN.shape[0] != cosine_NN.shape[1]:
        raise ValueError(f"cosine_NN has shape {tuple(cosine_NN.shape)}; it must be square")
    if temperature <= 0:
        raise ValueError(f"temperature is {temperature}; it must be above 0")
    # At least float32: exp() of cosine / 0.07 spans 12 decades, too many to sum in half precision.
    similarity_NN = at_least_float32(cosine_NN) / temperature
    is_negative_NN = ~_diagonal(similarity_NN)
    if is_ignored_NN is not None:
        is_negative_NN = is_negative_NN & ~is_ignored_NN
    return similarity_NN, is_negative_NN


def _diagonal(similarity_NN: Tensor) -> Tensor:
    return torch.eye(len(similarity_NN), dtype=torch.bool, device=similarity_NN.device)


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
    similarity_NN: Tensor,
    is_negative_NN: Tensor,
    alpha: float,
    beta: float,
    *,
    weighs_by_column: bool = False,
) -> Tensor:
    """mean_i(log sum_j w_ij exp(s_ij) - s_ii), all in logarithms; a row without negatives gives log(alpha)."""
    positive_N = similarity_NN.diagonal()
    log_weight_NN = _log_weights(
        similarity_NN, is_negative_NN, beta, weighs_by_column=weighs_by_column
    )
    lowest = torch.finfo(similarity_NN.dtype).min
    negatives_NN = (log_weight_NN + similarity_NN).masked_fill(~is_negative_NN, lowest)
    log_alpha = torch.tensor(alpha, dtype=similarity_NN.dtype, device=similarity_NN.device).log()
    terms = torch.cat([negatives_NN, (positive_N + log_alpha)[:, None]], dim=1)
    return (terms.logsumexp(dim=1) - positive_N).mean()


def _log_weights(
    similarity_NN: Tensor, is_negative_NN: Tensor, beta: float, *, weighs_by_column: bool = False
) -> Tensor:
    """log of w_ij = (negatives of row i) exp(beta s_ij) / (sum of exp(beta s_ik) over its negatives k).

    `weighs_by_column`: number and sum are those of row j.
    """
    lowest = torch.finfo(similarity_NN.dtype).min
    scaled_NN = (beta * similarity_NN).masked_fill(~is_negative_NN, lowest)
    num_negatives_N = is_negative_NN.sum(dim=1).clamp(min=1).to(similarity_NN.dtype)
    log_scale_N = num_negatives_N.log() - scaled_NN.logsumexp(dim=1)
    return scaled_NN + (log_scale_N[None, :] if weighs_by_column else log_scale_N[:, None])


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


def _stage2_hn_nce(loss: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def compute(cosine_NN: Tensor, is_ignored_NN: Tensor | None, config: Stage2Config) -> Tensor:
        return loss(
            cosine_NN,
            temperature=config.temperature,
            alpha=config.alpha,
            beta=config.beta,
            is_ignored_NN=is_ignored_NN,
        )

    return compute


def _stage2_cross_entropy(
    cosine_NN: Tensor, is_ignored_NN: Tensor | None, config: Stage2Config
) -> Tensor:
    return cross_entropy(cosine_NN, temperature=config.temperature, is_ignored_NN=is_ignored_NN)


def _stage2_false_negative(mode: Literal["elimination", "attraction"]) -> Callable[..., Tensor]:
    def compute(cosine_NN: Tensor, is_ignored_NN: Tensor, config: Stage2Config) -> Tensor:
        return false_negative(
            cosine_NN, is_ignored_NN, mode=mode, temperature=config.temperature, beta=config.beta
        )

    return compute


@dataclass(frozen=True, kw_only=True, slots=True)
class Loss:
    """A loss of one stage. Parameters that only this loss has come from the config's `loss_options`.

    Stage 1 calls compute(logits_NK, labels_N, weights_N, config); stage 2 compute(cosine_NN, is_ignored_NN, config), where
    the diagonal is positive. Both return a scalar.
    """

    stage: Literal[1, 2]
    compute: Callable[..., Tensor]
    needs_label_mask: bool = False
    """Whether it is about pairs of one target label, so that `mask_same_label` must be on."""


LOSSES: dict[str, Loss] = {
    "smoothed_cross_entropy": Loss(stage=1, compute=_stage1_cross_entropy),
    "hn_nce": Loss(stage=2, compute=_stage2_hn_nce(hn_nce)),
    "hn_nce_released": Loss(stage=2, compute=_stage2_hn_nce(hn_nce_released)),
    "cross_entropy": Loss(stage=2, compute=_stage2_cross_entropy),
    "false_negative_elimination": Loss(
        stage=2, compute=_stage2_false_negative("elimination"), needs_label_mask=True
    ),
    "false_negative_attraction": Loss(
        stage=2, compute=_stage2_false_negative("attraction"), needs_label_mask=True
    ),
}


def loss_of(config: Stage1Config | Stage2Config) -> Callable[..., Tensor]:
    """The loss that the config names; ValueError if its stage does not have it."""
    stage = 1 if isinstance(config, Stage1Config) else 2
    loss = LOSSES.get(config.loss)
    if loss is None or loss.stage != stage:
        names = sorted(name for name, loss in LOSSES.items() if loss.stage == stage)
        raise ValueError(f"loss is {config.loss!r}; it must be one of {', '.join(names)}")
    if loss.needs_label_mask and isinstance(config, Stage2Config) and not config.mask_same_label:
        raise ValueError(
            f"mask_same_label is False; loss {config.loss!r} needs it: pairs of one target label are its false negatives"
        )
    return loss.compute
