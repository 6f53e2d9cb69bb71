"""Calibration of answers: how probable it is that a hit shows what was asked, and when nothing matches.

Stage 2 fits it on the val split and stores it in the bundle. A hit's probability is a logistic function of its cosine with the query
(Platt scaling), so that it holds under any filter. The lowest cosine of an answer that is believed rises with the number of clips that
it is the best of. A text is unrelated where its nearest known text is unrelated (1-nearest
neighbour). A clip is unrelated where its Mahalanobis distance from the training clips is above that of nearly all val clips (Lee et
al., 2018, arXiv 1807.03888, section 2.1, without classes).

N queries or clips, D clip vector, E text vector, T texts.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import safetensors.numpy

from encoders.bundle.card import BundleCard, check_file
from encoders.bundle.checks import naming_file

CALIBRATION_FILE = "calibration.safetensors"
STATED_PRECISION = 0.9
"""Share of right answers among those of which the calibration says that they match, on the val split."""
QueryKind = Literal["composed", "clip", "text"]
QUERY_KINDS: tuple[QueryKind, ...] = get_args(QueryKind)
_MIN_OF_EACH = 10
_RELATED_CLIPS = 0.98
_SHRINKAGE = 1e-3
_NUM_KNOWN_TEXTS = 256
_NUM_NEWTON_STEPS = 50
_DOUBLINGS = range(-4, 5)
"""The val split tells of sizes near its own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreCalibration:
    """Cosine of a hit with its query -> probability that the hit is right, of one kind of query."""

    slope: float
    bias: float
    min_cosines: tuple[float, ...]
    """Best cosine of an answer from which on STATED_PRECISION of the answers are right: among `num_clips` in the middle, then among
    twice as many and so on, and before it among half of them and so on."""
    num_clips: float = 1

    @property
    def min_cosine(self) -> float:
        """That among `num_clips`."""
        return self.min_cosines[len(self.min_cosines) // 2]

    def min_cosine_among(self, num_clips: int) -> float:
        """That of an archive, or of what a filter leaves of it; that of the nearest known size where it is far from `num_clips`."""
        doublings = math.log2(max(num_clips, 1) / self.num_clips)
        reach = len(self.min_cosines) // 2
        return float(np.interp(doublings, range(-reach, reach + 1), self.min_cosines))

    def log_odds(self, cosines_N: np.ndarray) -> np.ndarray:
        """[N], log(p / (1 - p)) of the probability."""
        return self.slope * cosines_N + self.bias

    def probability(self, cosines_N: np.ndarray) -> np.ndarray:
        """[N], 0 to 1."""
        return 1 / (1 + np.exp(-np.clip(self.log_odds(cosines_N), -50, 50)))


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipCalibration:
    """Which clips are like those that the encoder was trained on."""

    mean_D: np.ndarray
    whitening_DD: np.ndarray
    """Maps differences from the mean to unit covariance."""
    max_distance: float

    def distance(self, clips_ND: np.ndarray) -> np.ndarray:
        """Mahalanobis distance of unit clip vectors from the training clips [N]."""
        return np.linalg.norm((clips_ND - self.mean_D) @ self.whitening_DD, axis=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class TextCalibration:
    """Which texts are like the edits of training. Both tables hold unit vectors, without what a reader of tokens adds to a text vector:
    that was trained to tell edits apart, not to know what is none."""

    known_TE: np.ndarray
    unrelated_TE: np.ndarray

    def is_related(self, texts_NE: np.ndarray) -> np.ndarray:
        """Whether each text vector is nearer to a known text than to all unrelated ones [N]."""
        unit_NE = _unit(texts_NE[:, : self.known_TE.shape[1]])
        if not len(self.unrelated_TE):  # this archive is about all of them
            return np.ones(len(unit_NE), bool)
        return (unit_NE @ self.known_TE.T).max(axis=1) > (unit_NE @ self.unrelated_TE.T).max(axis=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """All parts."""

    scores: Mapping[QueryKind, ScoreCalibration]
    """A kind without enough right and wrong answers on the val split is missing."""
    clips: ClipCalibration
    texts: TextCalibration


@dataclass(frozen=True, kw_only=True, slots=True)
class Answers:
    """What N queries find among `num_clips`: K hits each, best first; NaN = no hit."""

    cosines_NK: np.ndarray
    is_right_NK: np.ndarray
    num_clips: int

    def min_cosine(self) -> float | None:
        """The lowest best cosine down to which STATED_PRECISION of the answers are right; None where there are too few of them."""
        best_N, is_right_N = self.cosines_NK[:, 0], self.is_right_NK[:, 0]
        has_hit_N = ~np.isnan(best_N)
        return _lowest_precise(best_N[has_hit_N], is_right_N[has_hit_N])

    def rise(self, min_cosine: float, doublings: int) -> float:
        """By how much the lowest cosine would rise among so many times more clips, were wrong clips independent of each other.

        They come in clusters, so it rises by no more than that. The best of 2^d times as many is below a cosine with the probability
        of one of them to the power 2^d.
        """
        best_N = self.cosines_NK[~self.is_right_NK.any(axis=1), 0]
        best_N = best_N[~np.isnan(best_N)]
        share_below = float((best_N < min_cosine).mean())
        levels = (share_below, share_below ** (2.0**-doublings))
        here, there = np.quantile(best_N, levels)
        return float(there - here)


def fit_scores(answers: Answers, among_fewer: Sequence[Answers] = ()) -> ScoreCalibration | None:
    """Fit on answers among all clips, and on those among some of them for what their number does; None where the val split has too few
    right or wrong ones.
    """
    min_cosine = answers.min_cosine()
    is_hit_NK = ~np.isnan(answers.cosines_NK)
    cosines, is_right = answers.cosines_NK[is_hit_NK], answers.is_right_NK[is_hit_NK]
    if min_cosine is None or min(is_right.sum(), (~is_right).sum()) < _MIN_OF_EACH:
        return None
    slope, bias = _platt(cosines, is_right)
    line = _rise_per_doubling(min_cosine, answers.num_clips, among_fewer)
    rises = [_nearer_zero(line * d, answers.rise(min_cosine, d)) for d in _DOUBLINGS]
    return ScoreCalibration(
        slope=slope,
        bias=bias,
        min_cosines=tuple(min_cosine + rise for rise in rises),
        num_clips=answers.num_clips,
    )


def _rise_per_doubling(min_cosine: float, num_clips: int, among_fewer: Sequence[Answers]) -> float:
    """Of the line through the lowest cosine among all clips that fits those among fewer best."""
    points = [
        (math.log2(fewer.num_clips / num_clips), lowest - min_cosine)
        for fewer in among_fewer
        if (lowest := fewer.min_cosine()) is not None
    ]
    across = sum(doublings * doublings for doublings, _ in points)
    return max(0.0, sum(d * rise for d, rise in points) / across) if across else 0.0


def _nearer_zero(first: float, second: float) -> float:
    return first if abs(first) < abs(second) else second


def _lowest_precise(best_N: np.ndarray, is_right_N: np.ndarray) -> float | None:
    """The lowest best cosine down to which STATED_PRECISION of the answers are right; half way to the next answer below it."""
    order = np.argsort(-best_N, kind="stable")
    precision_N = np.cumsum(is_right_N[order]) / np.arange(1, len(order) + 1)
    precise = np.flatnonzero(precision_N >= STATED_PRECISION)
    if len(precise) == 0 or precise[-1] + 1 < _MIN_OF_EACH:
        return None
    last = precise[-1]
    following = min(last + 1, len(order) - 1)
    return float((best_N[order[last]] + best_N[order[following]]) / 2)


def _platt(cosines: np.ndarray, is_right: np.ndarray) -> tuple[float, float]:
    """Slope and bias by Newton's method, towards Platt's smoothed targets (Platt, 1999, equation 9)."""
    num_right, num_wrong = int(is_right.sum()), int((~is_right).sum())
    targets = np.where(is_right, (num_right + 1) / (num_right + 2), 1 / (num_wrong + 2))
    inputs = np.stack([cosines, np.ones_like(cosines)], axis=1).astype(np.float64)
    weights = np.zeros(2)
    for _ in range(_NUM_NEWTON_STEPS):
        probabilities = 1 / (1 + np.exp(-np.clip(inputs @ weights, -50, 50)))
        curvature = probabilities * (1 - probabilities) + 1e-6
        hessian = (inputs * curvature[:, None]).T @ inputs
        step = np.linalg.solve(hessian, inputs.T @ (probabilities - targets))
        weights -= np.clip(step, -10, 10)
    return float(weights[0]), float(weights[1])


def fit_clips(train_ND: np.ndarray, val_ND: np.ndarray) -> ClipCalibration:
    """Mean and shrunk covariance of the training clips' unit vectors, and the distance within which nearly all val clips lie."""
    mean_D = train_ND.mean(axis=0, dtype=np.float64)
    differences_ND = train_ND - mean_D
    covariance_DD = differences_ND.T @ differences_ND / len(train_ND)
    # Where nothing varies, as in one clip alone, all distances are finite still.
    spread = max(float(np.trace(covariance_DD)) / len(mean_D), 1e-9)
    covariance_DD += _SHRINKAGE * spread * np.eye(len(mean_D))
    values_D, axes_DD = np.linalg.eigh(covariance_DD)
    fitted = ClipCalibration(
        mean_D=mean_D.astype(np.float32),
        whitening_DD=(axes_DD / np.sqrt(values_D)).astype(np.float32),
        max_distance=0.0,
    )
    distance_N = fitted.distance(val_ND)
    return ClipCalibration(
        mean_D=fitted.mean_D,
        whitening_DD=fitted.whitening_DD,
        max_distance=float(np.quantile(distance_N, _RELATED_CLIPS)),
    )


def fit_texts(known_TE: np.ndarray, unrelated_TE: np.ndarray) -> TextCalibration:
    """Keep known texts far from one another, and of the unrelated ones those that none of the known texts is about."""
    known_TE, unrelated_TE = _unit(known_TE), _unit(unrelated_TE)
    is_foreign_T = (unrelated_TE @ known_TE.T).max(axis=1) < _MAX_FOREIGN_COSINE
    return TextCalibration(
        known_TE=known_TE[_far_apart(known_TE, _NUM_KNOWN_TEXTS)],
        unrelated_TE=unrelated_TE[is_foreign_T],
    )


_MAX_FOREIGN_COSINE = 0.7
"""A text of the list of unrelated ones that is nearer than this to an edit is about this archive: of a kitchen, say."""


def _far_apart(vectors_TE: np.ndarray, num_chosen: int) -> np.ndarray:
    """Places of at most so many vectors, each the farthest from those before it."""
    chosen = [0]
    nearest_T = vectors_TE @ vectors_TE[0]
    while len(chosen) < min(num_chosen, len(vectors_TE)):
        chosen.append(int(nearest_T.argmin()))
        nearest_T = np.maximum(nearest_T, vectors_TE @ vectors_TE[chosen[-1]])
    return np.array(chosen)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


def calibration_bytes(calibration: Calibration) -> bytes:
    """As safetensors; `read_calibration` is the inverse."""
    tensors = {
        f"score.{kind}": np.array(
            [score.slope, score.bias, score.num_clips, *score.min_cosines], np.float64
        )
        for kind, score in calibration.scores.items()
    }
    clips, texts = calibration.clips, calibration.texts
    tensors |= {
        "clips.mean": clips.mean_D.astype(np.float32),
        "clips.whitening": clips.whitening_DD.astype(np.float32),
        "clips.max_distance": np.array([clips.max_distance], np.float64),
        "texts.known": texts.known_TE.astype(np.float16),
        "texts.unrelated": texts.unrelated_TE.astype(np.float16),
    }
    return safetensors.numpy.save({k: np.ascontiguousarray(v) for k, v in tensors.items()})


def read_calibration(bundle_dir: str | Path, card: BundleCard) -> Calibration | None:
    """The calibration of a bundle; None where stage 2 made none. BundleMismatchError for a file of another shape."""
    if CALIBRATION_FILE not in card.files:
        return None
    path = check_file(Path(bundle_dir), card, CALIBRATION_FILE)
    with naming_file(path):
        tensors = safetensors.numpy.load_file(path)
        missing = {"clips.mean", "clips.whitening", "clips.max_distance", "texts.known", "texts.unrelated"} - tensors.keys()  # fmt: skip
        if missing:
            raise ValueError(f"it lacks {sorted(missing)}")
        odd = [
            name
            for name, values in tensors.items()
            if values.dtype.kind != "f" or not np.isfinite(values).all()
        ]
        if odd:
            raise ValueError(f"{odd[0]} must hold finite numbers")
        _check_shapes(tensors, card)
        scores: dict[QueryKind, ScoreCalibration] = {}
        for kind in QUERY_KINDS:
            if f"score.{kind}" in tensors:
                scores[kind] = _read_score(f"score.{kind}", tensors[f"score.{kind}"])
        return Calibration(
            scores=scores,
            clips=ClipCalibration(
                mean_D=tensors["clips.mean"],
                whitening_DD=tensors["clips.whitening"],
                max_distance=float(tensors["clips.max_distance"][0]),
            ),
            texts=TextCalibration(
                known_TE=tensors["texts.known"].astype(np.float32),
                unrelated_TE=tensors["texts.unrelated"].astype(np.float32),
            ),
        )


def _check_shapes(tensors: Mapping[str, np.ndarray], card: BundleCard) -> None:
    """ValueError for a tensor of another shape, which a search would fail on."""
    width, most = card.embedding_dim, card.fusion.text_dim if card.fusion else 0
    shapes = {"clips.whitening": (width, width), "clips.mean": (width,), "clips.max_distance": (1,)}
    for name, shape in shapes.items():
        if tensors[name].shape != shape or tensors["clips.max_distance"].min() < 0:
            raise ValueError(f"{name} is {tensors[name].shape}; it must be {shape}, a distance at least 0")  # fmt: skip
    known, unrelated = tensors["texts.known"], tensors["texts.unrelated"]
    if known.ndim != 2 or not len(known) or not 0 < known.shape[1] <= most:
        raise ValueError(f"texts.known is {known.shape}; it must be rows of at most {most} numbers")
    if unrelated.ndim != 2 or unrelated.shape[1] != known.shape[1]:
        raise ValueError(f"texts.unrelated is {unrelated.shape}; it must be rows of {known.shape[1]} numbers")  # fmt: skip


def _read_score(name: str, values: np.ndarray) -> ScoreCalibration:
    if values.ndim != 1 or len(values) < 3:
        raise ValueError(f"{name} is {values.shape}; it must be a row of 3 numbers or more")
    slope, bias, *others = values.tolist()
    if len(others) == 1:  # of a bundle from before sizes counted
        return ScoreCalibration(slope=slope, bias=bias, min_cosines=(others[0],))
    num_clips, *min_cosines = others
    if num_clips < 1 or len(min_cosines) % 2 == 0:
        raise ValueError(
            f"{name} is {values.tolist()}; it must be a slope, a bias, a number of clips and an odd number of cosines"
        )
    return ScoreCalibration(
        slope=slope, bias=bias, min_cosines=tuple(min_cosines), num_clips=num_clips
    )
