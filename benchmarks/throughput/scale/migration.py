"""Changing the encoder while people search: at every tenth of the way mAP@50 beside the better encoder's, and failed queries.

Clips go over in random order, which is harder than the most asked first. Both bundles must read the archive of the demo.
"""

import random
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from indexing.pipeline.config import IndexConfig
from indexing.pipeline.index_archive import index_archive
from indexing.search.client import SearchClient
from indexing.search.migration.compare_collections import (
    DECISIVE,
    EncodedCollection,
    ProbeQuery,
    answer_probes,
    read_probe_queries,
)
from indexing.search.migration.two_generations import TwoGenerations
from indexing.search.types import ComposedQuery
from indexing.store.aliases import open_catalog
from indexing.store.collection import ClipCollection, open_collection
from indexing.store.endpoint import serve_milvus

_ALIAS, _PRESENT, _WHOLE, _NEXT = "live", "present", "whole", "following"
_TENTHS = 10
_SPLIT = "test"
_GIVE_UP_S = 10.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """Change the encoder of a demo's archive, step by step."""

    demo: Path
    """Folder of a finished demo: its archive and its triplets."""
    out: Path
    """Folder for the two collections; the same command goes on with them."""
    present: Path
    """Exported bundle that is in use."""
    following: Path
    """Exported bundle that takes its place."""
    num_queries: int = 400
    """Evenly drawn from the test split."""


@dataclass(slots=True)
class Load:
    """What one caller saw who asked one query after the other."""

    num_queries: int = 0
    failed: list[str] = field(default_factory=list)
    latencies_s: list[float] = field(default_factory=list)


def measure(config: Config) -> dict[str, Any]:
    """`migration_min_share` first: the least mAP@50 on the way over that of the better encoder."""
    present = EncodedCollection(collection=_PRESENT, bundle_dir=config.present)
    following = EncodedCollection(collection=_NEXT, bundle_dir=config.following)
    for name, bundle in ((_PRESENT, config.present), (_WHOLE, config.following)):
        _index(config, name, bundle)
    probes = read_probe_queries(
        config.demo / "triplets.parquet", split=_SPLIT, num_queries=config.num_queries
    )
    with serve_milvus(str(config.out / "milvus")) as uri:
        alone = {}
        for name, bundle in ((_PRESENT, config.present), (_WHOLE, config.following)):
            with SearchClient(uri, name, bundle) as client:
                alone[name] = _map50(client, probes)
        rows = _rows_to_move(uri, config.following)
        with open_catalog(uri) as catalog:
            catalog.promote(_ALIAS, _PRESENT)
            client = TwoGenerations(uri, present, following, alias=_ALIAS)
            with client, open_collection(uri, _NEXT) as collection, _asked(client, probes) as load:
                curve = list(_map50_by_tenth(client, collection, rows, probes))
                promoted_s = _seconds_until(
                    client, "next", lambda: catalog.promote(_ALIAS, following.collection)
                )
                rollback_s = _seconds_until(client, "present", lambda: catalog.rollback(_ALIAS))
    better = max(alone.values())
    return {
        "migration_min_share": min(curve) / better,
        "failed_queries": len(load.failed),
        "rollback_s": rollback_s,
        "promote_s": promoted_s,
        "present_map50": alone[_PRESENT],
        "following_map50": alone[_WHOLE],
        "map50_by_tenth": curve,
        "queries_meanwhile": load.num_queries,
        "latency_ms": 1000 * float(np.median(load.latencies_s)),
        "first_failure": load.failed[0] if load.failed else "",
        "clips": len(rows),
        "queries": len(probes),
    }


def _index(config: Config, name: str, bundle: Path) -> None:
    index_archive(
        IndexConfig(
            bundle=bundle,
            clips=str(config.demo / "archive" / "clips.parquet"),
            milvus_uri=str(config.out / "milvus"),
            run_dir=config.out / name,
            collection=name,
        )
    )


def _rows_to_move(uri: str, bundle: Path) -> list[dict[str, Any]]:
    """All rows of the next encoder in random order, and an empty collection for them."""
    with (
        SearchClient(uri, _WHOLE, bundle) as whole,
        open_collection(uri, _NEXT) as collection,
    ):
        ids = [row["clip_id"] for row in whole.collection.rows(("clip_id",))]
        rows = [row for n in range(0, len(ids), 256) for row in whole.collection.rows_of_clips(ids[n : n + 256])]  # fmt: skip
        random.Random(0).shuffle(rows)  # Milvus gives those of a call in an order of its own
        collection.drop()
        collection.create_or_check(**whole.collection.schema_of_copy())
    return rows


def _map50(client: SearchClient, probes: Sequence[ProbeQuery]) -> float:
    return float(answer_probes(client, probes, _SPLIT)[DECISIVE].mean())


def _map50_by_tenth(
    client: TwoGenerations,
    collection: ClipCollection,
    rows: Sequence[dict[str, Any]],
    probes: Sequence[ProbeQuery],
) -> Iterator[float]:
    """Before the first tenth, and after each."""
    for tenth in range(_TENTHS + 1):
        if tenth:
            collection.upsert(
                rows[(tenth - 1) * len(rows) // _TENTHS : tenth * len(rows) // _TENTHS]
            )
        yield _map50(client, probes)


@contextmanager
def _asked(client: SearchClient, probes: Sequence[ProbeQuery]) -> Iterator[Load]:
    """Somebody asks on while the block runs."""
    load, stop = Load(), threading.Event()

    def ask() -> None:
        while not stop.is_set():
            probe = probes[load.num_queries % len(probes)]
            started = time.perf_counter()
            try:
                result = client.search_many(
                    [ComposedQuery(clip=probe.query_clip_id, edits=(probe.edit_text,))]
                )[0]
                if not result.hits:
                    load.failed.append("no hits")
            except Exception as error:  # noqa: BLE001 - each is counted
                load.failed.append(repr(error))
            load.latencies_s.append(time.perf_counter() - started)
            load.num_queries += 1

    thread = threading.Thread(target=ask, name="asks")
    thread.start()
    try:
        yield load
    finally:
        stop.set()
        thread.join()


def _seconds_until(client: TwoGenerations, generation: str, change: Any) -> float:
    """From the call of a change of the alias to the moment from which its answers come from the named generation."""
    started = time.perf_counter()
    change()
    while client.generation != generation:
        if time.perf_counter() - started > _GIVE_UP_S:
            raise TimeoutError(f"the client did not follow to {generation!r}")
        time.sleep(0.01)
    return time.perf_counter() - started
