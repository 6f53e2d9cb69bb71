"""One ranked answer over two generations of an archive: the collection in use, and the one that a new encoder fills beside it.

Every query is asked of both. A clip that the next collection has is judged by the next encoder alone: what the present one says of it is
left out. Scores of two encoders are no common scale; their log-odds of being right are (Platt scaling, fitted by each encoder's stage 2).
"""

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import replace
from itertools import chain

import numpy as np
from cachetools import TTLCache
from cachetools.func import ttl_cache

from indexing.search.client import SearchClient
from indexing.search.migration.compare_collections import EncodedCollection
from indexing.search.ranking import performance
from indexing.search.types import (
    Candidate,
    ClipPlace,
    ComposedQuery,
    Hit,
    Mismatch,
    SearchOptions,
    SearchResult,
)
from indexing.store.aliases import Catalog, Generation
from indexing.store.client import MILVUS_ERRORS

logger = logging.getLogger(__name__)

_READ_DEADLINE_S = 2.0
_POLL_S = 0.5
_COUNT_S = 5.0
_UNREAD_S = 60.0
_MOST_UNREAD = 10_000
_IDS_PER_CALL = 1000


class TwoGenerations(SearchClient):
    """A search client of the present collection with the next one beside it. What is told of the archive is told of the present one."""

    def __init__(
        self,
        milvus_uri: str,
        present: EncodedCollection,
        following: EncodedCollection,
        *,
        alias: str = "",
        options: SearchOptions | None = None,
    ) -> None:
        """`alias`, or the name of the present collection, decides who answers: see `Generation`; it is followed within half a second.

        ValueError where both collections are of one encoder.
        """
        super().__init__(milvus_uri, present.collection, present.bundle_dir, options=options)
        # A query clip that only the present collection has is read now: the next queries of its batch wait.
        deadline_s = min(self.options.decode_deadline_s, _READ_DEADLINE_S)
        try:
            self._next = SearchClient(
                milvus_uri,
                following.collection,
                following.bundle_dir,
                options=replace(self.options, decode_deadline_s=deadline_s),
            )
        except BaseException:
            super().close()
            raise
        if self._next.card.encoder_id == self.card.encoder_id:
            self.close()
            raise ValueError(
                f"collections {present.collection!r} and {following.collection!r} are both of encoder {self.card.encoder_id!r}; there is nothing "
                "to change: leave the next bundle and collection out"
            )
        self._alias, self._next_name = alias or present.collection, following.collection
        self._catalog = Catalog(self.collection.address)
        self._stack.callback(self._catalog.close)
        self._unread: TTLCache[str, bool] = TTLCache(_MOST_UNREAD, _UNREAD_S)
        self._reading = threading.Lock()
        self._last: Generation = "both"
        self.generation: Callable[[], Generation] = ttl_cache(maxsize=1, ttl=_POLL_S)(self._look)
        self._share: Callable[[], float] = ttl_cache(maxsize=1, ttl=_COUNT_S)(self._count_share)

    def close(self) -> None:
        """Close both."""
        self._next.close()
        super().close()

    def start_decoder(self) -> None:
        """As SearchClient.start_decoder, of both."""
        super().start_decoder()
        self._next.start_decoder()

    def interrupt_decoder(self) -> None:
        """As SearchClient.interrupt_decoder, of both."""
        super().interrupt_decoder()
        self._next.interrupt_decoder()

    def close_decoder(self) -> None:
        """As SearchClient.close_decoder, of both."""
        super().close_decoder()
        self._next.close_decoder()

    def search_many(
        self, queries: Sequence[ComposedQuery], *, on_encoded: Callable[[], object] = lambda: None
    ) -> list[SearchResult]:
        """As SearchClient.search_many, over both collections, or the one that the alias says.

        A query that the next encoder cannot answer, because it cannot read the query clip or its collection fails, is answered by
        the present collection alone.
        """
        generation = self.generation()
        newer = {} if generation == "present" else self._ask_next(queries)
        asked = [n for n in range(len(queries)) if n not in newer or generation == "both"]
        of_both = [n for n in asked if n in newer]
        alone = [n for n in asked if n not in newer]
        answers = dict(newer)
        for numbers, elsewhere in ((of_both, self._in_next), (alone, _nowhere)):
            if numbers:
                part = [queries[n] for n in numbers]
                results = self._search_many(part, on_encoded, elsewhere)
                answers |= dict(zip(numbers, results, strict=True))
        on_encoded()
        for n in of_both:
            answers[n] = self._merged(queries[n], answers[n], newer[n])
        return [answers[n] for n in range(len(queries))]

    def _look(self) -> Generation:
        """The last answer where Milvus has none."""
        try:
            self._last = self._catalog.generation(self._alias, self._next_name)
        except MILVUS_ERRORS as error:
            logger.warning("%r cannot be looked up: %s", self._alias, error)
        return self._last

    def _count_share(self) -> float:
        """Share of the clips that the next collection has."""
        return self._next.collection.count() / max(self.collection.count(), 1)

    def _ask_next(self, queries: Sequence[ComposedQuery]) -> dict[int, SearchResult]:
        """The answers of the next collection, by the number of the query."""
        try:
            known = self._read_clips(chain.from_iterable(map(_clips_of, queries)))
            numbers = [n for n, query in enumerate(queries) if known.issuperset(_clips_of(query))]
            if not numbers:
                return {}
            results = self._next.search_many([queries[n] for n in numbers])
        except (ValueError, *MILVUS_ERRORS) as error:
            # One of the query itself is raised again by the present collection.
            logger.warning("the next collection does not answer: %s", error)
            return {}
        return dict(zip(numbers, results, strict=True))

    def _read_clips(self, clip_ids: Iterable[str]) -> set[str]:
        """Those of which the next encoder has a vector: from its collection, or read from the video now. Ids that are none count too."""
        wanted = set(clip_ids)
        missing = wanted - self._next.clip_cache.find(wanted).keys()
        if not missing:
            return wanted
        with self._reading:
            places = {name: clip.place for name, clip in self.clip_cache.find(missing).items()}
            for clip_id, place in places.items():
                if clip_id not in self._unread and not self._read(clip_id, place):
                    self._unread[clip_id] = True
            return wanted - {clip_id for clip_id in places if clip_id in self._unread}

    def _read(self, clip_id: str, place: ClipPlace) -> bool:
        """Whether the next encoder could read a clip, which it then knows for a while."""
        try:
            vector_D, length = self._next.embed(self._now_at(place), name=clip_id)
        except ValueError as error:
            logger.warning("the next encoder cannot read a query clip: %s", error)
            return False
        read = Candidate(place=place, vector_D=vector_D, vector_length=length, cosine=0.0)
        self._next.clip_cache.put([read])
        return True

    def _in_next(self, clip_ids: Set[str]) -> Set[str]:
        """Those of these clips that the next collection has; none where it fails, for a clip that both answer with is shown once."""
        find, ids = self._next.collection.rows_of_clips, sorted(clip_ids)
        parts = (ids[n : n + _IDS_PER_CALL] for n in range(0, len(ids), _IDS_PER_CALL))
        try:
            return {row["clip_id"] for part in parts for row in find(part, fields=("clip_id",))}
        except MILVUS_ERRORS as error:
            logger.warning("the next collection does not answer: %s", error)
            return set()

    def _merged(
        self, query: ComposedQuery, older: SearchResult, newer: SearchResult
    ) -> SearchResult:
        older_keys = _log_odds(self, query, older)
        newer_keys = _log_odds(self._next, query, newer)
        if older_keys is None or newer_keys is None:
            share = self._share()
            older_keys, newer_keys = _by_rank(older, 1 - share), _by_rank(newer, share)
        by_key = sorted(
            zip(chain(older_keys, newer_keys), (*older.hits, *newer.hits), strict=True),
            key=lambda pair: (-pair[0], pair[1].clip_id),
        )
        mismatches: tuple[Mismatch | None, ...] = (newer.mismatch, older.mismatch)
        return replace(
            newer,
            query=older.query,
            hits=_grouped(query, [hit for _, hit in by_key]),
            is_exact=older.is_exact and newer.is_exact,
            mismatch="" if "" in mismatches else newer.mismatch,
            hint=older.hint,
            timings_ms=_summed(older.timings_ms, newer.timings_ms),
        )


def _log_odds(
    client: SearchClient, query: ComposedQuery, result: SearchResult
) -> np.ndarray | None:
    scores_N = np.array([hit.score for hit in result.hits])
    return client.confidence.log_odds(query, scores_N)


def _nowhere(_clip_ids: Set[str]) -> Set[str]:
    return set()


def _clips_of(query: ComposedQuery) -> set[str]:
    """The ids that a query names."""
    clip = query.clip if isinstance(query.clip, str) else getattr(query.clip, "clip_id", "")
    return {clip_id for clip_id in (clip, *query.liked, *query.disliked) if clip_id}


def _by_rank(result: SearchResult, share: float) -> np.ndarray:
    """Without a calibration: the n-th hit of a collection with this share of the clips is about the n/share-th of all."""
    return -(np.arange(len(result.hits)) + 0.5) / max(share, 1e-6)


def _grouped(query: ComposedQuery, hits: Iterable[Hit]) -> tuple[Hit, ...]:
    """As many as were asked for; one of each performance, and of each video where that was asked for."""
    shown: dict[tuple[str, ...], Hit] = {}
    for hit in hits:
        name = (hit.video_uri,) if query.group_by_video else performance(hit)
        first = shown.get(name)
        if first is not None:
            grouped = first.num_grouped + hit.num_grouped + 1
            shown[name] = replace(first, num_grouped=grouped)
        elif len(shown) < query.limit:
            shown[name] = hit
    return tuple(shown.values())


def _summed(*timings_ms: Mapping[str, float]) -> dict[str, float]:
    total: Counter[str] = Counter()
    for one in timings_ms:
        total.update(one)
    return dict(total)
