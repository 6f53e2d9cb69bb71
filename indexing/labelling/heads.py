"""Heads over labels, fitted on stored clip vectors: nothing is embedded again.

Multinomial logistic regression with a Gaussian prior on the weights, on vectors that are scaled to unit variance over the pool.
N clips, D vector, L labels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_MAX_ITERATIONS = 100
_TOLERANCE = 1e-3
PRIOR_VARIANCE = 0.1
"""Of each weight."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Scaling:
    """Vectors to mean 0 and variance 1 per number, as of the pool."""

    mean_D: np.ndarray
    deviation_D: np.ndarray

    @classmethod
    def of(cls, vectors_ND: np.ndarray) -> "Scaling":
        """Of these vectors; a number that never changes is left at 0."""
        deviation_D = vectors_ND.std(axis=0)
        return cls(mean_D=vectors_ND.mean(axis=0), deviation_D=np.maximum(deviation_D, 1e-6))

    def __call__(self, vectors_ND: np.ndarray) -> np.ndarray:
        return (vectors_ND - self.mean_D) / self.deviation_D


@dataclass(frozen=True, kw_only=True, slots=True)
class Heads:
    """A head per label."""

    labels: tuple[str, ...]
    """Sorted."""
    weight_LD: np.ndarray
    bias_L: np.ndarray

    def probabilities(self, scaled_ND: np.ndarray) -> np.ndarray:
        """Label probabilities of scaled vectors [N, L]; rows sum to 1."""
        logits_NL = scaled_ND @ self.weight_LD.T + self.bias_L
        powers_NL = np.exp(logits_NL - logits_NL.max(axis=1, keepdims=True))
        return powers_NL / powers_NL.sum(axis=1, keepdims=True)


def fit_heads(scaled_ND: np.ndarray, labels: Sequence[str]) -> Heads | None:
    """Fit on labelled clips; None without any."""
    names = tuple(sorted(set(labels)))
    if not names:
        return None
    width = scaled_ND.shape[1]
    if len(names) == 1:
        return Heads(labels=names, weight_LD=np.zeros((1, width)), bias_L=np.zeros(1))
    from sklearn.linear_model import LogisticRegression  # a second to import

    # Balanced: what was asked first says nothing of how frequent a label is.
    model = LogisticRegression(
        C=PRIOR_VARIANCE, max_iter=_MAX_ITERATIONS, tol=_TOLERANCE, class_weight="balanced"
    )
    model.fit(scaled_ND, labels)
    weight_LD, bias_L = model.coef_, np.asarray(model.intercept_)
    if len(names) == 2:  # one row, of the second label
        weight_LD = np.concatenate([-weight_LD / 2, weight_LD / 2])
        bias_L = np.concatenate([-bias_L / 2, bias_L / 2])
    return Heads(labels=names, weight_LD=weight_LD, bias_L=bias_L)
