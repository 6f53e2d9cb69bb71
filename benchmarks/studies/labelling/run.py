"""How many labels an archive needs: a simulated annotator answers what labelling asks, and composed search uses the heads.

Search by heads alone: the query clip's label probabilities are moved by the edit, and the gallery is ranked by its own. The annotator
labels clips of the train split, nothing else is known of them; settings are compared on val, the figures are those of test.
N clips, L labels, Q queries, K asked clips.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.demo.build_encoder import write_shipped_encoder
from benchmarks.studies.labelling.clips import DiveClips, LabelledVectors, embed, write_frames
from encoders.metrics import average_precision_at_k
from indexing.labelling.choice import DOUBT_POWER, choose_groups, doubt
from indexing.labelling.heads import Heads, Scaling, fit_heads
from indexing.labelling.pool import MAX_LABELLED, MAX_UNLABELLED
from training.annotations.labels.dive_numbers import DIVE_CLASSES, parse_dive_number
from training.annotations.labels.pairs import LabelPair, label_pairs

_DEPTH = 50
_SHARE = 0.9
_BUDGET = 0.08
_RANDOM = "random"


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """Labels that composed search needs, over 47 dives with a simulated annotator."""

    bundle: Path
    """A bundle whose encoder was trained on another archive, such as the demo's; the shipped encoder is measured beside it."""
    out: Path
    """Where rendered frames are kept: rerun the same command to resume."""
    clips_per_class: tuple[int, int, int] = (40, 6, 10)
    """To label, val, test."""
    seeds: tuple[int, ...] = tuple(range(1, 11))
    """Each draws four fifths of the clips to label, the wrong answers and the queries; where a curve crosses 90 % differs much by seed."""
    archive_seed: int = 101
    """Of the rendering; another one than that of the bundle's training."""
    num_queries: int = 400
    batch: int = 8
    """Answers between two refits."""
    wrong_share: float = 0.1
    """Share of wrong answers of the annotator who errs."""
    max_share: float = 0.4
    """Of the pool: where random choice is given up."""
    num_workers: int = 1
    """Processes that render."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Queries:
    """Composed queries against one split."""

    gallery: LabelledVectors
    clips_Q: np.ndarray
    pairs: Sequence[LabelPair]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Curve:
    """mAP@50 by number of labels."""

    counts_K: np.ndarray
    map_K: np.ndarray

    def labels_for(self, wanted: float, otherwise: float) -> float:
        """Labels at which it reaches a value, interpolated; `otherwise` where it does not."""
        reached = np.flatnonzero(self.map_K >= wanted)
        if not len(reached):
            return otherwise
        first = int(reached[0])
        if first == 0:
            return float(self.counts_K[0])
        low, high = self.map_K[first - 1], self.map_K[first]
        part = (wanted - low) / (high - low)
        return float(self.counts_K[first - 1] + part * (self.counts_K[first] - self.counts_K[first - 1]))  # fmt: skip

    def at(self, count: float) -> float:
        return float(np.interp(count, self.counts_K, self.map_K))


def measure(config: Config) -> dict[str, object]:
    """Means over the seeds for the bundle's encoder; those of the shipped one begin with `shipped_`."""
    clips = DiveClips(
        counts=tuple(zip(("train", "val", "test"), config.clips_per_class, strict=True)),
        seed=config.archive_seed,
    )
    frames = config.out / "frames"
    write_frames(frames, clips, num_workers=config.num_workers)
    shipped = config.out / "shipped"
    if not shipped.exists():
        write_shipped_encoder(shipped)
    with threadpool_limits(1):  # CPU-seconds are reported
        figures = measure_splits(config, embed(frames, config.bundle, clips))
        beside = measure_splits(config, embed(frames, shipped, clips))
        return {
            **figures,
            **{f"shipped_{name}": value for name, value in beside.items()},
            "num_labels": len(DIVE_CLASSES),
            "refit_s": refit_seconds(512),
        }


def measure_splits(config: Config, splits: Mapping[str, LabelledVectors]) -> dict[str, float]:
    """Means over the seeds."""
    runs = [_run(config, splits, seed) for seed in config.seeds]
    figures = {name: float(np.mean([run[name] for run in runs])) for name in runs[0]}
    figures["random_over_active"] = figures["random_share_for_90"] / figures["label_share_for_90"]
    return figures


def _run(config: Config, splits: Mapping[str, LabelledVectors], seed: int) -> dict[str, float]:
    rng = np.random.default_rng([config.archive_seed, seed])
    train = splits["train"]
    drawn = rng.permutation(len(train.classes_N))[: 4 * len(train.classes_N) // 5]
    scaling = Scaling.of(train.vectors_ND[drawn])
    pool = LabelledVectors(
        vectors_ND=scaling(train.vectors_ND[drawn]), classes_N=train.classes_N[drawn]
    )
    asked = {}
    for split in ("val", "test"):
        gallery = replace(splits[split], vectors_ND=scaling(splits[split].vectors_ND))
        asked[split] = _queries(gallery, config.num_queries, rng)
    num = len(pool.classes_N)
    heads = _fit(pool, np.arange(num), pool.classes_N)
    full, full_val = (composed_map50(heads, asked[split]) for split in ("test", "val"))
    wrong_N = _with_wrong_answers(pool.classes_N, config.wrong_share, rng)
    ways = {"chosen": DOUBT_POWER, "sizes": 0.0, "doubt": 1.0, _RANDOM: None}
    active = _label(config, pool, pool.classes_N, asked["test"], power=DOUBT_POWER, seed=seed)
    random = _label(config, pool, pool.classes_N, asked["test"], power=None, seed=seed)
    noisy = _label(config, pool, wrong_N, asked["test"], power=DOUBT_POWER, seed=seed)
    figures = {
        "full_map50": full,
        # Against ourselves where neither gets there: all labels for the choice, and no more than were drawn for chance.
        "label_share_for_90": active.labels_for(_SHARE * full, num) / num,
        "random_share_for_90": random.labels_for(_SHARE * full, random.counts_K[-1]) / num,
        "active_share_of_full": active.at(_BUDGET * num) / full,
        "random_share_of_full": random.at(_BUDGET * num) / full,
        "noise_loss_points": 100 * (active.at(_BUDGET * num) - noisy.at(_BUDGET * num)),
    }
    for name, power in ways.items():
        curve = _label(
            replace(config, max_share=_BUDGET), pool, pool.classes_N, asked["val"], power=power, seed=seed
        )  # fmt: skip
        figures[f"val_{name}_share_of_full"] = float(curve.map_K.mean()) / full_val
    return figures


def _label(
    config: Config,
    pool: LabelledVectors,
    answers_N: np.ndarray,
    queries: _Queries,
    *,
    power: float | None,
    seed: int,
) -> _Curve:
    """Ask, answer, refit, until the budget is spent; `power` None = ask about clips drawn at random."""
    num = len(answers_N)
    is_labelled_N = np.zeros(num, bool)
    order = np.random.default_rng(seed).permutation(num)
    probabilities_NL: np.ndarray | None = None
    counts, values = [], []
    while is_labelled_N.sum() < config.max_share * num:
        if power is None:
            done = int(is_labelled_N.sum())
            asked = order[done : done + config.batch]
        else:
            groups = choose_groups(
                pool.vectors_ND,
                doubt(probabilities_NL, num),
                is_labelled_N=is_labelled_N,
                is_open_N=~is_labelled_N,
                count=config.batch,
                power=power,
            )
            asked = np.array([group.open_clips[0] for group in groups])
        is_labelled_N[asked] = True
        heads = _fit(pool, np.flatnonzero(is_labelled_N), answers_N)
        probabilities_NL = heads.probabilities(pool.vectors_ND)
        counts.append(int(is_labelled_N.sum()))
        values.append(composed_map50(heads, queries))
    return _Curve(counts_K=np.array(counts), map_K=np.array(values))


def _fit(pool: LabelledVectors, numbers: np.ndarray, answers_N: np.ndarray) -> Heads:
    labels = [DIVE_CLASSES[answer] for answer in answers_N[numbers]]
    heads = fit_heads(pool.vectors_ND[numbers], labels)
    assert heads is not None
    return heads


def _with_wrong_answers(
    classes_N: np.ndarray, share: float, rng: np.random.Generator
) -> np.ndarray:
    is_wrong_N = rng.random(len(classes_N)) < share
    other_N = (classes_N + rng.integers(1, len(DIVE_CLASSES), len(classes_N))) % len(DIVE_CLASSES)
    return np.where(is_wrong_N, other_N, classes_N)


def _queries(gallery: LabelledVectors, count: int, rng: np.random.Generator) -> _Queries:
    attributes = {label: parse_dive_number(label).attributes for label in DIVE_CLASSES}
    pairs = label_pairs(attributes, max_changes=2)
    drawn = [pairs[number] for number in rng.integers(len(pairs), size=count)]
    clips_Q = [
        rng.choice(np.flatnonzero(gallery.classes_N == DIVE_CLASSES.index(pair.source_label)))
        for pair in drawn
    ]
    return _Queries(gallery=gallery, clips_Q=np.array(clips_Q), pairs=drawn)


def composed_map50(heads: Heads, queries: _Queries) -> float:
    """mAP@50: the edit moves the query's probability of each label to the label with the edited attributes."""
    gallery = queries.gallery
    probabilities_NL = heads.probabilities(gallery.vectors_ND)
    attributes = [parse_dive_number(label).attributes for label in heads.labels]
    number_of = {tuple(sorted(values.items())): n for n, values in enumerate(attributes)}
    precisions = []
    for clip, pair in zip(queries.clips_Q, queries.pairs, strict=True):
        edit = {change.name: change.target for change in pair.changes}
        moved_L = np.zeros(len(heads.labels))
        for label, values in enumerate(attributes):
            target = number_of.get(tuple(sorted((dict(values) | edit).items())))
            if target is not None:
                moved_L[target] += probabilities_NL[clip, label]
        scores_N = probabilities_NL @ moved_L
        scores_N[clip] = -1
        best = np.argsort(-scores_N, kind="stable")[:_DEPTH].tolist()
        relevant = np.flatnonzero(gallery.classes_N == DIVE_CLASSES.index(pair.target_label))
        precisions.append(average_precision_at_k(best, set(relevant.tolist()), k=_DEPTH))
    return float(np.mean(precisions))


def refit_seconds(width: int) -> float:
    """CPU-seconds of one refit of a pool of the largest size, on one thread: heads of 47 labels, and what to ask next."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(len(DIVE_CLASSES), width)).astype(np.float32)
    classes_N = rng.integers(len(DIVE_CLASSES), size=MAX_UNLABELLED + MAX_LABELLED)
    vectors_ND = centres[classes_N] + 2 * rng.normal(size=(len(classes_N), width)).astype(np.float32)  # fmt: skip
    is_labelled_N = np.arange(len(classes_N)) < MAX_LABELLED
    started = time.process_time()
    labels = [DIVE_CLASSES[number] for number in classes_N[is_labelled_N]]
    heads = fit_heads(vectors_ND[is_labelled_N], labels)
    assert heads is not None
    choose_groups(
        vectors_ND,
        doubt(heads.probabilities(vectors_ND), len(vectors_ND)),
        is_labelled_N=is_labelled_N,
        is_open_N=~is_labelled_N,
        count=32,
    )
    return time.process_time() - started
