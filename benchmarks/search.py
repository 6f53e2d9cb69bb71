"""How fast and how honest are composed queries on an indexed archive? In process, over HTTP, and what `exclude` and abstention do.

The service runs in this process without Ray; load, recovery and the 200,000-vector archive are not measured here.
"""

import json
import random
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from benchmarks.harness import write_record
from benchmarks.search_hostile import Hostile, Reply, hostile_requests, try_all
from encoders.metrics import mean_average_precision_at_k
from indexing.query_abstain import AbstainThreshold, CalibrateConfig, calibrate
from indexing.search import ComposedQuery, SearchClient, SearchOptions
from training.annotations.triplets import Triplet, read_triplets

TOKEN = "benchmark"
_WARM_UP = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchBenchmark:
    """Measure an indexed archive, such as the demo's; the Milvus Lite folder must not be open elsewhere."""

    bundle_dir: Path
    milvus_uri: str
    triplets: Path
    out_dir: Path
    """The abstention threshold goes here."""
    num_queries: int = 200
    num_clients: int = 8
    port: int = 8377
    record: bool = False
    """Write the record; for a quiet machine."""


def distinct_texts(count: int) -> list[str]:
    """Edit texts of which no two are equal, so that no cache answers."""
    return [f"with {i % 9}.5 twists and {i % 7} somersaults, take {i}" for i in range(count)]


def exclude_cut(client: SearchClient, triplets: Sequence[Triplet], *, count: int) -> dict[str, Any]:
    """Share of an excluded value among 10 hits, with and without `exclude`, where it was at least 30 %.

    Value and attribute come from the labels, never from the head that the exclusion uses.
    """
    values = {n: v for n, v in client.archive.fields.attributes.items() if len(v) > 1}
    drawn = random.Random(0).sample(list(triplets), min(count, len(triplets)))
    before, after = [], []
    for triplet in drawn:
        plain = client.search(clip=triplet.query_clip_id, edit=triplet.edit_text)
        for name in values:
            shown = [hit.attributes.get(name, "") for hit in plain.hits]
            value = max(sorted(set(shown)), key=shown.count)
            share = shown.count(value) / len(shown)
            text = f"{value} {name.replace('_', ' ')}" if value[:1].isdigit() else value
            if share < 0.3 or value in ("yes", "no"):
                continue
            other = client.search(clip=triplet.query_clip_id, edit=triplet.edit_text, exclude=text)
            before.append(share)
            after.append(np.mean([hit.attributes.get(name) == value for hit in other.hits]))
    return {"exclude_cut": float(1 - np.sum(after) / np.sum(before)), "exclude_pairs": len(before)}


def latency(client: SearchClient, triplets: Sequence[Triplet], address: str, config: SearchBenchmark) -> dict[str, Any]:  # fmt: skip
    """One client in process, bare Milvus with the same vector, one and several clients over HTTP."""
    count = config.num_queries
    texts = iter(distinct_texts(4 * count + 50))
    clips = [triplet.query_clip_id for triplet in triplets]

    def timed(call: Any) -> list[float]:
        taken_ms = []
        for number in range(count + _WARM_UP):
            clip, text = clips[number % len(clips)], next(texts)
            start_s = time.perf_counter()
            call(clip, text)
            taken_ms.append((time.perf_counter() - start_s) * 1000)
        return taken_ms[_WARM_UP:]

    vector_D = np.asarray(client.archive.samples[0])
    bare = [_time_ms(lambda: client.collection.nearest(vector_D, limit=10)) for _ in range(count)]
    cached = [_time_ms(lambda: client.search(clip=clips[0], limit=10)) for _ in range(count)]
    inside = timed(lambda clip, text: client.search(clip=clip, edit=text))
    over_http = timed(lambda clip, text: ask_http(address, {"clip": clip, "edits": [text]}))
    pairs = [(clips[i % len(clips)], next(texts)) for i in range(count)]
    start_s = time.perf_counter()
    with ThreadPoolExecutor(config.num_clients) as pool:
        together = list(pool.map(lambda p: _time_ms(lambda: ask_http(address, {"clip": p[0], "edits": [p[1]]})), pairs))  # fmt: skip
    wall_s = time.perf_counter() - start_s
    return {
        "p50_ms_1": float(np.percentile(over_http, 50)),
        "p99_ms_1": float(np.percentile(over_http, 99)),
        f"qps_{config.num_clients}": count / wall_s,
        f"p99_ms_{config.num_clients}": float(np.percentile(together, 99)),
        "client_overhead_ratio": float(np.median(cached) / np.median(bare)),
        "http_extra_ms": float(np.median(over_http) - np.median(inside)),
    }


def served_map_gap(
    client: SearchClient, triplets: Sequence[Triplet], address: str
) -> dict[str, float]:
    """mAP@50 through HTTP and Milvus against NumPy over the same vectors, in the gallery of one split."""
    rows = list(client.collection.rows(("clip_id", "split", "embedding")))
    gallery = [row for row in rows if row["split"] == triplets[0].split]
    ids = [row["clip_id"] for row in gallery]
    vectors_ND = np.array([row["embedding"] for row in gallery], np.float32)
    place = {clip_id: number for number, clip_id in enumerate(ids)}
    served, exact, relevant = [], [], []
    for triplet in triplets:
        query = {"clip": triplet.query_clip_id, "edits": [triplet.edit_text], "limit": 50, "filters": {"split": triplet.split}}  # fmt: skip
        served.append([hit["clip_id"] for hit in ask_http(address, query)["hits"]])
        own_D = vectors_ND[place[triplet.query_clip_id]]
        query_D = client.query_encoder.compose(own_D[None], [triplet.edit_text])[0]
        order = np.argsort(-(vectors_ND @ query_D), kind="stable")
        exact.append([ids[i] for i in order if ids[i] != triplet.query_clip_id][:50])
        relevant.append(set(triplet.target_clip_ids))
    maps = [mean_average_precision_at_k(ranked, relevant, k=50) for ranked in (served, exact)]
    recall = np.mean([len(set(a[:10]) & set(b[:10])) / 10 for a, b in zip(served, exact, strict=True)])  # fmt: skip
    return {"served_map50": maps[0], "served_map50_gap": abs(maps[0] - maps[1]), "recall_at_10": float(recall)}  # fmt: skip


def ask_http(address: str, query: dict[str, Any]) -> dict[str, Any]:
    """A query as a client sends it."""
    headers = {"content-type": "application/json", "authorization": f"Bearer {TOKEN}"}
    request = urllib.request.Request(f"{address}/v1/search", json.dumps(query).encode(), headers)
    with urllib.request.urlopen(request, timeout=60) as reply:
        return json.loads(reply.read())


def send_hostile(address: str, request: Hostile) -> Reply:
    """As it is, over a real socket."""
    headers = {"authorization": f"Bearer {TOKEN}"} if request.has_token else {}
    made = urllib.request.Request(
        address + request.path,
        request.body or None,
        headers | request.headers,
        method=request.method,
    )
    try:
        with urllib.request.urlopen(made, timeout=60) as reply:
            return Reply(status=reply.status, body=reply.read())
    except urllib.error.HTTPError as error:
        return Reply(status=error.code, body=error.read())
    except OSError:
        return Reply(status=400, body=b"")  # the connection was cut, or the header cannot be sent


@contextmanager
def served(client: SearchClient, port: int) -> Iterator[str]:
    """The app in a thread; the client stays open afterwards."""
    import uvicorn

    from indexing.http_app import AppConfig, create_app
    from indexing.http_engine import EngineConfig
    from indexing.http_guard import Limits

    limits = Limits(token=TOKEN, requests_per_s=1e6, burst=10**6)
    config = AppConfig(limits=limits, engine=EngineConfig(sample_share=0.0))
    server = uvicorn.Server(
        uvicorn.Config(create_app(lambda: client, config), port=port, log_level="error")
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.02)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


def run(config: SearchBenchmark) -> dict[str, Any]:
    """All figures."""
    test = [one for one in read_triplets(config.triplets) if one.split == "test"]
    drawn = test[:: max(1, len(test) // config.num_queries)][: config.num_queries]
    threshold: AbstainThreshold = calibrate(
        CalibrateConfig(
            bundle_dir=config.bundle_dir,
            milvus_uri=config.milvus_uri,
            triplets=config.triplets,
            out=config.out_dir / "threshold.json",
            num_queries=max(config.num_queries, 10),
        )
    )
    options = SearchOptions(num_threads=1, files=False)
    found: dict[str, Any] = {"abstain_precision": threshold.precision, "abstain_recall": threshold.recall}  # fmt: skip
    with SearchClient(config.milvus_uri, "clips", config.bundle_dir, options=options) as client:
        client.search_many([ComposedQuery(edits=("warm up",))])
        found |= exclude_cut(client, drawn, count=config.num_queries // 4)
        with served(client, config.port) as address:
            found |= latency(client, drawn, address, config)
            found |= served_map_gap(client, drawn, address)
            clip_id = quote(drawn[0].query_clip_id, safe="")
            succeeded = try_all(lambda request: send_hostile(address, request), clip_id=clip_id)
            found["hostile_tried"] = len(list(hostile_requests(clip_id)))
            found["hostile_succeeded"] = len(succeeded)
    return found


def _time_ms(call: Any) -> float:
    start_s = time.perf_counter()
    call()
    return (time.perf_counter() - start_s) * 1000


def main(argv: Sequence[str] | None = None) -> int:
    """Print the figures, and keep them where that is asked for."""
    import tyro

    config = tyro.cli(SearchBenchmark, args=argv, prog="python -m benchmarks.search")
    config.out_dir.mkdir(parents=True, exist_ok=True)
    found = run(config)
    sys.stdout.write(json.dumps(found, indent=1) + "\n")
    if config.record:
        kept = {name: str(value) for name, value in asdict(config).items()}
        sys.stdout.write(f"{write_record('search', config=kept, metrics=found)}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
