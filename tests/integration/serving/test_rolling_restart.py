"""A service of two replicas whose settings change while it is asked, as a changed Ray Serve file changes them."""

import http.client
import json
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
import ray
from ray import serve

from cluster.network import free_port
from cluster.ray_session import ray_session
from indexing.serving.config import ServeConfig
from indexing.serving.deploy import (
    APP_NAME,
    ON_A_BUSY_MACHINE,
    ONE_LOOP,
    app_settings,
    collection_settings,
    start_service,
)
from indexing.serving.guard.connections import ray_serve_environment
from indexing.store.endpoint import serve_milvus

NUM_CLIENTS = 3
BODY = json.dumps({"clip": "clip/4", "limit": 3})


@pytest.mark.long  # five replicas of torch: a minute of two cores
def test_replicas_are_replaced_one_after_the_other_and_no_query_fails(
    archive, tiny_bundle: Path, monkeypatch
) -> None:
    folder, _ = archive
    config = ServeConfig(
        bundle=tiny_bundle,
        milvus_uri=str(folder / "milvus"),
        no_token=True,
        requests_per_s=10_000.0,
    )
    for name, value in (
        ONE_LOOP | ON_A_BUSY_MACHINE | ray_serve_environment(config.connection_limits)
    ).items():
        monkeypatch.setenv(name, value)
    port, statuses, ended = free_port("127.0.0.1"), Counter[object](), threading.Event()

    def ask() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        while not ended.is_set():
            try:
                headers = {"content-type": "application/json"}
                connection.request("POST", "/v1/search", BODY, headers)
                reply = connection.getresponse()
                reply.read()
                statuses[reply.status] += 1
            except (OSError, http.client.HTTPException) as error:
                statuses[repr(error)] += 1
                connection.close()

    with ray_session(), serve_milvus(str(folder / "milvus")) as address:
        settings = app_settings(config, config.located(), token="")
        settings |= collection_settings(config, config.located(), address)
        clients = [threading.Thread(target=ask) for _ in range(NUM_CLIENTS)]
        try:
            start_service(settings, host="127.0.0.1", proxy_port=port, replicas=2)
            before = _replicas()
            for client in clients:
                client.start()
            _until(lambda: statuses.total() > 50)
            start_service(settings | {"sample_share": 0.5}, host="127.0.0.1", proxy_port=port, replicas=2)  # fmt: skip
            _until(lambda: len(_replicas()) == 2 and not _replicas() & before)
            so_far = statuses.total()
            _until(lambda: statuses.total() > so_far + 50)
        finally:
            ended.set()
            for client in clients:
                if client.is_alive():
                    client.join()
            serve.shutdown()
    assert set(statuses) == {200}, statuses


def _replicas() -> set[str]:
    alive = ray.util.list_named_actors(all_namespaces=True)
    return {one["name"] for one in alive if f"{APP_NAME}#" in one["name"]}


def _until(is_so, *, within_s: float = 120.0) -> None:
    give_up_s = time.monotonic() + within_s
    while not is_so():
        assert time.monotonic() < give_up_s
        time.sleep(0.1)
