"""Which clips to ask about next: groups of clips that look alike, those first whose members are many, in doubt, and not yet labelled.

K-means makes the groups, more of them as labels grow; of each the clip nearest to its centre is asked about, as in TypiClust (Hacohen et
al., 2022, arXiv 2202.02794), whose groups are weighed here by the doubt of their members. N clips, D vector, P directions, L labels,
G groups.
"""

from dataclasses import dataclass

import numpy as np

MAX_GROUPS = 128
_MAX_ITERATIONS = 15
_NUM_DIRECTIONS = 24
"""In which clips are compared: those in which the pool varies most. More of them hide what tells labels apart (val split of the study)."""
DOUBT_POWER = 0.0
"""How much doubt weighs; 0 = the size of a group alone. `python -m benchmarks labelling` compares it with 1 on its val split."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """Clips that look alike."""

    open_clips: np.ndarray
    """Numbers of its clips that nobody has labelled or passed over, the most typical first."""
    num_labelled: int


def doubt(probabilities_NL: np.ndarray | None, num_clips: int) -> np.ndarray:
    """1 minus the margin between the two likeliest labels of each clip [N]; 1 without heads."""
    if probabilities_NL is None or probabilities_NL.shape[1] < 2:
        return np.ones(num_clips)
    best_N2 = np.partition(probabilities_NL, -2, axis=1)[:, -2:]
    return 1 - (best_N2[:, 1] - best_N2[:, 0])


def choose_groups(
    scaled_ND: np.ndarray,
    doubt_N: np.ndarray,
    *,
    is_labelled_N: np.ndarray,
    is_open_N: np.ndarray,
    count: int,
    power: float = DOUBT_POWER,
) -> list[Group]:
    """At most `count` groups with open clips, the most useful first: ask about the first clip of each."""
    num_groups = min(int(is_labelled_N.sum()) + count, MAX_GROUPS, len(scaled_ND))
    if num_groups < 1 or not is_open_N.any():
        return []
    from sklearn.cluster import KMeans  # a second to import

    means = KMeans(num_groups, n_init="auto", max_iter=_MAX_ITERATIONS, random_state=0)
    reduced_NP = _reduced(scaled_ND)
    group_N = means.fit_predict(reduced_NP)
    distance_N = np.linalg.norm(reduced_NP - means.cluster_centers_[group_N], axis=1)
    num_labelled_G = np.bincount(group_N, weights=is_labelled_N, minlength=num_groups)
    worth_G = np.bincount(group_N, weights=is_open_N * doubt_N**power, minlength=num_groups)
    worth_G /= (1 + num_labelled_G) ** 2
    groups = []
    for group in np.argsort(-worth_G, kind="stable"):
        members = np.flatnonzero((group_N == group) & is_open_N)
        if len(members) and len(groups) < count:
            order = members[np.argsort(distance_N[members], kind="stable")]
            groups.append(Group(open_clips=order, num_labelled=int(num_labelled_G[group])))
    return groups


def _reduced(scaled_ND: np.ndarray) -> np.ndarray:
    """Leading principal components [N, P], each divided by the root of its deviation: half of the way to equal weights."""
    from sklearn.decomposition import PCA

    pca = PCA(min(_NUM_DIRECTIONS, *scaled_ND.shape), random_state=0)
    reduced_NP = pca.fit_transform(scaled_ND)
    return reduced_NP / np.maximum(pca.explained_variance_, 1e-12) ** 0.25
