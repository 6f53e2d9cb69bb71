"""Builds composed queries from labelled clips: query clips, edits and targets.

The result depends on the set of clips and the seed, never on the order of rows: every choice is drawn
from a hash of the items it concerns.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from encoders.clips import Clip
from training.annotations.labels.pairs import (
    LabelPair,
    attributes_by_label,
    held_out_pairs,
    label_pairs,
    stable_hash,
)
from training.annotations.triplets.table import (
    TRIPLETS_SCHEMA,
    Triplet,
    read_triplets,
    write_triplets,
)
from training.annotations.triplets.templates import edit_text


class ClipPools:
    """Clips by split and label, in an order drawn from their ids, and their videos."""

    def __init__(self, clips: Sequence[Clip], *, seed: int) -> None:
        self._clips: dict[tuple[str | None, str], list[Clip]] = {}
        for clip in clips:
            if clip.label is not None:
                self._clips.setdefault((clip.split, clip.label), []).append(clip)
        for pool in self._clips.values():
            pool.sort(key=lambda clip: (stable_hash("pool", seed, clip.clip_id), clip.clip_id))
        self._ids = {key: tuple(c.clip_id for c in pool) for key, pool in self._clips.items()}
        self._videos = {
            key: Counter(clip.video_uri for clip in pool) for key, pool in self._clips.items()
        }
        self._turned: dict[tuple[str | None, str, int], tuple[str, ...]] = {}
        self.splits = sorted({split for split, _ in self._clips}, key=lambda split: split or "")

    def clips(self, split: str | None, label: str) -> list[Clip]:
        return self._clips.get((split, label), [])

    def with_target(self, queries: list[Clip], split: str | None, label: str) -> list[Clip]:
        """The queries for which the label has a clip of another video."""
        videos = self._videos.get((split, label), Counter())
        if len(videos) > 1:
            return queries
        return [query for query in queries if videos and query.video_uri not in videos]

    def targets(self, query: Clip, label: str, *, limit: int | None, start: int) -> tuple[str, ...]:
        """Clips of the label of other videos, from position `start` on, at most `limit` of them."""
        key = (query.split, label)
        ids, pool = self._ids[key], self._clips[key]
        start %= len(pool)
        limit = len(pool) if limit is None else limit
        num_same_video = self._videos[key][query.video_uri]
        if num_same_video == 0 and limit >= len(pool):
            # Equal tuples are shared: a large archive has few distinct target lists.
            return self._turned.setdefault((*key, start), ids[start:] + ids[:start])
        end = start + min(len(pool), limit + num_same_video)
        nearest = pool[start:end] + pool[: max(0, end - len(pool))]
        others = [clip.clip_id for clip in nearest if clip.video_uri != query.video_uri]
        return tuple(others[:limit])


__all__ = [
    "TRIPLETS_SCHEMA",
    "Triplet",
    "TripletConfig",
    "TripletReport",
    "build_triplets",
    "build_triplets_with_report",
    "read_triplets",
    "write_triplets",
]

PairKey = tuple[str, str]
"""(source label, target label)"""


@dataclass(frozen=True, kw_only=True, slots=True)
class TripletConfig:
    """Which of all possible triplets are made, and how their edit texts are phrased."""

    num_triplets: int | None = None
    """Maximum number of triplets over all splits, spread evenly over label pairs; None = all."""
    max_targets: float | None = None
    """Maximum number of targets per query of an incomplete split; None = all. 3.9 takes 3 or 4, 3.9 on average."""
    complete_splits: tuple[str, ...] = ("val", "test")
    """Splits that keep all targets: an evaluation over all clips would count a target that was cut as a wrong answer.
    A split that is neither complete nor for training lists the same clips of a label for every query: see `gallery`."""
    max_changes: int = 2
    """Maximum number of attributes in which a label pair differs."""
    relative_share: float = 0.5
    """Fraction of changes that are phrased relative to the query, where possible ("one more twist", not "2.5 twists")."""
    texts_per_pair: int | None = 16
    """Maximum number of distinct texts per label pair, over all splits; None = all that templates give.
    Each distinct text costs a pass through the text encoder."""
    held_out_share: float = 0.0
    """Fraction of ordered label pairs that never occur in the train split."""
    train_split: str = "train"
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("num_triplets", "max_targets", "max_changes", "texts_per_pair"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1")
        if not 0 <= self.relative_share <= 1:
            raise ValueError(f"relative_share is {self.relative_share}; it must be in [0, 1]")
        if not 0 <= self.held_out_share < 1:
            raise ValueError(f"held_out_share is {self.held_out_share}; it must be in [0, 1)")


@dataclass(frozen=True, kw_only=True, slots=True)
class TripletReport:
    """Counts of the triplets that were made and of edits that were not possible."""

    num_triplets: int
    num_by_split: Mapping[str, int]
    num_possible: int
    """Number of triplets that the clips allow, before `num_triplets` limits them."""
    num_pairs: int
    pairs_by_attribute: Mapping[str, int]
    """Number of ordered label pairs, by changed attribute or by several joined with " + "."""
    mean_targets_per_query: float
    min_targets_per_query: int
    max_targets_per_query: int
    num_edits_without_target: int
    """Number of (query clip, label pair) whose split has no clip of the target label in another video."""
    pairs_without_target: tuple[str, ...]
    held_out_pairs: tuple[str, ...]
    labels_with_equal_attributes: tuple[tuple[str, ...], ...]
    """Groups of labels that no edit text can distinguish."""
    num_clips_without_label: int


@dataclass(frozen=True, kw_only=True, slots=True)
class _PairEdits:
    """Possible queries of one label pair in one split, in the order in which they are taken."""

    split: str | None
    pair: LabelPair
    queries: Sequence[Clip]


def build_triplets(
    clips: Sequence[Clip],
    config: TripletConfig,
    *,
    texts: Mapping[PairKey, Sequence[str]] | None = None,
) -> list[Triplet]:
    """Triplets sorted by split and query id; `texts` of a pair, if given, replace the templates."""
    return build_triplets_with_report(clips, config, texts=texts)[0]


def build_triplets_with_report(
    clips: Sequence[Clip],
    config: TripletConfig,
    *,
    texts: Mapping[PairKey, Sequence[str]] | None = None,
) -> tuple[list[Triplet], TripletReport]:
    """As `build_triplets`, with a report."""
    attributes = attributes_by_label(clips)
    pairs = label_pairs(attributes, max_changes=config.max_changes)
    held_out = held_out_pairs(pairs, share=config.held_out_share, seed=config.seed)
    pools = ClipPools(clips, seed=config.seed)
    possible, without_target = _possible_edits(pools, pairs, held_out, config)
    triplets = [
        _make_triplet(query, edits.pair, pools, config, texts or {})
        for edits, num in zip(possible, _num_to_take(possible, config), strict=True)
        for query in edits.queries[:num]
    ]
    triplets.sort(key=lambda triplet: (triplet.split or "", triplet.query_id))
    if len({triplet.query_id for triplet in triplets}) != len(triplets):
        raise ValueError("clip ids and labels make equal query ids; rename labels that hold '->'")
    num_targets = [len(triplet.target_clip_ids) for triplet in triplets]
    labels_by_attributes: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for label, values in attributes.items():
        labels_by_attributes.setdefault(tuple(sorted(values.items())), []).append(label)
    report = TripletReport(
        num_triplets=len(triplets),
        num_by_split=dict(sorted(Counter(t.split or "" for t in triplets).items())),
        num_possible=sum(len(edits.queries) for edits in possible),
        num_pairs=len(pairs),
        pairs_by_attribute=dict(
            sorted(Counter(" + ".join(c.name for c in pair.changes) for pair in pairs).items())
        ),
        mean_targets_per_query=sum(num_targets) / max(1, len(num_targets)),
        min_targets_per_query=min(num_targets, default=0),
        max_targets_per_query=max(num_targets, default=0),
        num_edits_without_target=sum(without_target.values()),
        pairs_without_target=tuple(sorted(without_target)),
        held_out_pairs=tuple(sorted(f"{source}->{target}" for source, target in held_out)),
        labels_with_equal_attributes=tuple(
            tuple(v) for v in labels_by_attributes.values() if len(v) > 1
        ),
        num_clips_without_label=sum(clip.label is None for clip in clips),
    )
    return triplets, report


def _possible_edits(
    pools: ClipPools,
    pairs: Sequence[LabelPair],
    held_out: frozenset[PairKey],
    config: TripletConfig,
) -> tuple[list[_PairEdits], Counter[str]]:
    """All edits with a target, and the number of edits without one by "split: pair"."""
    edits: list[_PairEdits] = []
    without_target: Counter[str] = Counter()
    for split in pools.splits:
        for pair in pairs:
            key = (pair.source_label, pair.target_label)
            if split == config.train_split and key in held_out:
                continue
            pool = pools.clips(split, pair.source_label)
            queries = pools.with_target(pool, split, pair.target_label)
            if len(queries) < len(pool):
                name = f"{split or 'all'}: {key[0]}->{key[1]}"
                without_target[name] = len(pool) - len(queries)
            if queries:
                start = stable_hash("first query", config.seed, *key) % len(queries)
                turned = queries[start:] + queries[:start]
                edits.append(_PairEdits(split=split, pair=pair, queries=turned))
    return edits, without_target


def _num_to_take(edits: Sequence[_PairEdits], config: TripletConfig) -> list[int]:
    """Number of queries to take per pair to make `num_triplets`: by size over splits, evenly over pairs of a split."""
    num_possible = sum(len(edit.queries) for edit in edits)
    if config.num_triplets is None or config.num_triplets >= num_possible:
        return [len(edit.queries) for edit in edits]
    take = [0] * len(edits)
    num_seen = 0
    for split in sorted({edit.split or "" for edit in edits}):
        places = [place for place, edit in enumerate(edits) if (edit.split or "") == split]
        before = config.num_triplets * num_seen // num_possible
        num_seen += sum(len(edits[place].queries) for place in places)
        left = config.num_triplets * num_seen // num_possible - before
        # Smallest pairs first, because the larger ones share what those lack. Ties are broken by hash,
        # so that a rounding remainder favours no label.
        places.sort(key=lambda place: (len(edits[place].queries), _tie_break(edits[place], config)))
        for num_done, place in enumerate(places):
            take[place] = min(len(edits[place].queries), left // (len(places) - num_done))
            left -= take[place]
    return take


def _tie_break(edits: _PairEdits, config: TripletConfig) -> int:
    return stable_hash("tie", config.seed, edits.pair.source_label, edits.pair.target_label)


def _make_triplet(
    query: Clip,
    pair: LabelPair,
    pools: ClipPools,
    config: TripletConfig,
    texts: Mapping[PairKey, Sequence[str]],
) -> Triplet:
    choice = stable_hash("text", config.seed, query.clip_id, pair.target_label)
    written = texts.get((pair.source_label, pair.target_label))
    if written:
        text = written[choice % len(written)]
    else:
        variant = choice
        if config.texts_per_pair is not None:
            # All pairs share the same variants; otherwise the wording alone would reveal the pair.
            variant = stable_hash("variant", config.seed, choice % config.texts_per_pair)
        text = edit_text(pair, choice=variant, relative_share=config.relative_share)
    is_varied = query.split == config.train_split or query.split in config.complete_splits
    return Triplet(
        query_id=f"{query.clip_id}->{pair.target_label}",
        query_clip_id=query.clip_id,
        edit_text=text,
        target_clip_ids=pools.targets(
            query,
            pair.target_label,
            limit=_num_targets(query, choice, config),
            start=choice if is_varied else 0,
        ),
        source_label=pair.source_label,
        target_label=pair.target_label,
        split=query.split,
    )


def _num_targets(query: Clip, choice: int, config: TripletConfig) -> int | None:
    if config.max_targets is None or query.split in config.complete_splits:
        return None
    whole, rest = divmod(config.max_targets, 1)
    return int(whole) + (stable_hash("number of targets", choice) / 2**64 < rest)
