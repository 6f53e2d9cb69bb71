"""A Ray Data sink for clip vectors: `dataset.write_datasink(sink)` upserts each row by its key.

The key follows from the content, so a task that Ray runs again, or a whole write that is run again, stores nothing twice. `tfcovr
index` streams its rows through a stage of its own (`write.WriteStage`): the ledger and the deletion of old rows need each outcome
as it comes, and a sink speaks when all is over.
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any

import numpy as np
from ray.data import Datasink
from ray.data.block import Block, BlockAccessor
from ray.data.datasource import WriteResult

from indexing.store.client import require_fixed_server
from indexing.store.collection import ClipCollection
from indexing.store.endpoint import serve_milvus
from indexing.store.rows import checked_vector, clip_key, stored_end_s
from indexing.store.schema import ROW_FIELDS, VectorDtype

_BATCH_ROWS = 512


class MilvusDatasink(Datasink[int]):
    """Rows of clips with their vectors, into a collection that is there.

    Columns: `clip_id`, `video_uri`, `embedding` (unit length) and either `clip_key` or `content_hash`, of which the key is made;
    where they are left out, `vector_length` (the vector's before) is 1, `start_s` 0, `end_s` (None or NaN too) the end of the video, `attributes` (a map, or one as JSON)
    and the texts `label`, `split`, `backend` and `precision` empty. Fails with ValueError for a row that is none, before anything
    of its block is written, and with EncoderMismatchError for a collection of another encoder.
    """

    def __init__(self, address: str, collection: str, *, encoder_id: str) -> None:
        self._address = address
        self._collection = collection
        self._encoder_id = encoder_id
        self.num_written = 0
        """Rows of the last write; known when it is over."""
        self.num_stored = 0
        """Rows that the collection held after it."""

    @property
    def min_rows_per_write(self) -> int:
        """Ray Data puts so many into one task where it can: each connects once."""
        return _BATCH_ROWS

    def write(self, blocks: Iterable[Block], ctx: Any) -> int:
        """One task of Ray's; the number of rows that are in the collection when it returns."""
        num_written = 0
        with self._open() as collection:
            for block in blocks:
                values = BlockAccessor.for_block(block).to_arrow().to_pylist()
                rows = [self._row(value) for value in values]
                for first in range(0, len(rows), _BATCH_ROWS):
                    collection.upsert(rows[first : first + _BATCH_ROWS])
                num_written += len(rows)
        return num_written

    def on_write_complete(self, write_result: WriteResult[int]) -> None:
        """Seals what was written and counts the collection."""
        with self._open() as collection:
            collection.flush()
            self.num_stored = collection.count()
        self.num_written = sum(write_result.write_returns)

    @contextmanager
    def _open(self) -> Iterator[ClipCollection]:
        with closing(ClipCollection(self._address, self._collection)) as collection:
            collection.check(encoder_id=self._encoder_id)
            yield collection

    def _row(self, values: Mapping[str, Any]) -> dict[str, Any]:
        for name in ("clip_id", "video_uri", "embedding"):
            if values.get(name) is None:
                raise ValueError(f"column {name!r} is missing in a row with {sorted(values)}")
        clip_id, start_s = str(values["clip_id"]), float(values.get("start_s") or 0.0)
        end_s = values.get("end_s")
        end_s = None if end_s is None or math.isnan(end_s) else float(end_s)  # pandas: NaN
        texts = {name: str(values.get(name) or "") for name in ROW_FIELDS}
        return texts | {
            "clip_key": texts["clip_key"] or self._key(values, clip_id, start_s, end_s),
            "start_s": start_s,
            "end_s": stored_end_s(end_s),
            "attributes": _attributes(values.get("attributes")),
            "embedding": checked_vector(np.asarray(values["embedding"], np.float64), clip_id).tolist(),
            "vector_length": float(values.get("vector_length") or 1.0),
        }  # fmt: skip

    def _key(
        self, values: Mapping[str, Any], clip_id: str, start_s: float, end_s: float | None
    ) -> str:
        content_hash = values.get("content_hash")
        if not content_hash:
            raise ValueError(
                f"clip {clip_id!r} has neither clip_key nor content_hash; one of them must say which content its vector stands for"
            )
        return clip_key(self._encoder_id, clip_id, str(content_hash), start_s, end_s)


@contextmanager
def open_datasink(
    milvus_uri: str,
    collection: str,
    *,
    encoder_id: str,
    embedding_dim: int,
    vector_dtype: VectorDtype = "float32",
    index_type: str = "FLAT",
) -> Iterator[MilvusDatasink]:
    """A sink to a collection that is made where there is none; a Milvus Lite folder is served to Ray's tasks meanwhile.

    Milvus Lite takes one writer: `dataset.write_datasink(sink, concurrency=1)`.
    """
    with serve_milvus(milvus_uri) as address:
        with closing(ClipCollection(address, collection)) as opened:
            require_fixed_server(opened.pymilvus, address)
            opened.create_or_check(
                encoder_id=encoder_id,
                embedding_dim=embedding_dim,
                vector_dtype=vector_dtype,
                index_type=index_type,
            )
        yield MilvusDatasink(address, collection, encoder_id=encoder_id)


def _attributes(attributes: Any) -> dict[str, str]:
    """A map column of Arrow comes as pairs, and a struct column with None for what a row does not have."""
    if isinstance(attributes, str):
        attributes = json.loads(attributes)
    return {
        str(name): str(value) for name, value in dict(attributes or {}).items() if value is not None
    }
