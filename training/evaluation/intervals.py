"""Bootstrap intervals of means over queries: percentiles of resamples over clusters of queries.

Queries are not independent: those of one query clip share its vector, those of one label pair share
the requested change. Resampling both at once (each query weighs the product of how often its clusters were
drawn; Owen 2007, "The pigeonhole bootstrap") gives wider, honest intervals. They do not cover the variance
between training seeds. All values are resampled with the same draws, so that differences are paired.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_BLOCK = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """A value and its bounds."""

    value: float
    low: float
    high: float


def resampled_means(
    values_NV: np.ndarray,
    clusters: Sequence[Sequence[object]],
    *,
    num_resamples: int,
    seed: int,
) -> np.ndarray:
    """[num_resamples, V]: means of V values over N queries, resampled by every cluster id given."""
    rng = np.random.default_rng(seed)
    ids = [np.unique([str(i) for i in cluster], return_inverse=True) for cluster in clusters]
    means = np.full((num_resamples, values_NV.shape[1]), np.nan)
    for start in range(0, num_resamples, _BLOCK):
        num = min(_BLOCK, num_resamples - start)
        weights_RN = np.ones((num, len(values_NV)))
        for names, inverse in ids:
            draws = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=num)
            weights_RN *= draws[:, inverse]
        totals_R1 = weights_RN.sum(axis=1, keepdims=True)
        with np.errstate(invalid="ignore"):  # no query drawn: left out by nanpercentile
            means[start : start + num] = weights_RN @ values_NV / totals_R1
    return means


def interval(value: float, resampled: np.ndarray, *, level: float) -> Interval:
    """Percentile bounds; the value is the plain figure over all queries."""
    finite = resampled[np.isfinite(resampled)]
    if not len(finite):
        return Interval(value=value, low=float("nan"), high=float("nan"))
    tail = 50 * (1 - level)
    low, high = np.percentile(finite, [tail, 100 - tail])
    return Interval(value=value, low=float(low), high=float(high))
