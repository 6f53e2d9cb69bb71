"""Which clips of a split have a label, and which of them answer a query: those in other videos than its own."""

from collections import Counter
from collections.abc import Sequence

from encoders.clips import Clip
from training.annotations.label_pairs import stable_hash


class ClipPools:
    """Clips of one split and label, in an order drawn from their ids, each with its video."""

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
        """The queries for which the label has a clip in another video."""
        videos = self._videos.get((split, label), Counter())
        if len(videos) > 1:
            return queries
        return [query for query in queries if videos and query.video_uri not in videos]

    def targets(self, query: Clip, label: str, *, limit: int | None, start: int) -> tuple[str, ...]:
        """Clips of the label from other videos, from place `start` on, at most `limit` of them."""
        key = (query.split, label)
        ids, pool = self._ids[key], self._clips[key]
        start %= len(pool)
        limit = len(pool) if limit is None else limit
        num_same_video = self._videos[key][query.video_uri]
        if num_same_video == 0 and limit >= len(pool):
            # Equal tuples are one tuple: a large archive has few distinct target lists.
            return self._turned.setdefault((*key, start), ids[start:] + ids[:start])
        end = start + min(len(pool), limit + num_same_video)
        nearest = pool[start:end] + pool[: max(0, end - len(pool))]
        others = [clip.clip_id for clip in nearest if clip.video_uri != query.video_uri]
        return tuple(others[:limit])
