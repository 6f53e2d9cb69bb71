"""Another index type for a collection that is in use: a copy is built beside it and takes over its name; no query fails.

Milvus has one index per field and serves nothing while it is replaced. The name of the collection becomes an alias of the copy, and
aliases of the collection go over too. Each step can be repeated after a crash.
"""

import logging
import re
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

from indexing.store.collection import STANDS_FOR, ClipCollection
from indexing.store.endpoint import serves_lite
from indexing.store.lease import Lease, LeaseBusyError, Protected, hold_lease, is_lease
from indexing.store.schema import ROW_FIELDS
from indexing.store.vector_index import (
    HnswIndex,
    IndexChoice,
    build_index,
    choose_index,
    wait_until_built,
)

logger = logging.getLogger(__name__)
_COPY_OF = "tfcovr.copy_of"
"""Property of a copy until the swap is over: the collection that it copies."""
_BATCH_ROWS = 512
_LAST_QUERIES_S = 5.0
_TIMEOUT_S = 60.0


def protected_collection(name: str, archive: str | None = None) -> Protected:
    """What a run that writes an archive into a collection excludes, and for None a change of the whole collection."""
    what = "" if not archive else f", archive {archive!r},"
    return Protected(
        whole=f"collection {name}",
        part=archive,
        busy=f"collection {name!r}{what} is being written",
    )


@contextmanager
def hold_collection(
    collection: ClipCollection, archive: str, *, encoder_id: str
) -> Iterator[Lease]:
    """Be the only writer of the archive in the collection while the block runs; LeaseBusyError where another process is."""
    while True:
        name = collection.name
        with hold_lease(collection.address, protected_collection(name, archive)) as lease:
            collection.check(encoder_id=encoder_id)
            if collection.name == name:  # else its index was swapped before it was held
                yield lease
                return


def ensure_index(
    collection: ClipCollection, choice: IndexChoice, *, is_lite: bool, lease: Lease | None = None
) -> str:
    """Change the index where the collection has another than it should; returns the index type.

    `lease` is the one that this process holds on the collection. While another process writes to a collection of a server, its index
    stays as it is; a later run changes it.
    """
    is_served = not serves_lite(collection.address)
    if lease is not None and is_served:
        _drop_leftovers(collection)  # no swap is under way: it would exclude this process
    current = collection.index_type()
    index_type = choose_index(choice, collection.count(), is_lite=is_lite, current=current)
    if index_type != current:
        if not is_served:
            build_index(collection, HnswIndex() if index_type == "HNSW" else None)
        else:
            try:
                swap_index(collection, index_type, lease=lease)
            except LeaseBusyError as error:
                logger.warning("the index stays %s for now: %s", current, error)
                return current
    elif index_type == "HNSW" and is_served:
        wait_until_built(collection)
    return index_type


def swap_index(collection: ClipCollection, index_type: str, *, lease: Lease | None = None) -> None:
    """Replace the collection by a copy with this index; LeaseBusyError where another process writes to it."""
    name = collection.name
    with hold_lease(collection.address, protected_collection(name), beside=lease) as held:
        copy = ClipCollection(collection.address, f"{name[:200]}_{index_type.lower()}_{_random()}")
        try:
            copy.create_or_check(**collection.schema_of_copy(), index_type=index_type)
            copy.set_properties(collection.properties() | {_COPY_OF: name})
            _copy_rows(collection, copy)
            held.check()
            _take_over(collection, copy)
        finally:
            copy.close()


def _copy_rows(source: ClipCollection, copy: ClipCollection) -> None:
    """OSError, with the source as it was, where the copy does not hold the same rows afterwards."""
    rows = source.rows((*ROW_FIELDS, "embedding"))
    while batch := list(islice(rows, _BATCH_ROWS)):
        copy.upsert(batch)
    copy.flush()
    wait_until_built(copy)
    copy.load()
    keys = [
        sorted(row["clip_key"] for row in collection.rows(["clip_key"]))
        for collection in (source, copy)
    ]
    if sorted(set(keys[0])) != keys[1]:
        raise OSError(
            f"the copy {copy.name!r} of {source.name!r} has {len(keys[1])} of {len(keys[0])} rows; run the same command again"
        )


def _take_over(collection: ClipCollection, copy: ClipCollection) -> None:
    client: Any = collection.pymilvus
    name, retired = collection.name, f"{collection.name[:200]}_retired_{_random()}"
    aliases = client.list_aliases(name, timeout=_TIMEOUT_S)["aliases"]
    copy.set_properties({STANDS_FOR: name})
    client.rename_collection(name, retired, timeout=_TIMEOUT_S)
    client.create_alias(copy.name, name, timeout=_TIMEOUT_S)
    for alias in aliases:
        client.alter_alias(copy.name, alias, timeout=_TIMEOUT_S)
    collection.name = copy.name
    time.sleep(_LAST_QUERIES_S)  # of clients that asked before
    _drop_leftovers(collection)


def _drop_leftovers(collection: ClipCollection) -> None:
    """Drop what a swap leaves: the collection before it, or a copy that was not finished. Aliases of them go over to the collection."""
    client: Any = collection.pymilvus
    names = [collection.name, *client.list_aliases(collection.name, timeout=_TIMEOUT_S)["aliases"]]
    retired = re.compile(
        rf"({'|'.join(re.escape(name[:200]) for name in names)})_retired_[0-9a-f]{{8}}"
    )
    for name in client.list_collections(timeout=_TIMEOUT_S):
        if is_lease(name):
            continue
        other = ClipCollection(collection.address, name)
        try:
            is_copy = other.properties().get(_COPY_OF) in names and name != collection.name
            if is_copy or retired.fullmatch(name):
                for alias in client.list_aliases(name, timeout=_TIMEOUT_S)["aliases"]:
                    client.alter_alias(collection.name, alias, timeout=_TIMEOUT_S)
                other.drop()
        finally:
            other.close()
    if collection.properties().get(_COPY_OF):
        collection.set_properties({_COPY_OF: "", STANDS_FOR: ""})


def _random() -> str:
    return uuid.uuid4().hex[:8]
