"""What `exclude` does, whether serving loses anything, and what hostile requests get: on an archive such as the demo's.

The service runs in this process, because only one process may open a Milvus Lite folder; nothing here is timed.
"""

import json
import random
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from benchmarks.search.hostile import ALLOWED_HOSTS, Hostile, Reply, try_all
from benchmarks.search.hostile_bodies import all_hostile
from benchmarks.search.service import TOKEN
from cluster.network import free_port
from encoders.metrics import mean_average_precision_at_k
from indexing.search.client import SearchClient, SearchOptions
from training.annotations.triplets.table import Triplet, read_triplets


def measure_quality(
    bundle_dir: Path, milvus_uri: str, triplets_path: Path, *, num_queries: int
) -> dict[str, Any]:
    """All figures."""
    test = [triplet for triplet in read_triplets(triplets_path) if triplet.split == "test"]
    drawn = test[:: max(1, len(test) // num_queries)][:num_queries]
    figures: dict[str, Any] = {}
    options = SearchOptions(num_threads=1, files=False)
    with SearchClient(milvus_uri, "clips", bundle_dir, options=options) as client:
        figures |= exclude_cut(client, drawn, count=num_queries // 4)
        figures |= attribute_accuracy(client)
        with served(client) as address:
            figures |= served_map_gap(client, drawn, address)
            clip_id = quote(drawn[0].query_clip_id, safe="")
            requests = all_hostile(clip_id)
            succeeded = try_all(lambda request: send_hostile(address, request), requests)
            figures["hostile_tried"] = len(requests)
            figures["hostile_succeeded"] = len(succeeded)
    return figures


def attribute_accuracy(client: SearchClient) -> dict[str, float]:
    """Share of the test clips' attributes that the head reads right from their vectors."""
    reader = client.snapshot.reader
    if reader is None:
        return {}
    rows = [row for row in client.collection.rows(("split", "label", "attributes", "embedding")) if row["split"] == "test"]  # fmt: skip
    predicted = reader.predict(np.array([row["embedding"] for row in rows], np.float32))
    right = [
        values[name][0] == str(row["attributes"][name])
        for row, values in zip(rows, predicted, strict=True)
        for name in reader.names
        if name in (row["attributes"] or {})
    ]
    return {"attribute_accuracy": float(np.mean(right)), "num_attributes": len(right)}


def exclude_cut(client: SearchClient, triplets: Sequence[Triplet], *, count: int) -> dict[str, Any]:
    """Share of an excluded value among 10 hits, with and without `exclude`, where it was at least 30 %.

    Value and attribute come from the labels, never from the head that the exclusion uses.
    """
    values = {n: v for n, v in client.snapshot.count_all().attributes.items() if len(v) > 1}
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
    return {"served_map50": maps[0], "served_map50_gap": abs(maps[0] - maps[1]), "served_recall_at_10": float(recall)}  # fmt: skip


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
    except OSError as error:
        if isinstance(getattr(error, "reason", error), TimeoutError):
            return Reply(status=599, body=b"")  # it hangs, which is what the attack wanted
        return Reply(status=400, body=b"")  # the connection was cut, or the header cannot be sent


@contextmanager
def served(client: SearchClient) -> Iterator[str]:
    """The app in a thread; the client stays open afterwards."""
    import uvicorn

    from indexing.serving.app import AppConfig, create_app
    from indexing.serving.batching import BatcherConfig
    from indexing.serving.clip_urls import UrlPolicy
    from indexing.serving.guard.access import LOOPBACK_HOSTS
    from indexing.serving.guard.connections import LimitedProtocol
    from indexing.serving.guard.limits import Limits

    limits = Limits(token=TOKEN, allowed_hosts=LOOPBACK_HOSTS, requests_per_s=1e6, burst=10**6)
    urls = UrlPolicy(hosts=ALLOWED_HOSTS)
    config = AppConfig(limits=limits, batching=BatcherConfig(sample_share=0.0), urls=urls)
    port = free_port()
    server = uvicorn.Server(
        uvicorn.Config(
            create_app(lambda: client, config), port=port, http=LimitedProtocol, log_level="error"
        )
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
