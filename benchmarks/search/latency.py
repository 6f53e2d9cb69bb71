"""One client: over HTTP, in process, and bare pymilvus with the same vector, each turn of all three side by side."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks.search.load import Queries
from benchmarks.search.service import Reply, Service
from indexing.search.client import SearchClient
from indexing.search.collection_snapshot import DETAIL_FIELDS
from indexing.store.schema import ROW_FIELDS

_WARM_UP = 10
_LIMIT = 10


def latency(
    client: SearchClient, service: Service, queries: Queries, *, count: int
) -> dict[str, Any]:
    """Times in ms; `client` asks the same collection as the service, in the same way."""
    http = service.client()
    bare_ms: list[float] = []
    bare_vectors_ms: list[float] = []
    plain_ms: list[float] = []
    explained_ms: list[float] = []
    inside_ms: list[float] = []
    over_http: list[Reply] = []
    repeated: list[Reply] = []
    again = next(queries)
    clip = again["clip"]
    vector_D = client.clip_cache.vectors([clip])[0]  # known from here on
    _ = client.snapshot.reader, client.snapshot.is_exact
    for _ in range(count + _WARM_UP):
        query = next(queries)
        over_http.append(http.ask(query))
        query = next(queries)
        inside_ms.append(_ms(lambda q=query: client.search(clip=q["clip"], edit=q["edits"][0])))
        repeated.append(http.ask(again))
        bare_ms.append(_ms(lambda: _bare(client, vector_D, ROW_FIELDS)))
        plain_ms.append(_ms(lambda: client.search(clip=clip, limit=_LIMIT, explain=False)))
        bare_vectors_ms.append(_ms(lambda: _bare(client, vector_D, DETAIL_FIELDS)))
        explained_ms.append(_ms(lambda: client.search(clip=clip, limit=_LIMIT)))
    http.close()
    failed = [reply for reply in over_http + repeated if reply.status != 200]
    if failed:
        raise ValueError(f"the service answered {failed[0].status} to one client: {failed[0].body}")
    wall_ms = [1000 * reply.seconds for reply in over_http[_WARM_UP:]]
    repeated_ms = [1000 * reply.seconds for reply in repeated[_WARM_UP:]]
    parts = [dict(reply.body["timings_ms"]) for reply in over_http[_WARM_UP:]]
    served_ms = [sum(part.values()) for part in parts]
    p50 = float(np.median(wall_ms))
    bare, bare_vectors, plain, explained = (
        float(np.median(times_ms[_WARM_UP:]))
        for times_ms in (bare_ms, bare_vectors_ms, plain_ms, explained_ms)
    )
    return {
        "p50_ms_1": p50,
        "p99_ms_1": float(np.percentile(wall_ms, 99)),
        "repeated_p50_ms": float(np.median(repeated_ms)),
        "repeated_p99_ms": float(np.percentile(repeated_ms, 99)),
        "in_process_p50_ms": float(np.median(inside_ms[_WARM_UP:])),
        "bare_p50_ms": bare,
        "bare_with_vectors_p50_ms": bare_vectors,
        "same_vector_p50_ms": plain,
        "explained_p50_ms": explained,
        "client_overhead_ratio": plain / bare,
        "explained_overhead_ratio": explained / bare_vectors,
        "explained_over_bare_ratio": explained / bare,
        "http_extra_ms": p50 - float(np.median(inside_ms[_WARM_UP:])),
        "part_http_ms": float(np.median(np.array(wall_ms) - np.array(served_ms))),
        **{
            f"part_{name}_ms": float(np.median([part[name] for part in parts])) for name in parts[0]
        },
    }


def _bare(
    client: SearchClient, vector_D: np.ndarray, fields: Sequence[str]
) -> list[dict[str, Any]]:
    """What a program without this package would send, and read; the same ef, freshness and fields of a hit."""
    call_options = client.options.call_options
    answers = client.collection.pymilvus.search(
        client.collection.name,
        data=[vector_D],
        anns_field="embedding",
        limit=_LIMIT,
        output_fields=list(fields),
        search_params=call_options.search_params(_LIMIT),
        **call_options.read_options(),
    )
    return [dict(hit["entity"]) for hit in answers[0]]


def _ms(call: Callable[[], Any]) -> float:
    start_s = time.perf_counter()
    call()
    return (time.perf_counter() - start_s) * 1000
