"""Copy of a collection with its vectors to another Milvus, such as from a folder to a server, without embedding again.

Resumable: only rows that are missing or differ are copied, so the same command continues after an interruption and updates a copy.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pymilvus.exceptions import MilvusException
from rich.console import Console

from cluster.dataflow import Stage, write_dataflow
from cluster.progress import progress_bar
from cluster.ray_session import ray_session
from cluster.storage import require_shared
from indexing.sources.uris import public_uri
from indexing.store.aliases import StoredCollection, open_catalog
from indexing.store.client import MilvusBusyError
from indexing.store.collection import ARCHIVE, ClipCollection, open_collection
from indexing.store.endpoint import is_lite
from indexing.store.schema import ROW_FIELDS, VectorDtype
from indexing.store.transfer.datasink import MilvusDatasink, open_datasink
from indexing.store.transfer.index_swap import ensure_index
from indexing.store.vector_index import IndexChoice, choose_index

_BATCH_ROWS = 512


@dataclass(frozen=True, kw_only=True, slots=True)
class CopyPlan:
    """Source and target of a copy."""

    milvus_uri: str
    collection: str
    """Collection to copy, or an alias of it."""
    to_milvus_uri: str
    to_collection: str = ""
    """Name of the copy; "" = the name of the source."""
    index: IndexChoice = "auto"
    vector_dtype: VectorDtype | Literal["same"] = "same"


@dataclass(frozen=True, kw_only=True, slots=True)
class CopyReport:
    """Result of a copy."""

    collection: str
    to_collection: str
    encoder_id: str
    num_rows: int
    """Number of rows of the source, all of which are in the copy now."""
    num_copied: int
    num_extra: int
    """Number of rows that only the copy has; they are kept."""
    index: str


def copy_collection(plan: CopyPlan, *, console: Console | None = None) -> CopyReport:
    """Copy a collection. Raises like `tfcovr index` where the collection or Milvus is missing or the encoder differs."""
    with ray_session() as session:  # first: Ray forks, which is not safe once gRPC has threads
        for uri in (plan.milvus_uri, plan.to_milvus_uri):
            require_shared(
                uri, num_nodes=session.num_nodes, what="the Milvus URI", needed="http://HOST:19530"
            )
        stored = _stored(plan)
        to_name = plan.to_collection or stored.name
        if (_place(plan.to_milvus_uri), to_name) == (_place(plan.milvus_uri), stored.name):
            raise ValueError(
                f"collection {to_name!r} would be copied onto itself; give another --to-collection"
            )
        with open_collection(plan.milvus_uri, stored.name) as source:
            source.check(encoder_id=stored.encoder_id)
            sink = open_datasink(
                plan.to_milvus_uri,
                to_name,
                encoder_id=stored.encoder_id,
                embedding_dim=stored.embedding_dim,
                vector_dtype=(
                    source.vector_dtype if plan.vector_dtype == "same" else plan.vector_dtype
                ),
                index_type=choose_index(
                    plan.index, source.count(), is_lite=is_lite(plan.to_milvus_uri)
                ),
            )
            with sink as opened, open_collection(plan.to_milvus_uri, to_name) as target:
                archives = _archives(source, target)
                to_lite = is_lite(plan.to_milvus_uri)
                num_writers = 1 if to_lite else max(int(session.num_cpus), 1)
                moved = _Copying(
                    source, target, opened, num_writers, console or Console(quiet=True)
                )
                num_rows, num_copied, num_extra = moved.run()
                target.set_properties(archives)
                index = ensure_index(target, plan.index, is_lite=to_lite)
    return CopyReport(
        collection=stored.name,
        to_collection=to_name,
        encoder_id=stored.encoder_id,
        num_rows=num_rows,
        num_copied=num_copied,
        num_extra=num_extra,
        index=index,
    )


@dataclass(frozen=True, slots=True)
class _Copying:
    source: ClipCollection
    target: ClipCollection
    sink: MilvusDatasink
    num_writers: int
    console: Console

    def run(self) -> tuple[int, int, int]:
        """(rows of the source, rows copied, rows that only the target has)."""
        expected, before = _facts(self.source), _facts(self.target)
        keys = [key for key, facts in expected.items() if before.get(key) != facts]
        read = Stage(
            name="read",
            factory=_ReadStage,
            arguments={"address": self.source.address, "collection": self.source.name},
            num_cpus=0.0,
            batch_size=_BATCH_ROWS,
        )
        num_before = len(before)
        with progress_bar(
            "copying",
            len(keys),
            console=self.console,
            poll=lambda: (self.target.count() - num_before, ""),
            poll_errors=(MilvusBusyError, MilvusException, OSError),
        ):
            rows = [{"clip_key": key} for key in keys]
            write_dataflow(rows, [read], self.sink, num_writers=self.num_writers)
        after = _facts(self.target)
        lost = [key for key in keys if after.get(key) != expected[key]]
        if lost:
            raise OSError(
                f"{len(lost)} of {len(keys)} rows did not arrive in {self.target.name!r}, first: {lost[:3]}; "
                "run the same command again"
            )
        return len(expected), len(keys), len(after.keys() - expected.keys())


def _archives(source: ClipCollection, target: ClipCollection) -> dict[str, str]:
    """The properties that record the archives of the source. ValueError where the target holds another archive of the same name."""
    there, archives = target.archives(), source.archives()
    for name, place in archives.items():
        if there.get(name, place) != place:
            raise ValueError(
                f"archive {name!r} of {source.name!r} is {place!r}, and that of {target.name!r} is "
                f"{there[name]!r}; give another --to-collection"
            )
    return {f"{ARCHIVE}{name}": place for name, place in archives.items()}


def _place(uri: str) -> str:
    """A canonical form of a URI."""
    return str(Path(uri).resolve()) if is_lite(uri) else public_uri(uri).rstrip("/")


def _stored(plan: CopyPlan) -> StoredCollection:
    with open_catalog(plan.milvus_uri) as catalog:
        stored = catalog.stored(catalog.target(plan.collection) or plan.collection)
    if not stored.encoder_id:
        raise ValueError(f"collection {stored.name!r} was not made by `tfcovr index`")
    return stored


class _ReadStage:
    """Keys in, whole rows out."""

    def __init__(self, *, address: str, collection: str) -> None:
        self._collection = ClipCollection(address, collection)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        rows = self._collection.rows_of_keys([str(key) for key in batch["clip_key"]])
        columns = {name: np.array([row[name] for row in rows]) for name in ROW_FIELDS if name != "attributes"}  # fmt: skip
        columns["attributes"] = np.array([json.dumps(row["attributes"]) for row in rows])
        columns["embedding"] = np.array([row["embedding"] for row in rows], np.float64)
        columns["vector_length"] = np.array([row.get("vector_length", 1.0) for row in rows])
        return columns


def _facts(collection: ClipCollection) -> dict[str, str]:
    """All fields of each row except its vector, as JSON by key; the key identifies the vector."""
    return {
        row["clip_key"]: json.dumps({name: row[name] for name in ROW_FIELDS}, sort_keys=True)
        for row in collection.rows(ROW_FIELDS)
    }
