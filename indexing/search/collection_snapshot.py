"""Snapshot of a collection: labels, attributes, sample vectors and draws of clips; and exact search.

What is known of the values of all rows is counted page by page, so that its memory grows with the values and not with the rows; a
service counts beside its answers, and again when rows were added. N clips, D vector, Q queries.
"""

import heapq
import logging
import random
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from encoders.bundle.card import BundleCard
from encoders.clips import REPLAY_OF
from indexing.search.attributes import AttributeReader, LabelAttributes, open_attribute_reader
from indexing.search.filters import FILTERS, FilterFields, some_of
from indexing.store.client import MilvusBusyError
from indexing.store.collection import ClipCollection
from indexing.store.filter_expression import any_of, contains, quoted
from indexing.store.schema import ROW_FIELDS

logger = logging.getLogger(__name__)

MAX_ROWS = 16_384
"""Rows that Milvus gives or finds in one call."""
NUM_SAMPLES = 64
NUM_FIT = 1024
_NUM_SLICES = 32
"""Of the rows, by their keys, in an exact search. Milvus compares a query with every row that meets a condition where it leaves out
more than 93 % of them (kHnswSearchKnnBFFilterThreshold of knowhere); a slice leaves out 97 %."""
_RECOUNT_S = 60.0
_COUNTING_SHARE = 1 / 50
"""Of the time, at most, that counting takes while rows are added all the time."""
_FIRST_ROWS = MAX_ROWS
"""Rows whose values are counted before the first answer; those of a larger collection are counted beside the answers."""
_PAGE_ROWS = 4096
_MOST_LABELS = 256
"""In one condition on labels."""
_DRAWN_LABELS = 1024
"""That clips are drawn from, of those that contain a text."""
_NUM_NAMED = 8
_MAX_COUNTED = 256
_CLIP_FIELDS = ("clip_key", "clip_id", "label", "split", "attributes")


class StillCountingError(OSError):
    """A query needs the values of all rows, which are being counted; asking again later helps."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CollectionFacts:
    """The values of the rows of a collection."""

    num_rows: int
    """Rows that were counted."""
    is_complete: bool
    """Whether they were all rows."""
    labels: Mapping[str, int]
    """Number of rows of each label."""
    splits: tuple[str, ...]
    attributes: Mapping[str, tuple[str, ...]]
    """The values of each attribute."""
    label_attributes: Mapping[str, Mapping[str, str]]
    """The most frequent value of each attribute, by label."""
    sample: tuple[dict[str, Any], ...]
    """The rows with the first keys, which are hashes."""
    held_out: tuple[dict[str, Any], ...]
    """The same of the labelled rows of the split val."""
    page_keys: tuple[str, ...]
    """The first key of each page: places to draw clips from."""


def read_facts(
    collection: ClipCollection, *, num_rows: int | None = None, is_stopped: threading.Event
) -> CollectionFacts:
    """Of the first rows, or of all; those read so far where it is stopped."""
    labels: Counter[str] = Counter()
    splits: set[str] = set()
    values: defaultdict[str, set[str]] = defaultdict(set)
    label_attributes = LabelAttributes()
    sample: list[dict[str, Any]] = []
    held_out: list[dict[str, Any]] = []
    page_keys: list[str] = []
    rows = islice(collection.rows(_CLIP_FIELDS), num_rows)
    count = 0
    while not is_stopped.is_set() and (page := list(islice(rows, _PAGE_ROWS))):
        count += len(page)
        labels.update(row["label"] for row in page if row["label"])
        splits |= {row["split"] for row in page if row["split"]}
        for row in page:
            # `replay_of` has as many values as there are clips.
            told = {n: v for n, v in (row["attributes"] or {}).items() if n != REPLAY_OF}
            label_attributes.add(row | {"attributes": told})
            for name, value in told.items():
                values[name].add(str(value))
        page_keys.append(min(row["clip_key"] for row in page))
        sample = _first([*sample, *page])
        held_out = _first([*held_out, *(r for r in page if r["split"] == "val" and r["label"])])
    return CollectionFacts(
        num_rows=count,
        is_complete=not is_stopped.is_set() and count >= collection.count(),
        labels=dict(sorted(labels.items())),
        splits=tuple(sorted(splits)),
        attributes={name: tuple(sorted(of_name)) for name, of_name in sorted(values.items())},
        label_attributes=label_attributes.most_frequent(),
        sample=tuple(sample),
        held_out=tuple(held_out),
        page_keys=tuple(sorted(page_keys)),
    )


def _first(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return heapq.nsmallest(NUM_FIT, rows, key=itemgetter("clip_key"))


def _slices(number: int) -> Iterator[str]:
    """Conditions that cut the rows into equal parts by their keys, which are hashes."""
    ends = [f"{i * 256 // number:02x}" for i in range(1, number)]
    for low, high in zip(["", *ends], [*ends, ""], strict=True):
        parts = [f"clip_key >= {quoted(low)}"] if low else []
        parts += [f"clip_key < {quoted(high)}"] if high else []
        yield " and ".join(parts)


class CollectionSnapshot:
    """Facts of a collection, as of their first use."""

    def __init__(self, collection: ClipCollection, bundle_dir: Path, card: BundleCard) -> None:
        self._collection, self._bundle_dir, self._card = collection, bundle_dir, card
        self._facts_lock = threading.Lock()
        self._facts: CollectionFacts | None = None
        self._reader: tuple[Mapping[str, Mapping[str, str]], AttributeReader | None] | None = None
        self._is_stopped = threading.Event()
        self._counting: threading.Thread | None = None
        self._matching: tuple[CollectionFacts | None, dict[str, int]] = (None, {})

    @cached_property
    def is_exact(self) -> bool:
        """Whether the index of Milvus is exact."""
        return self._collection.is_exact()

    @property
    def facts(self) -> CollectionFacts:
        """Of all rows where they have been counted, else of the first ones."""
        if self._facts is None:
            with self._facts_lock:
                if self._facts is None:
                    self._facts = self._read_facts(_FIRST_ROWS)
        return self._facts

    def count_all(self) -> CollectionFacts:
        """Of all rows, for which a large collection is read without its vectors: once, and again when there are more or fewer rows.

        StillCountingError while they are counted beside the answers: no query waits for that.
        """
        facts = self.facts
        if self._counting is None:
            if not (facts.is_complete and facts.num_rows == self._collection.count()):
                self._facts = self._read_facts(None)
        elif not facts.is_complete:
            raise StillCountingError(
                "the values of all clips are still being counted, and this query needs them; ask again"
            )
        return self.facts

    def count_beside(self) -> None:
        """Count all rows in a thread, and again when there are more or fewer of them."""
        if self._counting is None:
            self._counting = threading.Thread(target=self._count, name="count-values", daemon=True)
            self._counting.start()

    def close(self) -> None:
        """Stop counting."""
        self._is_stopped.set()
        if self._counting is not None:
            self._counting.join()

    def _count(self) -> None:
        wait_s = 0.0
        while not self._is_stopped.wait(wait_s):
            wait_s, started_s = _RECOUNT_S, time.monotonic()
            try:
                is_known = (
                    self.facts.is_complete and self.facts.num_rows == self._collection.count()
                )
                if not is_known and (facts := self._read_facts(None)).is_complete:
                    self._facts = facts
            except (MilvusBusyError, ConnectionError) as error:
                logger.warning("the values of all clips could not be counted: %s", error)
            wait_s = max(wait_s, (time.monotonic() - started_s) / _COUNTING_SHARE)

    def _read_facts(self, num_rows: int | None) -> CollectionFacts:
        return read_facts(self._collection, num_rows=num_rows, is_stopped=self._is_stopped)

    def num_matching(self, condition: str) -> int:
        """Number of rows that pass a condition, each counted once for as long as the facts are the same."""
        facts = self.facts
        if self._matching[0] is not facts or len(self._matching[1]) >= _MAX_COUNTED:
            self._matching = (facts, {})
        counts = self._matching[1]
        if condition not in counts:
            is_known = not condition and facts.is_complete
            counts[condition] = (
                facts.num_rows if is_known else self._collection.count(condition=condition)
            )
        return counts[condition]

    @property
    def labels(self) -> Mapping[str, int]:
        """Number of rows of each label, of all rows."""
        return self.count_all().labels

    def fields(self, filters: Iterable[Mapping[str, Any]]) -> FilterFields:
        """The names that these filters may use, and the values of each attribute.

        All rows are counted first where an attribute is not known yet, or is asked for by more than one value; as `count_all`.
        """
        known = self.facts.attributes
        is_simple = all(
            name in FILTERS or (name in known and isinstance(value, str | int | float))
            for of_query in filters
            for name, value in of_query.items()
        )
        return FilterFields(attributes=known if is_simple else self.count_all().attributes)

    def unknown_values(self, filters: Mapping[str, Any]) -> str:
        """What filters name that no clip has, and what is near to it: why no clip passes; "" where all rows were not counted."""
        facts = self.facts
        known = {"split": facts.splits, "label": tuple(facts.labels), **facts.attributes}
        for name, value in filters.items() if facts.is_complete else ():
            texts = value if isinstance(value, list | tuple) else [value]
            for text in texts:
                if name in known and isinstance(text, str) and text not in known[name]:
                    near = get_close_matches(text, known[name], n=1)
                    hint = (
                        f"did you mean {near[0]!r}?"
                        if near
                        else f"there are {some_of(known[name], _NUM_NAMED) or 'none'}"
                    )
                    return f"no clip has {name} {text!r}; {hint}"
        return ""

    def draw_clips(self, text: str, *, limit: int, seed: int) -> list[dict[str, Any]]:
        """Rows at random, or of those whose label or id contains a text in any case, without their vectors.

        They are drawn from the rows that follow a random key, which is a hash: at most a page of them is read.
        """
        draw, needle = random.Random(seed), text.lower()
        condition = self._condition(text, draw) if text else ""
        start = draw.choice(self.facts.page_keys or ("",))
        rows = list(islice(self._rows_from(start, condition), _PAGE_ROWS))
        matching = [row for row in rows if needle in f"{row['label']} {row['clip_id']}".lower()]
        return draw.sample(matching, min(limit, len(matching)))

    def _rows_from(self, start: str, condition: str) -> Iterator[dict[str, Any]]:
        """The rows that meet a condition, in the order of their keys from a key on, and then those before it."""
        for side in (f"clip_key >= {quoted(start)}", f"clip_key < {quoted(start)}"):
            both = f"{side} and {condition}" if condition else side
            yield from self._collection.rows(_CLIP_FIELDS, condition=both)

    def _condition(self, text: str, draw: random.Random) -> str:
        """Met by rows whose label contains the text in any case, and by those whose id contains it as one of its usual spellings.

        Servers before 2.4 find ids by their beginning only.
        """
        labels = [name for name in self.facts.labels if text.lower() in name.lower()]
        labels = draw.sample(labels, min(len(labels), _DRAWN_LABELS))
        spellings = dict.fromkeys((text, text.lower(), text.upper(), text.capitalize()))
        inside = self._collection.finds_inside_texts
        parts = [contains("clip_id", spelling, inside=inside) for spelling in spellings]
        parts += [
            f"label in [{', '.join(map(quoted, labels[first : first + _MOST_LABELS]))}]"
            for first in range(0, len(labels), _MOST_LABELS)
        ]
        return any_of(parts)

    @cached_property
    def samples(self) -> np.ndarray:
        """Vectors of a pseudo-random sample of clips: those with the first hashes [N, D]."""
        return self._vectors(self.facts.sample[:NUM_SAMPLES])[0]

    @cached_property
    def typical_length(self) -> float:
        """Mean length of the sample clips' vectors; ValueError for a collection of unit vectors."""
        stored = self._vectors(self.facts.sample[:NUM_SAMPLES])[1]
        lengths = [row.get("vector_length", 1.0) for row in stored]
        if all(length == 1.0 for length in lengths):
            raise ValueError(
                f"collection {self._collection.name!r} holds unit vectors, and the fusion of this bundle reads clip vectors as "
                "long as the encoder made them; index the archive again into another --collection"
            )
        return float(np.mean(lengths))

    @property
    def reader(self) -> AttributeReader | None:
        """The classification head, calibrated on the validation clips of the collection, or on all clips where it has none."""
        facts = self.facts
        if self._reader is None or self._reader[0] != facts.label_attributes:
            self._reader = facts.label_attributes, self._open_reader(facts)
        return self._reader[1]

    def _open_reader(self, facts: CollectionFacts) -> AttributeReader | None:
        reader = open_attribute_reader(self._bundle_dir, self._card, facts.label_attributes)
        if reader is None:
            return None
        vectors_ND, rows = self._vectors(facts.held_out or facts.sample)
        return reader.fit(vectors_ND, [row["label"] for row in rows])

    def exact_nearest(
        self, vectors_QD: np.ndarray, *, limit: int, condition: str = ""
    ) -> list[list[tuple[float, dict[str, Any]]]]:
        """Exact search by Milvus, whatever the index: (cosine, row with its vector), best first.

        Rows of the last seconds, which Milvus keeps in an index of its own, may be missed.
        """
        best: list[list[tuple[float, str]]] = [[] for _ in vectors_QD]
        for of_slice in _slices(_NUM_SLICES):
            both = f"{of_slice} and ({condition})" if condition else of_slice
            answers = self._collection.nearest_many(
                vectors_QD, limit=limit, condition=both, fields=("clip_key",)
            )
            for number, hits in enumerate(answers):
                found = [(cosine, str(row["clip_key"])) for cosine, row in hits]
                best[number] = heapq.nlargest(limit, [*best[number], *found])
        keys = sorted({key for hits in best for _cosine, key in hits})
        rows = {row["clip_key"]: row for row in self._rows_of(keys)}
        # A row may have been deleted since it was found.
        return [[(cosine, rows[key]) for cosine, key in hits if key in rows] for hits in best]

    def _rows_of(self, keys: Sequence[str]) -> list[dict[str, Any]]:
        return self._collection.rows_of_keys(keys) if keys else []

    def _vectors(self, rows: Sequence[Mapping[str, Any]]) -> tuple[np.ndarray, list[dict]]:
        stored = self._rows_of([row["clip_key"] for row in rows])
        if not stored:
            raise ValueError(
                f"collection {self._collection.name!r} is empty; index an archive first"
            )
        return np.array([row["embedding"] for row in stored], np.float32), stored


DETAIL_FIELDS = (*ROW_FIELDS, "embedding")
