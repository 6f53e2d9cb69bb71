"""Query composition: query vectors, keep and exclude score terms, and the scores of hits.

Q queries, D clip vector, N clips, S sample clips.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Literal

import numpy as np

from indexing.search.attributes import Value
from indexing.search.collection_snapshot import MAX_ROWS, CollectionSnapshot
from indexing.search.filters import RowFilter
from indexing.search.query_encoder import QueryEncoder
from indexing.search.types import ClipPlace, ComposedQuery, Reading
from indexing.store.filter_expression import VideoSpan

VALUE_WEIGHT = 1.0
"""Weight of an attribute probability in the score. A certainly wrong value costs as much as the range of cosines of a query, so clips
with other values come first."""
OTHERS_WEIGHT = 1.0
"""Weight of the agreement in the other attributes. With the nearest clips excluded, it keeps similar clips ahead of arbitrary ones."""
PUSH = 2.0
"""Distance by which the second search moves along the score terms, so that alternatives are among the candidates."""
FEEDBACK_STEP = 0.5
"""Step size of relevance feedback."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreTerm:
    """A term of every hit's score: +1 for `keep`, -1 for `exclude`."""

    sign: int
    direction_D: np.ndarray
    value: Value | None
    """The attribute value of the text; None = the text is scored as a direction only."""
    alternatives: tuple[str, ...] = ()
    """Texts of the other values of an excluded attribute; the query is edited with each of them for more candidates."""


@dataclass(frozen=True, kw_only=True, slots=True)
class QueryVectors:
    """The vectors of one query."""

    clip_D: np.ndarray | None
    query_D: np.ndarray
    terms: tuple[ScoreTerm, ...]
    others_ND: np.ndarray
    """The query edited with the alternatives to the excluded value."""
    reading: tuple[Reading, ...] = ()
    """The attributes of the query clip and what is asked of them."""

    @property
    def matched_by(self) -> Literal["", "attributes", "vector"]:
        """How `keep` and `exclude` were interpreted."""
        if not self.terms:
            return ""
        return "attributes" if all(term.value for term in self.terms) else "vector"

    def searches(self) -> np.ndarray:
        """The vectors to search for: the query, the query moved along its terms, and the alternatives."""
        moved = self.query_D + PUSH * sum(term.sign * term.direction_D for term in self.terms)
        plain_ND = self.query_D[None]
        return (
            np.concatenate([plain_ND, unit(moved)[None], self.others_ND])
            if self.terms
            else plain_ND
        )

    def scores(self, hits_ND: np.ndarray, snapshot: CollectionSnapshot) -> np.ndarray:
        """The cosine with the query plus the score terms [N]."""
        scores_N = hits_ND @ self.query_D
        reader = snapshot.reader
        values = [term.value for term in self.terms if term.value is not None]
        if reader is not None and values:
            scores_N = scores_N + OTHERS_WEIGHT * reader.agreement(
                self.query_D, hits_ND, without=[value.name for value in values]
            )
        for term in self.terms:
            if term.value is not None and reader is not None:
                added_N = reader.probability(hits_ND, term.value)
            else:
                added_N = hits_ND @ term.direction_D
            scores_N = scores_N + term.sign * VALUE_WEIGHT * added_N
        return scores_N

    def parts(self, hits_ND: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The cosine split into (from the clip, from the edit): the query's parts along the clip vector and orthogonal to it."""
        cosines_N = hits_ND @ self.query_D
        if self.clip_D is None:
            return np.zeros_like(cosines_N), cosines_N
        from_clip_N = (self.query_D @ self.clip_D) * (hits_ND @ self.clip_D)
        return from_clip_N, cosines_N - from_clip_N


@dataclass(kw_only=True, slots=True)
class PendingQuery:
    """One query of a call, from its text to its vectors."""

    query: ComposedQuery
    place: ClipPlace
    clip_D: np.ndarray | None
    row_filter: RowFilter
    clip_length: float = 1.0
    vectors: QueryVectors | None = None
    is_wide: bool = False
    """Whether replays, or clips that another collection answers with, take the places of answers, so that more candidates are needed."""

    def fusion_input(self) -> np.ndarray | None:
        """The clip vector as long as the encoder made it."""
        return None if self.clip_D is None else self.clip_D * np.float32(self.clip_length)

    def condition(self) -> str:
        """The filter expression, without the span of a query clip that is a file."""
        place, parts = self.place, [self.row_filter.condition]
        if self.clip_D is not None and not place.clip_id and place.video_uri:
            span = VideoSpan(video_uri=place.video_uri, start_s=place.start_s, end_s=place.end_s)
            parts.append(span.outside())
        return " and ".join(part for part in parts if part)

    def pool(self) -> int:
        """Number of candidates to request: more where later steps drop or merge some."""
        query = self.query
        wide = bool(query.keep or query.exclude or query.group_by_video)
        wide = wide or query.group_above < 1 or self.row_filter.duration_s is not None
        wide = wide or self.is_wide
        return min(max(20 * query.limit, 200) if wide else query.limit + 1, MAX_ROWS)


def unit(vectors: np.ndarray) -> np.ndarray:
    """Normalize to length 1 along the last axis."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return (vectors / np.maximum(length, 1e-12)).astype(np.float32)


@dataclass(slots=True)
class Composed:
    """A query on its way through its edits."""

    vector_D: np.ndarray | None
    reading: dict[str, Reading] = field(default_factory=dict)
    """By attribute, where the fusion has factors and there is a clip."""


def compose_all(
    queries: Sequence[ComposedQuery],
    clip_vectors: Sequence[np.ndarray | None],
    encoder: QueryEncoder,
    snapshot: CollectionSnapshot,
    *,
    fusion_inputs: Sequence[np.ndarray | None] | None = None,
) -> list[Composed]:
    """Apply the edits of all queries: the first edit of every query in one batch, then the second ones, and so on.

    `fusion_inputs` are the clip vectors as long as the encoder made them, where the fusion reads them so.
    """
    read = clip_vectors if fusion_inputs is None else fusion_inputs
    # A query without edits is the unit vector itself.
    composed = [
        Composed(read[n] if query.edits else clip_vectors[n]) for n, query in enumerate(queries)
    ]
    given_QS = encoder.given_factors([query.source for query in queries])
    for depth in range(max((len(query.edits) for query in queries), default=0)):
        turn = [number for number, query in enumerate(queries) if len(query.edits) > depth]
        with_clip = [n for n in turn if composed[n].vector_D is not None]
        if with_clip:
            texts = [queries[n].edits[depth] for n in with_clip]
            # The correction is of the clip: the second edit reads what the first one made.
            given_NS = given_QS[with_clip] * (depth == 0)
            _edit([composed[n] for n in with_clip], texts, given_NS, encoder)
        for n in sorted(set(turn) - set(with_clip)):
            composed[n].vector_D = text_vector(queries[n].edits[depth], encoder, snapshot)[0]
    for query, clip_D, of_query in zip(queries, clip_vectors, composed, strict=True):
        if of_query.vector_D is None:
            raise ValueError("a query needs a clip, an edit text or both")
        if clip_D is not None and query.strength != 1 and query.edits:
            of_query.vector_D = unit(clip_D + query.strength * (of_query.vector_D - clip_D))
    return composed


def _edit(
    composed: Sequence[Composed],
    texts: Sequence[str],
    given_NS: np.ndarray,
    encoder: QueryEncoder,
) -> None:
    """Apply one edit to each query; where the fusion has factors, note what was read and what is asked."""
    stacked_ND = np.stack([c.vector_D for c in composed if c.vector_D is not None])
    if not encoder.factors:
        for of_query, vector_D in zip(composed, encoder.compose(stacked_ND, texts), strict=True):
            of_query.vector_D = vector_D
        return
    edited = encoder.compose_factors(stacked_ND, texts, given_NS)
    for n, of_query in enumerate(composed):
        of_query.vector_D = edited.query_ND[n]
        for read in edited.readings(n, encoder.factors, given_NS[n]):
            reading = Reading(**asdict(read), is_factor=True)
            first = of_query.reading.get(reading.name, reading)
            asked = first.asked if reading.asked is None else reading.asked
            of_query.reading[reading.name] = replace(first, asked=asked)


def read_query(
    query: ComposedQuery,
    clip_D: np.ndarray | None,
    composed: Composed,
    snapshot: CollectionSnapshot,
) -> tuple[Reading, ...]:
    """All attributes of the query clip: factors as the fusion read them, the others as the classification head does."""
    if clip_D is None or composed.vector_D is None or not query.explain:
        return ()
    reader, readings = snapshot.reader, dict(composed.reading)
    if reader is not None:
        # With factors an edit is known by what it does; without, by the attributes that the composed query shows.
        shown_D = clip_D if readings else composed.vector_D
        for reading in reader.reading(clip_D, shown_D):
            readings.setdefault(reading.name, reading)
    return tuple(readings[name] for name in sorted(readings))


def text_vector(
    text: str, encoder: QueryEncoder, snapshot: CollectionSnapshot
) -> tuple[np.ndarray, np.ndarray]:
    """The vector of a text without a clip: the mean of its composition with sample clips, and those compositions [S, D].

    Where a query is the sum of its clip and its text, the text's own vector.
    """
    samples_SD = snapshot.samples
    if encoder.adds_texts:
        samples_SD = np.zeros_like(samples_SD[:1])
    text_E = encoder.text_vectors([text])
    composed_SD = encoder.fuse(samples_SD, np.repeat(text_E, len(samples_SD), axis=0))
    return unit(composed_SD.mean(axis=0)), composed_SD


def score_terms(
    query: ComposedQuery,
    clip_D: np.ndarray | None,
    encoder: QueryEncoder,
    snapshot: CollectionSnapshot,
) -> tuple[ScoreTerm, ...]:
    """The score terms of `keep` and `exclude`: attribute values where the classification head knows them, else directions."""
    terms = []
    for sign, text in ((1, query.keep.strip()), (-1, query.exclude.strip())):
        if not text:
            continue
        reader = snapshot.reader
        named = None if reader is None else reader.named(text)
        if reader is not None and named is not None:
            if clip_D is None:
                raise ValueError(
                    f"{text!r} names an attribute of the query clip, and there is no clip"
                )
            value = Value(name=named, value=query.source.get(named, ""))
            if not reader.has(value):
                value = Value(name=named, value=reader.predict(clip_D[None])[0][named][0])
            terms.append(ScoreTerm(sign=sign, direction_D=clip_D, value=value))
            continue
        vector_D, composed_SD = text_vector(text, encoder, snapshot)
        value = None
        if reader is not None:
            value = reader.spoken(text) or reader.read(composed_SD, snapshot.samples)
        direction_D = unit(vector_D - unit(snapshot.samples.mean(axis=0)))
        others = () if reader is None or value is None or sign > 0 else reader.alternatives(value)
        terms.append(
            ScoreTerm(sign=sign, direction_D=direction_D, value=value, alternatives=others)
        )
    return tuple(terms)


def with_score_terms(
    query_D: np.ndarray,
    clip_D: np.ndarray | None,
    terms: tuple[ScoreTerm, ...],
    encoder: QueryEncoder,
) -> QueryVectors:
    """The vectors of a query with its score terms."""
    texts = [text for term in terms for text in term.alternatives]
    others_ND = np.empty((0, len(query_D)), np.float32)
    if texts:
        others_ND = encoder.compose(np.repeat(query_D[None], len(texts), axis=0), texts)
    return QueryVectors(clip_D=clip_D, query_D=query_D, terms=terms, others_ND=others_ND)


def with_feedback(query_D: np.ndarray, liked_ND: np.ndarray, disliked_ND: np.ndarray) -> np.ndarray:
    """The query after relevance feedback: a step from the mean of the disliked clips to that of the liked clips.

    Where one of the two is empty, the query itself takes its place.
    """
    right_D = liked_ND.mean(axis=0) if len(liked_ND) else query_D
    wrong_D = disliked_ND.mean(axis=0) if len(disliked_ND) else query_D
    return unit(query_D + FEEDBACK_STEP * unit(right_D - wrong_D))
