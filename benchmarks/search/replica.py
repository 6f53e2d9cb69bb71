"""One replica of the service while its archive grows: resident memory, and the share of labels and attribute values that it lists.

Rows are made up, with random vectors as wide as those of a bundle, in a Milvus server of this machine with a graph as its index.
"""

import hashlib
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.search.scale import say
from encoders.bundle.card import read_card
from indexing.search.client import SearchClient
from indexing.serving.batching import BatcherConfig, QueryBatcher
from indexing.store import dev_server
from indexing.store.collection import open_collection
from indexing.store.vector_index import HnswIndex, build_index

_CHUNK = 2000
_GIVE_UP_S = 3600.0
_NUM_QUERIES, _NUM_EXACT = 64, 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """Open a replica over a small and a large archive."""

    bundle: Path = Path("runs/demo/stage2/bundle")
    """Bundle whose queries are asked."""
    sizes: tuple[int, int] = (10_000, 1_000_000)
    """Rows of the small archive and of the large one."""
    num_values: int = 30_000
    """Labels of the large archive, and values of its attribute; the small one has at most one for each row."""

    def __post_init__(self) -> None:
        if not 1000 <= self.sizes[0] < self.sizes[1]:
            raise ValueError(f"sizes is {self.sizes}; give two, at least 1000, the small one first")
        if not 1 <= self.num_values <= self.sizes[1]:
            raise ValueError(f"num_values is {self.num_values}; it must be 1 to {self.sizes[1]}")


def measure(config: Config) -> dict[str, Any]:
    """Memory over memory, and listed over all; each replica runs in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        uri = dev_server.start(Path(folder))
        try:
            small, large = (_measure_size(config, uri, num_rows) for num_rows in config.sizes)
        finally:
            dev_server.stop(Path(folder))
    return {
        "replica_memory_ratio_1m_over_10k": large["resident_bytes"] / small["resident_bytes"],
        "labels_listed_share": min(large["labels"], large["values"]) / config.num_values,
        "by_size": {str(config.sizes[0]): small, str(config.sizes[1]): large},
    }


def _measure_size(config: Config, uri: str, num_rows: int) -> dict[str, float]:
    name = f"replica_{num_rows}"
    card = read_card(config.bundle)
    with open_collection(uri, name) as collection:
        collection.create_or_check(encoder_id=card.encoder_id, embedding_dim=card.embedding_dim)
        for rows in _rows(num_rows, card.embedding_dim, config.num_values):
            collection.upsert(rows)
        collection.flush()
        say(f"{num_rows} rows are in")
        build_index(collection, HnswIndex())
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        figures = pool.submit(_replica, str(config.bundle), uri, name).result()
    with open_collection(uri, name) as collection:
        collection.drop()
    return figures


def _rows(num_rows: int, dim: int, num_values: int) -> Iterator[list[dict[str, Any]]]:
    rng = np.random.default_rng(0)
    for first in range(0, num_rows, _CHUNK):
        vectors_ND = rng.normal(size=(min(_CHUNK, num_rows - first), dim)).astype(np.float32)
        vectors_ND /= np.linalg.norm(vectors_ND, axis=1, keepdims=True)
        yield [
            {
                "clip_key": hashlib.sha256(str(n).encode()).hexdigest()[:32], "clip_id": f"clip-{n}", "video_uri": f"/videos/{n}.mp4",
                "label": f"label-{n % num_values}", "split": "test", "backend": "onnx", "precision": "float32", "start_s": 0.0,
                "end_s": 1.0, "attributes": {"shot": f"shot-{n % num_values}"}, "embedding": vector_D.tolist(),
            }
            for n, vector_D in enumerate(vectors_ND, start=first)
        ]  # fmt: skip


def _replica(bundle: str, uri: str, name: str) -> dict[str, float]:
    """As the service opens one: warm, all values counted, some queries answered, a few of them exactly."""
    with SearchClient(uri, name, bundle) as client:
        QueryBatcher(client, BatcherConfig()).warm_up()
        started_s = time.monotonic()
        while not client.snapshot.facts.is_complete:
            if time.monotonic() > started_s + _GIVE_UP_S:
                raise TimeoutError(f"the values were not counted in {_GIVE_UP_S:g} s")
            time.sleep(1)
        counted_s = time.monotonic() - started_s
        exact_s = 0.0
        for number in range(_NUM_QUERIES):
            is_exact, asked_s = number < _NUM_EXACT, time.monotonic()
            client.search(clip=f"clip-{number}", exact=is_exact)
            exact_s += is_exact * (time.monotonic() - asked_s) / _NUM_EXACT
        facts = client.snapshot.facts
        status = Path("/proc/self/status").read_text()
        return {
            "resident_bytes": 1024.0 * int(status.partition("VmRSS:")[2].split()[0]),
            "labels": float(len(facts.labels)),
            "values": float(len(facts.attributes.get("shot", ()))),
            "counted_s": counted_s,
            "exact_query_s": exact_s,
        }
