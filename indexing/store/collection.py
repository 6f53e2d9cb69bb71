"""The collection of clip vectors: one interface for Milvus Lite and servers, guarded by the encoder id."""

import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import numpy as np
from pymilvus import MilvusClient
from pymilvus.exceptions import MilvusException

from indexing.store.client import CallOptions, call_milvus, connect, require_fixed_server
from indexing.store.endpoint import place_of, serve_milvus
from indexing.store.filter_expression import contains, quoted
from indexing.store.lease import is_lease
from indexing.store.schema import (
    ROW_FIELDS,
    VectorDtype,
    create_collection,
    plain_row,
    stored_row,
    vector_dtype_of,
)

logger = logging.getLogger(__name__)

_ENCODER_ID = "tfcovr.encoder_id"
ARCHIVE = "tfcovr.archive."
"""Beginning of the properties that record the source of each archive of the collection, by its name."""
STANDS_FOR = "tfcovr.stands_for"
"""Property of a whole copy: the name that it is about to take over; see transfer.index_swap."""
_TIMEOUT_S = 60.0
_PAGE = 4096
_NOT_FOUND = 100
"""Milvus's error code for a collection that does not exist."""
_SWAP_S = 2.0


class EncoderMismatchError(ValueError):
    """The collection holds vectors of another encoder."""


class ClipCollection:
    """Rows by clip_key. Writes are upserts: the same row twice is one row."""

    def __init__(self, address: str, name: str, *, call_options: CallOptions | None = None) -> None:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,254}", name):
            raise ValueError(
                f"collection {name!r} is not a valid Milvus name; use letters, digits and _, "
                "not beginning with a digit"
            )
        logging.getLogger("pymilvus").setLevel(
            logging.CRITICAL
        )  # failures are raised here; its log would repeat them
        self.name, self.address, self._call_options = name, address, call_options or CallOptions()
        self._client = connect(address, self._call_options.attempts)

    @property
    def pymilvus(self) -> MilvusClient:
        """The connection itself."""
        return self._client

    def exists(self) -> bool:
        """Whether the collection exists."""
        return self._read(self._client.has_collection)

    def create_or_check(
        self,
        *,
        encoder_id: str,
        embedding_dim: int,
        vector_dtype: VectorDtype = "float32",
        index_type: str = "FLAT",
    ) -> None:
        """Create the collection for this encoder, or check that the existing one has this encoder and vector type.

        `index_type` is that of a new collection.
        """
        if not self.exists() and not self._take_name_back():
            self._create(encoder_id, embedding_dim, vector_dtype, index_type)
        self.check(encoder_id=encoder_id)
        if vector_dtype != self.vector_dtype:
            raise ValueError(
                f"vector_dtype is {vector_dtype!r}, and collection {self.name!r} holds {self.vector_dtype} vectors; "
                "give that, or another --collection"
            )

    def _take_name_back(self) -> bool:
        """Whether a copy of the collection was to take its name over when a swap of its index was interrupted; now it does."""
        names = call_milvus(lambda: self._client.list_collections(timeout=_TIMEOUT_S))
        for name in names:
            if is_lease(name):
                continue
            described: Any = self._client.describe_collection(name, timeout=_TIMEOUT_S)
            if dict(described.get("properties") or {}).get(STANDS_FOR) == self.name:
                self._client.create_alias(name, self.name, timeout=_TIMEOUT_S)
                return True
        return False

    def check(self, *, encoder_id: str) -> None:
        """Refuse a collection that is missing or holds vectors of another encoder."""
        if not self.exists():
            raise ValueError(
                f"Milvus at {place_of(self.address)!r} has no collection {self.name!r}; run `tfcovr index` "
                "first, or name another with --collection"
            )
        described = self._describe()
        stored = encoder_of(described)
        if stored != encoder_id:
            raise EncoderMismatchError(
                f"collection {self.name!r} holds vectors of encoder {stored!r} and this bundle is "
                f"encoder {encoder_id!r}; use the bundle that indexed it, or another --collection"
            )
        self.name = described["collection_name"]  # what an alias names now, also when it is swapped
        self.vector_dtype = vector_dtype_of(described)
        call_milvus(lambda: self._client.load_collection(self.name, timeout=_TIMEOUT_S))

    def _create(
        self, encoder_id: str, embedding_dim: int, vector_dtype: VectorDtype, index_type: str
    ) -> None:
        create_collection(
            self._client,
            self.name,
            properties={_ENCODER_ID: encoder_id},
            embedding_dim=embedding_dim,
            vector_dtype=vector_dtype,
            index_type=index_type,
        )

    @cached_property
    def vector_dtype(self) -> VectorDtype:
        """Data type of the stored vectors."""
        return vector_dtype_of(self._describe())

    def _describe(self) -> dict[str, Any]:
        return call_milvus(lambda: self._client.describe_collection(self.name, timeout=_TIMEOUT_S))

    def properties(self) -> dict[str, str]:
        """What is recorded with the collection beside its rows."""
        return dict(self._describe().get("properties") or {})

    def archives(self) -> dict[str, str]:
        """Name -> source of each archive that is recorded with the collection."""
        return {
            key.removeprefix(ARCHIVE): source
            for key, source in self.properties().items()
            if key.startswith(ARCHIVE)
        }

    def set_properties(self, properties: Mapping[str, str]) -> None:
        """Record these; other ones stay."""
        if not properties:  # of which Milvus makes an error
            return
        call_milvus(
            lambda: self._client.alter_collection_properties(
                self.name, dict(properties), timeout=_TIMEOUT_S
            )
        )

    def drop(self) -> None:
        """Drop the collection with all its rows; does nothing where it does not exist."""
        call_milvus(lambda: self._client.drop_collection(self.name, timeout=_TIMEOUT_S))

    def upsert(self, rows: Sequence[dict[str, Any]]) -> None:
        """Insert or replace rows with ROW_FIELDS and `embedding`."""
        if rows:
            stored = [stored_row(row, self.vector_dtype) for row in rows]
            call_milvus(lambda: self._client.upsert(self.name, stored, timeout=_TIMEOUT_S))

    def delete(self, clip_keys: Sequence[str]) -> None:
        """Delete rows by key; missing keys are ignored."""
        for first in range(0, len(clip_keys), _PAGE):
            part = list(clip_keys[first : first + _PAGE])
            call_milvus(
                lambda part=part: self._client.delete(self.name, ids=part, timeout=_TIMEOUT_S)
            )

    def flush(self) -> None:
        """Seal the written segments, so that queries get faster."""
        call_milvus(lambda: self._client.flush(self.name, timeout=_TIMEOUT_S))

    def rows(
        self, fields: Sequence[str] = ("clip_key", "clip_id"), *, condition: str = ""
    ) -> Iterator[dict[str, Any]]:
        """These fields of every row that matches the condition."""
        iterator = call_milvus(
            lambda: self._client.query_iterator(
                self.name,
                batch_size=_PAGE,
                filter=condition,
                output_fields=list(fields),
                timeout=_TIMEOUT_S,
            )
        )
        try:
            while page := call_milvus(
                iterator.next
            ):  # continues by key after the last page: safe to retry
                yield from (plain_row(row) for row in page)
        finally:
            iterator.close()

    def rows_of_clips(
        self, clip_ids: Sequence[str], *, fields: Sequence[str] = (*ROW_FIELDS, "embedding")
    ) -> list[dict[str, Any]]:
        """The rows of these clip ids, in no order: one each, unless there are stale rows."""
        condition = f"clip_id in [{', '.join(map(quoted, clip_ids))}]"
        return self.some_rows(fields, condition=condition) if clip_ids else []

    def rows_of_keys(
        self, clip_keys: Sequence[str], fields: Sequence[str] = (*ROW_FIELDS, "embedding")
    ) -> list[dict[str, Any]]:
        """Whole rows with their vectors, or some of their fields, for those keys that exist."""
        rows = self._read(self._client.get, ids=list(clip_keys), output_fields=list(fields))
        return [plain_row(row) for row in rows]

    def nearest(
        self,
        vector_D: np.ndarray,
        *,
        limit: int,
        condition: str = "",
    ) -> list[tuple[float, dict[str, Any]]]:
        """(cosine, row) of the nearest clips that meet the condition, best first."""
        return self.nearest_many(vector_D[None], limit=limit, condition=condition)[0]

    def nearest_many(
        self,
        vectors_ND: np.ndarray,
        *,
        limit: int,
        condition: str = "",
        fields: Sequence[str] = ROW_FIELDS,
    ) -> list[list[tuple[float, dict[str, Any]]]]:
        """(cosine, row) of the nearest clips of each vector, best first; exact where the index is FLAT."""
        answers = self._read(
            self._client.search,
            data=list(vectors_ND.astype(self.vector_dtype)),
            anns_field="embedding",
            filter=condition,
            limit=limit,
            output_fields=list(fields),
            search_params=self._call_options.search_params(limit),
        )
        return [
            [(float(hit["distance"]), plain_row(hit["entity"])) for hit in hits] for hits in answers
        ]

    def index_type(self) -> str:
        """FLAT or HNSW, or "" without an index."""
        described = call_milvus(lambda: self._client.describe_index(self.name, "embedding"))
        return str((described or {}).get("index_type", "")).upper()

    def is_exact(self) -> bool:
        """Whether the index compares a query with every vector."""
        return self.index_type() == "FLAT"

    def some_rows(
        self, fields: Sequence[str], *, limit: int | None = None, condition: str = ""
    ) -> list[dict[str, Any]]:
        """At most `limit` rows that match the condition, in no order."""
        most = {} if limit is None else {"limit": limit}
        rows = self._read(self._client.query, filter=condition, output_fields=list(fields), **most)
        return [plain_row(row) for row in rows]

    def count(self, *, condition: str = "") -> int:
        """Number of rows that match the condition, duplicates of a key included."""
        return int(self.some_rows(["count(*)"], condition=condition)[0]["count(*)"])

    @cached_property
    def finds_inside_texts(self) -> bool:
        """Whether a condition can ask for a text inside of another; servers before 2.4 compare its beginning only."""
        try:
            self.some_rows(["clip_key"], limit=1, condition=contains("clip_id", "a"))
        except MilvusException as error:
            if error.code == _NOT_FOUND:
                raise
            return False
        return True

    def schema_of_copy(self) -> dict[str, Any]:
        """Arguments of `create_or_check` for a collection that takes the rows of this one."""
        described = self._describe()
        dims = [field["params"].get("dim") for field in described["fields"]]
        return {
            "encoder_id": encoder_of(described),
            "embedding_dim": int(next(dim for dim in dims if dim)),
            "vector_dtype": vector_dtype_of(described),
        }

    def replace_index(self, index_type: str, params: dict[str, Any]) -> None:
        """Drop the vector index and start building another; call `load` when it is built."""
        index = self._client.prepare_index_params()
        index.add_index("embedding", index_type=index_type, metric_type="COSINE", params=params)
        call_milvus(lambda: self._client.release_collection(self.name, timeout=_TIMEOUT_S))
        if self.index_type():  # none where the collection was interrupted while it was made
            call_milvus(lambda: self._client.drop_index(self.name, "embedding", timeout=_TIMEOUT_S))
        call_milvus(
            lambda: self._client.create_index(self.name, index, sync=False, timeout=_TIMEOUT_S)
        )

    def num_indexed(self) -> tuple[int, int]:
        """(number of indexed rows, number of rows)."""
        described = call_milvus(lambda: self._client.describe_index(self.name, "embedding")) or {}
        total = int(described.get("total_rows", 0))
        # Merged segments are counted twice: as indexed, by their parts, and as pending.
        return min(
            int(described.get("indexed_rows", 0)),
            total - int(described.get("pending_index_rows", 0)),
        ), total

    def load(self) -> None:
        """Load the collection into the memory of Milvus, so that it can be searched."""
        call_milvus(lambda: self._client.load_collection(self.name, timeout=600))

    def refresh(self) -> None:
        """Make imported rows searchable; a loaded collection does not see them by itself."""
        call_milvus(lambda: self._client.refresh_load(self.name, timeout=600))

    def _read(self, call: Callable[..., Any], **what: Any) -> Any:
        options = what | self._call_options.read_options()
        give_up = time.monotonic() + _SWAP_S
        while True:
            try:
                return call_milvus(lambda: call(self.name, **options), self._call_options.attempts)
            except MilvusException as error:
                # While the index is swapped, the name stands for nothing for some milliseconds.
                if error.code != _NOT_FOUND or time.monotonic() > give_up:
                    raise
            time.sleep(0.05)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


@contextmanager
def open_collection(
    uri: str, name: str, *, call_options: CallOptions | None = None
) -> Iterator[ClipCollection]:
    """Open a collection at any URI; a Milvus Lite folder is served while the block runs."""
    with serve_milvus(uri) as address:
        collection = ClipCollection(address, name, call_options=call_options)
        try:
            require_fixed_server(collection.pymilvus, address)
            yield collection
        finally:
            collection.close()


def encoder_of(described: dict[str, Any]) -> str | None:
    """The encoder id in the description of a collection, or None."""
    stored = dict(described.get("properties") or {}).get(_ENCODER_ID)
    matched = re.fullmatch(rf"{re.escape(_ENCODER_ID)}=(\S+)", described.get("description") or "")
    return stored or (matched.group(1) if matched else None)
