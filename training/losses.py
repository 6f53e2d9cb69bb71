"""What does each stage minimise? Smoothed cross-entropy for actions, hard-negative NCE for composed queries.

N queries and their N targets: row i of the similarities is query i, column j the target of query j.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


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
    # At least float32: exp() of cosine / 0.07 spans 12 decades, more than half precision can add up.
    similarity_NN = at_least_float32(cosine_NN) / temperature
    is_negative_NN = ~torch.eye(len(cosine_NN), dtype=torch.bool, device=cosine_NN.device)
    if is_ignored_NN is not None:
        is_negative_NN = is_negative_NN & ~is_ignored_NN
    rows = _one_direction(similarity_NN, is_negative_NN, alpha, beta)
    columns = _one_direction(similarity_NN.T, is_negative_NN.T, alpha, beta)
    return rows + columns


def at_least_float32(x: Tensor) -> Tensor:
    """Half precision becomes float32; float64 stays."""
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
    """Weighted mean over examples; a label of -1 (unknown) counts nothing."""
    known_N = weights_N * (labels_N >= 0)
    losses_N = F.cross_entropy(
        logits_NK.float(), labels_N.clamp(min=0), reduction="none", label_smoothing=smoothing
    )
    return (losses_N * known_N).sum() / known_N.sum().clamp(min=1)


def same_label_mask(labels_N: Tensor) -> Tensor:
    """True where two different examples have one label; a label of -1 (unknown) equals nothing."""
    is_same_NN = (labels_N[:, None] == labels_N[None, :]) & (labels_N >= 0)[:, None]
    return is_same_NN & ~torch.eye(len(labels_N), dtype=torch.bool, device=labels_N.device)
