"""Vector index of a collection: FLAT (exact, the default) or HNSW (approximate, fast for large collections)."""

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from indexing.store.collection import ClipCollection

IndexChoice = Literal["auto", "flat", "hnsw"]
VectorDtype = Literal["float32", "float16"]
_EXACT_UP_TO = 100_000
_STALLED_S = 3600.0


@dataclass(frozen=True, kw_only=True, slots=True)
class HnswIndex:
    """Parameters of an HNSW index; the recall of a search depends on its `ef`."""

    m: int = 16
    """Number of neighbours of a vector in the graph."""
    ef_construction: int = 200
    """Number of candidates for them while the graph is built."""

    def __post_init__(self) -> None:
        if not (2 <= self.m <= 2048 and self.m <= self.ef_construction <= 4096):
            raise ValueError(f"m is {self.m} (2 to 2048), ef_construction {self.ef_construction} (m to 4096)")  # fmt: skip


def build_index(
    collection: "ClipCollection", index: HnswIndex | None, *, wait: bool = True
) -> None:
    """Replace the index (None = FLAT). The collection cannot be searched until it is built: for collections that nobody uses yet."""
    if index is None:
        collection.replace_index("FLAT", {})
    else:
        params = {"M": index.m, "efConstruction": index.ef_construction}
        collection.replace_index("HNSW", params)
    if wait:
        wait_until_built(collection)
        collection.load()


def wait_until_built(collection: "ClipCollection") -> None:
    """TimeoutError where the server makes no progress for a while: an index that failed is never completed."""
    most, since_s = -1, time.monotonic()
    while True:
        num_indexed, num_rows = collection.num_indexed()
        if num_indexed >= num_rows:
            return
        if num_indexed > most:
            most, since_s = num_indexed, time.monotonic()
        if time.monotonic() - since_s > _STALLED_S:
            raise TimeoutError(
                f"the index of {collection.name!r} has had {num_indexed} of {num_rows} rows for {_STALLED_S / 60:g} minutes; see "
                "the server's log, then run the same command again"
            )
        time.sleep(1)


def choose_index(
    choice: IndexChoice, num_rows: int, *, is_lite: bool, current: str = ""
) -> Literal["FLAT", "HNSW"]:
    """The index type for a number of rows. `auto` is exact while that is fast, keeps a graph that is there (`current`), and is always
    exact for Milvus Lite, which would rebuild the graph at every start."""
    if choice == "auto":
        is_large = num_rows > _EXACT_UP_TO or current == "HNSW"
        return "HNSW" if is_large and not is_lite else "FLAT"
    return "HNSW" if choice == "hnsw" else "FLAT"


def index_params(index_type: str) -> dict[str, Any]:
    """What `add_index` takes for an index type."""
    graph = HnswIndex()
    params = {"M": graph.m, "efConstruction": graph.ef_construction} if index_type == "HNSW" else {}
    return {"index_type": index_type, "metric_type": "COSINE", "params": params}
