"""Bulk import: a Milvus server reads the rows of a first load from Parquet files.

An import does not replace existing rows, so a part that is imported twice would be stored twice. Each part is therefore requested
once: its name is written to the run folder before the request and removed when its rows are in; a resumed run waits for it first.
"""

import json
import logging
import time
import uuid
import warnings
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
from pymilvus import BulkInsertState, connections, utility

from cluster.storage import write_atomic
from encoders.files import from_dict, read_json
from indexing.sources.remote import SourceGoneError, object_storage
from indexing.sources.uris import is_remote, public_uri
from indexing.store.client import call_milvus
from indexing.store.collection import ClipCollection
from indexing.store.endpoint import split_token

logger = logging.getLogger(__name__)
MARKER = "bulk_import.json"
_PART_BYTES = 64 << 20
_TIMEOUT_S = 60.0
_POLL_S = 0.25
_STALLED_S = 3600.0
_ENDED = (
    BulkInsertState.ImportCompleted,
    BulkInsertState.ImportFailed,
    BulkInsertState.ImportFailedAndCleaned,
)
warnings.filterwarnings("ignore", message=".*is an ORM-style PyMilvus API")  # there is no other


class BulkImportError(OSError):
    """The server could not import a part; none of its rows are stored."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Part:
    """One Parquet file, as written here and as read by the server."""

    collection: str
    place: str
    """Folder or bucket, as given by the user."""
    name: str

    @property
    def server_path(self) -> str:
        """Absolute path for a server with local storage, or the key in the bucket of the server."""
        if not is_remote(self.place):
            return str(Path(self.place).resolve() / self.name)
        _filesystem, path = object_storage(f"{self.place.rstrip('/')}/{self.name}")
        return path.partition("/")[2]

    def write(self, table: pa.Table) -> None:
        filesystem, path = self._open()
        filesystem.create_dir(path.rpartition("/")[0])
        pq.write_table(table, path, filesystem=filesystem)

    def delete(self) -> None:
        filesystem, path = self._open()
        if filesystem.get_file_info(path).type != pafs.FileType.NotFound:
            filesystem.delete_file(path)

    def _open(self) -> tuple[pafs.FileSystem, str]:
        if is_remote(self.place):
            return object_storage(f"{self.place.rstrip('/')}/{self.name}")
        return pafs.LocalFileSystem(), self.server_path


def rows_per_part(embedding_dim: int) -> int:
    """Number of rows of one import: enough to amortize its fixed cost, few enough that an interruption costs little."""
    return max(_PART_BYTES // (4 * embedding_dim), 1)


def finish_earlier_import(collection: ClipCollection, run_dir: Path) -> None:
    """Wait for the import that an interrupted run of this folder left, if any."""
    if (run_dir / MARKER).exists():
        with closing(BulkImport(collection, run_dir)) as importer:
            importer.finish_earlier()


class BulkImport:
    """Imports of one run into one collection of a server (Milvus Lite does not support imports)."""

    def __init__(self, collection: ClipCollection, run_dir: Path) -> None:
        self._collection = collection
        self._marker = run_dir / MARKER
        self._alias = f"tfcovr-{uuid.uuid4().hex}"
        uri, token = split_token(collection.address)
        call_milvus(
            lambda: connections.connect(self._alias, uri=uri, token=token, timeout=_TIMEOUT_S)
        )

    def close(self) -> None:
        """Close the connection."""
        connections.disconnect(self._alias)

    def load(self, rows: Sequence[dict[str, Any]], place: str) -> None:
        """Import rows and wait until they can be searched; none of their keys may be in the collection before."""
        part = _Part(collection=self._collection.name, place=place, name=f"{uuid.uuid4().hex}.parquet")  # fmt: skip
        write_atomic(self._marker, json.dumps(asdict(part) | {"place": public_uri(place)}))
        part.write(_table(rows))
        call_milvus(lambda: self._request_once(part))
        state = self._wait(part)
        self._forget(part)
        if state is None or state.state != BulkInsertState.ImportCompleted:
            reason = "the server does not know the import" if state is None else state.failed_reason
            raise BulkImportError(
                f"Milvus did not import {part.server_path!r}: {reason}; the server must read {public_uri(place)!r} itself, "
                "a folder under the same path or its own bucket"
            )
        self._collection.refresh()

    def finish_earlier(self) -> None:
        """Wait for the import that the marker names, whether or not the server received it."""
        part = from_dict(_Part, read_json(self._marker), str(self._marker))
        state = self._wait(part)
        self._forget(part)
        if state is not None:
            self._collection.refresh()

    def _request_once(self, part: _Part) -> None:
        """Safe to retry after a broken connection: the request is sent only where the server does not know the part."""
        if self._state_of(part) is None:
            utility.do_bulk_insert(
                part.collection, [part.server_path], using=self._alias, timeout=_TIMEOUT_S, retry_times=0
            )  # fmt: skip

    def _wait(self, part: _Part) -> BulkInsertState | None:
        """Wait until the import has ended; None where the server never received it.

        BulkImportError when it makes no progress for a while; the marker stays, so that a later run waits for it again.
        """
        seen, since_s = None, time.monotonic()
        while (state := call_milvus(lambda: self._state_of(part))) is not None:
            if state.state in _ENDED:
                return state
            if (now := (state.state, state.progress)) != seen:
                seen, since_s = now, time.monotonic()
            if time.monotonic() - since_s > _STALLED_S:
                raise BulkImportError(
                    f"Milvus has stood at {state.progress}% of importing {part.server_path!r} for {_STALLED_S / 60:g} minutes; see "
                    "its log, then run the same command again"
                )
            time.sleep(_POLL_S)
        return None

    def _state_of(self, part: _Part) -> BulkInsertState | None:
        tasks = utility.list_bulk_insert_tasks(
            collection_name=part.collection, using=self._alias, timeout=_TIMEOUT_S
        )
        return next((task for task in tasks if part.name in str(task.files)), None)

    def _forget(self, part: _Part) -> None:
        try:
            part.delete()
        except (OSError, SourceGoneError) as error:
            # Its rows are stored or refused; a file that is left only takes space.
            logger.warning("%s cannot be deleted: %s", part.server_path, error)
        self._marker.unlink(missing_ok=True)


def _table(rows: Sequence[dict[str, Any]]) -> pa.Table:
    """One column per field of the collection, in Milvus's types."""
    columns: dict[str, pa.Array] = {}
    for name in rows[0]:
        values = [row[name] for row in rows]
        if name == "attributes":
            columns[name] = pa.array([json.dumps(value, sort_keys=True) for value in values])
        elif name == "embedding":
            vectors_ND = np.asarray(values, np.float32)
            columns[name] = pa.ListArray.from_arrays(
                np.arange(len(rows) + 1, dtype=np.int32) * vectors_ND.shape[1], vectors_ND.ravel()
            )
        else:
            columns[name] = pa.array(values)
    return pa.table(columns)
