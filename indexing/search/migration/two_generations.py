"""One ranked answer over two generations of an archive: the collection in use, and the one that a new encoder fills beside it.

A clip that the next collection has is judged by the next encoder alone: what the present one says of it is left out. Scores of two
encoders are no common scale; their log-odds of being right are (Platt scaling, fitted by each encoder's stage 2). What goes wrong with
the next generation, in whatever way, costs no answer: the present one gives it alone.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from itertools import chain

import numpy as np

from cluster.repetition import repeated
from encoders.bundle.card import read_card
from indexing.search.client import SearchClient
from indexing.search.collection_snapshot import CollectionSnapshot
from indexing.search.confidence import Confidence
from indexing.search.migration.compare_collections import EncodedCollection
from indexing.search.ranking import performance
from indexing.search.types import ClipPlace, ComposedQuery, Hit, SearchOptions, SearchResult
from indexing.store.aliases import Catalog, Generation
from indexing.store.client import MILVUS_ERRORS

logger = logging.getLogger(__name__)

_POLL_S = 0.5
_REST_S = 5.0
"""Time for which a next collection that failed is not asked."""
_IDS_PER_CALL = 1000


class TwoGenerations(SearchClient):
    """A search client of the present collection with the next one beside it.

    What it tells of the archive, such as labels and counts, is told of the present collection, also after the promotion.
    """

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

        ValueError where both collections are of one encoder, or of other archives.
        """
        encoder_id = read_card(present.bundle_dir).encoder_id
        if read_card(following.bundle_dir).encoder_id == encoder_id:
            raise ValueError(
                f"collections {present.collection!r} and {following.collection!r} are both of encoder {encoder_id!r}; there is nothing "
                "to change: leave the next bundle and collection out"
            )
        super().__init__(milvus_uri, present.collection, present.bundle_dir, options=options)
        try:
            name, bundle_dir = following.collection, following.bundle_dir
            self._next = SearchClient(milvus_uri, name, bundle_dir, options=self.options)
            self._stack.callback(self._next.close)
            _require_same_archives(self, self._next)
            self._catalog = Catalog(self.collection.address)
            self._stack.callback(self._catalog.close)
            self._alias, self._next_name = alias or present.collection, name
            self.generation: Generation = "both"
            self._num_seen = 0
            self._rests_until_s = 0.0
            self._follow()
            self._stack.enter_context(repeated(self._follow, every_s=_POLL_S, name="follow-alias"))
        except BaseException:
            super().close()
            raise

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

    def place_of(self, clip_id: str) -> ClipPlace | None:
        """As SearchClient.place_of, of the present collection and then of the next."""
        return super().place_of(clip_id) or self._next.place_of(clip_id)

    def search_many(
        self, queries: Sequence[ComposedQuery], *, on_encoded: Callable[[], object] = lambda: None
    ) -> list[SearchResult]:
        """As SearchClient.search_many, over both collections, or the one that the alias says.

        A query is answered by the present collection alone where the next one does not have its query clip yet, or fails.
        """
        if self.generation == "next":
            return self._next.search_many(queries, on_encoded=on_encoded)
        if self.generation == "present" or not self._num_seen or self._rests():
            return super().search_many(queries, on_encoded=on_encoded)
        asked = dict(enumerate(queries))
        of_next, of_both = self._divided(asked)
        moved = _Moved(self._in_next)
        # The present collection first: what it leaves out, the next one has by the time that it is asked. It refuses a wrong query.
        answers = self._ask_present({n: asked[n] for n in of_both}, moved)
        newer = self._ask_next({n: asked[n] for n in of_both | of_next}, on_encoded)
        for n in newer.keys() & answers.keys():
            answers[n] = _merged(asked[n], (self, answers[n]), (self._next, newer[n]), moved.share)
        answers |= {n: newer[n] for n in newer.keys() - answers.keys()}
        left = {n: q for n, q in asked.items() if n not in newer}
        answers |= self._ask_present(left, None)
        return [answers[n] for n in asked]

    def _ask_present(
        self, queries: Mapping[int, ComposedQuery], moved: "_Moved | None"
    ) -> dict[int, SearchResult]:
        if not queries:
            return {}
        results = self._search_many(list(queries.values()), lambda: None, moved)
        return dict(zip(queries, results, strict=True))

    def _ask_next(
        self, queries: Mapping[int, ComposedQuery], on_encoded: Callable[[], object]
    ) -> dict[int, SearchResult]:
        """Those that it answers; the present collection has taken them all for good queries."""
        if not queries:
            return {}
        try:
            results = self._next.search_many(list(queries.values()), on_encoded=on_encoded)
        except ValueError as error:
            if len(queries) == 1:
                logger.warning("the next collection refuses a query: %r", error)
                return {}
        except Exception as error:  # noqa: BLE001 - the present collection answers
            self._note_failure(error)
            return {}
        else:
            return dict(zip(queries, results, strict=True))
        alone = (self._ask_next({n: query}, on_encoded) for n, query in queries.items())
        return {n: result for answered in alone for n, result in answered.items()}

    def _divided(self, queries: Mapping[int, ComposedQuery]) -> tuple[set[int], set[int]]:
        """Queries for the next collection alone, whose clips the present one does not have; and for both."""
        ids = set(chain.from_iterable(map(_clips_of, queries.values())))
        present = self.clip_cache.find(ids).keys()
        try:
            following = self._next.clip_cache.find(ids).keys()
        except MILVUS_ERRORS as error:
            self._note_failure(error)
            return set(), set()
        of_next, of_both = set(), set()
        for n, query in queries.items():
            named = _clips_of(query)
            if named & present <= following:  # what neither has may be a file, or is refused
                (of_next if named & following - present else of_both).add(n)
        return of_next, of_both

    def _in_next(self, clip_ids: Set[str]) -> Set[str]:
        """Those of these clips that the next collection has; none where it fails, for a clip that both answer with is shown once."""
        find, ids = self._next.collection.rows_of_clips, sorted(clip_ids)
        parts = (ids[n : n + _IDS_PER_CALL] for n in range(0, len(ids), _IDS_PER_CALL))
        try:
            return {row["clip_id"] for part in parts for row in find(part, fields=("clip_id",))}
        except MILVUS_ERRORS as error:
            self._note_failure(error)
            return set()

    def _follow(self) -> None:
        """The alias, and the next collection as it grows. What was known last holds where Milvus does not answer."""
        try:
            self.generation = self._catalog.generation(
                self._alias, present=self.collection.name, following=self._next_name
            )
            num_rows = self._next.collection.count()
            if num_rows and num_rows >= 2 * self._num_seen:
                _renew_snapshot(self._next)
                self._num_seen = num_rows
        except (ValueError, *MILVUS_ERRORS) as error:
            logger.warning("the next collection cannot be followed: %s", error)

    def _note_failure(self, error: Exception) -> None:
        logger.warning("the next collection does not answer: %s", error)
        self._rests_until_s = time.monotonic() + _REST_S

    def _rests(self) -> bool:
        return time.monotonic() < self._rests_until_s


@dataclass(slots=True)
class _Moved:
    """Which candidates the next collection has, and the share of those that were asked about."""

    find: Callable[[Set[str]], Set[str]]
    num_asked: int = field(default=0, init=False)
    num_moved: int = field(default=0, init=False)

    def __call__(self, clip_ids: Set[str]) -> Set[str]:
        moved = self.find(clip_ids)
        self.num_asked += len(clip_ids)
        self.num_moved += len(moved)
        return moved

    @property
    def share(self) -> float:
        return self.num_moved / max(self.num_asked, 1)


def _require_same_archives(present: SearchClient, following: SearchClient) -> None:
    """Clips are the same where their ids are, which begin with the name of their archive."""
    old, new = present.collection.archives().keys(), following.collection.archives().keys()
    if old and new and not old & new:
        raise ValueError(
            f"collection {following.collection.name!r} holds archives {sorted(new)} and {present.collection.name!r} holds "
            f"{sorted(old)}: no clip of one is one of the other; index it again with --archive as the former one"
        )


def _renew_snapshot(client: SearchClient) -> None:
    """What a client knows of its collection, anew: it has grown much since it was opened."""
    snapshot = CollectionSnapshot(client.collection, client.bundle_dir, client.card)
    _ = snapshot.facts, snapshot.is_exact, snapshot.samples, snapshot.reader
    snapshot.count_beside()
    former, client.snapshot = client.snapshot, snapshot
    client.confidence = Confidence(client.confidence.calibration, client.query_encoder, snapshot)
    former.close()


def _clips_of(query: ComposedQuery) -> set[str]:
    """The ids that a query names."""
    clip = query.clip if isinstance(query.clip, str) else getattr(query.clip, "clip_id", "")
    return {clip_id for clip_id in (clip, *query.liked, *query.disliked) if clip_id}


def _merged(
    query: ComposedQuery,
    older: tuple[SearchClient, SearchResult],
    newer: tuple[SearchClient, SearchResult],
    share: float,
) -> SearchResult:
    """One result; `share` of the clips are those of the newer one."""
    (_, old), (_, new) = older, newer
    old_keys, new_keys = _log_odds(query, *older), _log_odds(query, *newer)
    if old_keys is None or new_keys is None:
        old_keys, new_keys = _by_rank(old, 1 - share), _by_rank(new, share)
    keyed = list(zip(new_keys.tolist(), new.hits, strict=True))
    known = {hit.clip_id for hit in new.hits}  # also of what was moved while the query ran
    of_old = zip(old_keys.tolist(), old.hits, strict=True)
    keyed += [(key, hit) for key, hit in of_old if hit.clip_id not in known]
    keyed.sort(key=lambda pair: (-pair[0], pair[1].clip_id))
    with_hits = [result for result in (new, old) if result.hits] or [new, old]
    mismatches = [result.mismatch for result in with_hits]
    return replace(
        new,
        query=old.query,
        hits=_grouped(query, [hit for _, hit in keyed]),
        encoder_ids=old.encoder_ids + new.encoder_ids,
        is_exact=old.is_exact and new.is_exact,
        mismatch="" if "" in mismatches else mismatches[0],
        hint="" if keyed else old.hint,
        timings_ms=Counter(old.timings_ms) + Counter(new.timings_ms),
    )


def _log_odds(
    query: ComposedQuery, client: SearchClient, result: SearchResult
) -> np.ndarray | None:
    """None where they say nothing: no calibration, a query that has nothing to do with it, scores that are no cosines."""
    if query.keep or query.exclude or result.mismatch in ("text", "clip"):
        return None
    scores_N = np.array([hit.score for hit in result.hits])
    return client.confidence.log_odds(query, scores_N)


def _by_rank(result: SearchResult, share: float) -> np.ndarray:
    """The n-th hit of a collection with this share of the clips is about the n/share-th of all."""
    return -(np.arange(len(result.hits)) + 0.5) / max(share, 1e-6)


def _grouped(query: ComposedQuery, hits: Iterable[Hit]) -> tuple[Hit, ...]:
    """As many as were asked for; one of each performance, and of each video where that was asked for.

    Vectors of two encoders cannot be compared: `group_above` holds within each.
    """
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
