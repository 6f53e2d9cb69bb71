"""Search client: composed queries over a collection with the encoder that indexed it."""

import tempfile
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence, Set
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np

from encoders.backends.base import embed_with_length
from encoders.backends.registry import open_backend
from encoders.bundle.calibration import read_calibration
from encoders.bundle.card import read_card
from encoders.decoding.isolated import IsolatedDecoder
from encoders.decoding.request import DecodeRequest
from encoders.media.errors import DecodeError
from encoders.media.frame_index import Span
from indexing.archive_folder import read_archive, relocate
from indexing.clipping.moments import best_span
from indexing.search.clip_cache import ClipCache, candidate_of_row
from indexing.search.collection_snapshot import DETAIL_FIELDS, CollectionSnapshot
from indexing.search.composition import (
    PendingQuery,
    compose_all,
    read_query,
    score_terms,
    with_feedback,
    with_score_terms,
)
from indexing.search.confidence import Confidence
from indexing.search.filters import RowFilter
from indexing.search.query_encoder import QueryEncoder
from indexing.search.ranking import StageTimer, choose_hits, performance, plain_hits
from indexing.search.types import (
    DECODE_DEADLINE_S,
    Candidate,
    ClipPlace,
    ComposedQuery,
    Hit,
    SearchOptions,
    SearchResult,
    UploadedVideo,
    clip_place_of_row,
    parse_file,
    query_of,
)
from indexing.store.collection import open_collection
from indexing.store.endpoint import require_archive
from indexing.store.schema import ROW_FIELDS

__all__ = [
    "DECODE_DEADLINE_S",
    "ClipPlace",
    "ComposedQuery",
    "Hit",
    "SearchClient",
    "SearchOptions",
    "SearchResult",
]

_Place = TypeVar("_Place", bound=ClipPlace)
_Call = tuple[str, int, bool, tuple[str, ...]]
"""Condition, number of candidates, whether exact, fields. Queries that agree in these share one call to Milvus."""
Elsewhere = Callable[[Set[str]], Set[str]]
"""Ids of candidates -> those that another collection answers with, which are left out."""


class SearchClient:
    """An open collection with the encoder that indexed it; any other encoder is refused. Thread-safe."""

    def __init__(
        self,
        archive: str | Path,
        collection: str = "",
        bundle_dir: str | Path = "",
        *,
        backend: Literal["onnx", "torch"] = "onnx",
        options: SearchOptions | None = None,
        videos_root: str | None = None,
    ) -> None:
        """`archive` is an archive folder, which names all the rest; or the URI of Milvus, with a collection and its bundle.

        `videos_root` is where the videos of an archive folder are now, if they were moved.
        """
        self._is_closed = False
        self.options = options or SearchOptions(backend=backend)
        milvus_uri = str(archive)
        if not collection and not bundle_dir:
            folder = read_archive(archive, videos_root=videos_root)
            milvus_uri, collection = folder.milvus_uri, folder.collection
            bundle_dir = folder.bundle
            self.options = replace(self.options, moved_videos=folder.moved_videos)
        require_archive(milvus_uri)
        self.card = read_card(bundle_dir)
        self.bundle_dir = Path(bundle_dir)
        self._stack = ExitStack()
        self._decode_lock = threading.Lock()
        with ExitStack() as opening:
            self.collection = opening.enter_context(
                open_collection(milvus_uri, collection, call_options=self.options.call_options)
            )
            self.clip_cache = ClipCache(self.collection)
            self.collection.check(encoder_id=self.card.encoder_id)
            self._encoder = open_backend(
                bundle_dir, self.options.backend, num_threads=self.options.num_threads
            )
            self.query_encoder = QueryEncoder(
                self._encoder, typical_length=lambda: self.snapshot.typical_length
            )
            self.snapshot = CollectionSnapshot(self.collection, Path(bundle_dir), self.card)
            self.confidence = Confidence(
                read_calibration(bundle_dir, self.card), self.query_encoder, self.snapshot
            )
            deadline_s = self.options.decode_deadline_s
            self._decoder = opening.enter_context(IsolatedDecoder(deadline_s=deadline_s))
            self._stack = opening.pop_all()

    def __enter__(self) -> "SearchClient":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; another process can then open a Milvus Lite folder."""
        self.snapshot.close()
        self._is_closed = True
        self._stack.close()

    def search(
        self,
        *,
        clip: str | bytes | UploadedVideo | ClipPlace = "",
        edit: str | Sequence[str] = (),
        **how: Any,
    ) -> SearchResult:
        """Answer one query; `how` are the other fields of ComposedQuery: keep, exclude, strength, filters, limit ...

        The query clip itself, and clips that overlap with its span of a file, are left out. Without an edit, the most similar clips.
        """
        return self.search_many([query_of(clip, edit, how)])[0]

    def search_many(
        self, queries: Sequence[ComposedQuery], *, on_encoded: Callable[[], object] = lambda: None
    ) -> list[SearchResult]:
        """Answer many queries with one pass through the encoder and Milvus, in their order.

        `on_encoded` is called as soon as the encoder is free for other queries, before Milvus is searched.
        """
        return self._search_many(queries, on_encoded, None)

    def _search_many(
        self,
        queries: Sequence[ComposedQuery],
        on_encoded: Callable[[], object],
        elsewhere: Elsewhere | None,
    ) -> list[SearchResult]:
        self._require_open()
        timer = StageTimer()
        filters = [query.filters for query in queries if query.filters]
        fields = self.snapshot.fields(filters) if filters else None
        with timer.step("decode"):
            pending = []
            names = (_clip_id(query.clip) for query in queries)
            cached = self.clip_cache.find(name for name in names if name)
            for query in queries:
                row_filter = fields.compile(query.filters) if fields else RowFilter()
                place, clip_D, length = self._find(query.clip, cached)
                pending.append(
                    PendingQuery(
                        query=query,
                        place=place,
                        clip_D=clip_D,
                        row_filter=row_filter,
                        clip_length=length,
                        is_wide=elsewhere is not None,
                    )
                )
        with timer.step("text"):
            texts = [edit for query in queries for edit in query.edits]
            if texts:
                self.query_encoder.text_vectors(texts)
        with timer.step("fuse"):
            self._compose(pending)
        on_encoded()
        with timer.step("milvus"):
            results = self._answers(pending, elsewhere)
        timings_ms = timer.timings_ms()
        return [replace(result, timings_ms=timings_ms) for result in results]

    def _require_open(self) -> None:
        if self._is_closed:
            raise ValueError("this SearchClient is closed; open another one")

    def place_of(self, clip_id: str) -> ClipPlace | None:
        """The clip with this id, or None."""
        self._require_open()
        rows = self.collection.rows_of_clips([clip_id])
        return self._now_at(clip_place_of_row(rows[0])) if rows else None

    def _compose(self, pending: Sequence[PendingQuery]) -> None:
        composed = compose_all(
            [item.query for item in pending],
            [item.clip_D for item in pending],
            self.query_encoder,
            self.snapshot,
            fusion_inputs=(
                [item.fusion_input() for item in pending]
                if self.query_encoder.keeps_length
                else None
            ),
        )
        for item, of_query in zip(pending, composed, strict=True):
            query, query_D = item.query, of_query.vector_D
            assert query_D is not None
            reading = read_query(query, item.clip_D, of_query, self.snapshot)
            if query.liked or query.disliked:
                liked, disliked = map(self.clip_cache.vectors, (query.liked, query.disliked))
                query_D = with_feedback(query_D, liked, disliked)
            terms = score_terms(query, item.clip_D, self.query_encoder, self.snapshot)
            vectors = with_score_terms(query_D, item.clip_D, terms, self.query_encoder)
            item.vectors = replace(vectors, reading=reading)

    def _answers(
        self, pending: Sequence[PendingQuery], elsewhere: Elsewhere | None
    ) -> list[SearchResult]:
        """Again with more candidates where replays of one performance left fewer answers than were asked for."""
        candidates = self._nearest(pending)
        gone: Set[str] = set()
        if elsewhere is not None:
            gone = elsewhere({c.place.clip_id for found in candidates for c in found})
        results = [self._answer(*pair, gone) for pair in zip(pending, candidates, strict=True)]
        short = [
            n
            for n, item in enumerate(pending)
            if not item.is_wide
            and len(results[n].hits) < item.query.limit
            and len(candidates[n]) == item.pool()
        ]
        for n in short:
            pending[n].is_wide = True
        for n, found in zip(short, self._nearest([pending[n] for n in short]), strict=True):
            results[n] = self._answer(pending[n], found, gone)
        return results

    def _nearest(self, pending: Sequence[PendingQuery]) -> list[list[Candidate]]:
        """One call to Milvus per condition, size and kind of search."""
        together: defaultdict[_Call, list[tuple[int, np.ndarray]]] = defaultdict(list)
        for number, item in enumerate(pending):
            assert item.vectors is not None
            exact = item.query.exact and not self.snapshot.is_exact
            fields = DETAIL_FIELDS if item.query.needs_vectors else ROW_FIELDS
            for vector_D in item.vectors.searches():
                together[item.condition(), item.pool(), exact, fields].append((number, vector_D))
        by_query: list[dict[str, Candidate]] = [{} for _ in pending]
        for (condition, limit, exact, fields), turns in together.items():
            vectors_ND = np.stack([vector_D for _number, vector_D in turns])
            if exact:
                answers = self.snapshot.exact_nearest(vectors_ND, limit=limit, condition=condition)
            else:
                answers = self.collection.nearest_many(
                    vectors_ND, limit=limit, condition=condition, fields=fields
                )
            for (number, _), rows in zip(turns, answers, strict=True):
                for cosine, row in rows:
                    by_query[number][row["clip_key"]] = candidate_of_row(row, cosine=cosine)
        for item, candidates in zip(pending, by_query, strict=True):
            if item.query.needs_vectors:
                self.clip_cache.put(candidates.values())
        return [list(candidates.values()) for candidates in by_query]

    def _answer(
        self, item: PendingQuery, candidates: Sequence[Candidate], gone: Set[str]
    ) -> SearchResult:
        assert item.vectors is not None
        query = item.query
        own, gone = performance(item.place), gone | {item.place.clip_id}
        others = [
            c for c in candidates if c.place.clip_id not in gone and performance(c.place) != own
        ]
        unrelated = self.confidence.unrelated(query, None if item.place.clip_id else item.clip_D)
        likely = partial(self.confidence.probabilities, query, unrelated)
        how: Any = {"duration_s": item.row_filter.duration_s, "probabilities": likely}
        if query.needs_vectors:
            hits = choose_hits(query, item.vectors, others, snapshot=self.snapshot, **how)
        else:
            hits = plain_hits(query, others, **how)
        hits = tuple(self._now_at(hit) for hit in hits)
        return SearchResult(
            query=self._now_at(item.place),
            edit_text=", then ".join(query.edits),
            hits=hits,
            backend_used=self._encoder.kind,
            encoder_ids=(self.card.encoder_id,),
            is_exact=query.exact or self.snapshot.is_exact,
            mismatch=self.confidence.mismatch(query, hits, unrelated, item.row_filter.condition),
            hint="" if hits else self.snapshot.unknown_values(query.filters),
            matched_by=item.vectors.matched_by,
            reading=item.vectors.reading,
        )

    def _now_at(self, place: _Place) -> _Place:
        """With the path that the video has now."""
        uri = relocate(place.video_uri, self.options.moved_videos)
        return place if uri == place.video_uri else replace(place, video_uri=uri)

    def _find(
        self, clip: str | bytes | UploadedVideo | ClipPlace, cached: Mapping[str, Candidate]
    ) -> tuple[ClipPlace, np.ndarray | None, float]:
        """The clip, its unit vector, and the length that the vector had; None and 1 without a clip."""
        if isinstance(clip, bytes):
            if not clip:
                raise ValueError("the query clip has 0 bytes")
            with tempfile.NamedTemporaryFile(suffix=".video") as file:
                file.write(clip)
                file.flush()
                return self._find(UploadedVideo(path=Path(file.name)), cached)
        if isinstance(clip, UploadedVideo):
            place = ClipPlace(clip_id="", video_uri=str(clip.path), start_s=0.0, end_s=None)
            place = self._tightened(place)
            embedded = self.embed(place, name="the uploaded video")
            return replace(place, video_uri=""), *embedded
        candidate = cached.get(_clip_id(clip))
        if candidate is not None:
            return candidate.place, candidate.vector_D, candidate.vector_length
        if isinstance(clip, ClipPlace):
            return clip, *self.embed(clip, name=clip.video_uri)
        if not clip:
            return ClipPlace(clip_id="", video_uri="", start_s=0.0, end_s=None), None, 1.0
        place = parse_file(clip) if self.options.files else None
        if place is None:
            files = "nor a video file (FILE or FILE@START-END)"
            raise ValueError(
                f"clip {clip!r} is neither a clip id of collection {self.collection.name!r} {files}"
                if self.options.files
                else f"no clip {clip!r} in collection {self.collection.name!r}"
            )
        if place.start_s == 0 and place.end_s is None:
            place = self._tightened(place)
        return place, *self.embed(place, name=clip)

    def _tightened(self, place: ClipPlace) -> ClipPlace:
        """The best moment of a whole file, where the bundle has a moment head and it finds one; else the place as it is."""
        if self.card.moments is None:
            return place
        limits, deadline_s = self.options.limits, self.options.decode_deadline_s
        span = best_span(self.bundle_dir, place.video_uri, limits, deadline_s=deadline_s)
        return place if span is None else replace(place, start_s=span[0], end_s=span[1])

    def start_decoder(self) -> None:
        """Start the process that decodes query clips, where none runs."""
        with self._decode_lock:
            self._decoder.start()

    def interrupt_decoder(self) -> None:
        """End the process that decodes a query clip, from another thread; that query fails, and the next gets a new process."""
        self._decoder.interrupt()

    def close_decoder(self) -> None:
        """Stop the process that decodes query clips; the next query clip that is a file starts another."""
        with self._decode_lock:
            self._decoder.close()

    def embed(self, place: ClipPlace, *, name: str) -> tuple[np.ndarray, float]:
        """The unit vector of a span of a file and the length that it had; ValueError with the reason where the file cannot be decoded."""
        request = DecodeRequest(
            video=place.video_uri,
            spans=(Span(start_s=place.start_s, end_s=place.end_s),),
            sampling=self.card.sampling,
            limits=self.options.limits,
        )
        with self._decode_lock:
            try:
                decoded = self._decoder.decode(request)
            except DecodeError as error:
                raise ValueError(f"{name}: {_without_path(error, place)}") from error
        if decoded.errors[0] is not None:
            raise ValueError(f"{name}: {_without_path(decoded.errors[0], place)}")
        vectors_ND, length_N = embed_with_length(self._encoder, decoded.frames_NTHWC)
        return vectors_ND[0], float(length_N[0])


def _clip_id(clip: str | bytes | UploadedVideo | ClipPlace) -> str:
    """The clip id of a query clip, or "" where it cannot be one."""
    if isinstance(clip, bytes | UploadedVideo):
        return ""
    return clip if isinstance(clip, str) else clip.clip_id


def _without_path(error: DecodeError, place: ClipPlace) -> str:
    """The error text without the path of the file."""
    return str(error).replace(place.video_uri, "the video")
