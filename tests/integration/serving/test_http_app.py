"""The app over a small archive in Milvus Lite, driven as a client would."""

import io
import json
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from starlette.testclient import TestClient

from benchmarks.search.hostile import ALLOWED_HOSTS, Hostile, Reply, hostile_requests, try_all
from indexing.search.client import SearchClient, SearchOptions
from indexing.serving.app import UPLOAD_LIMITS, AppConfig, create_app
from indexing.serving.batching import BatcherConfig
from indexing.serving.clip_urls import UrlPolicy
from indexing.serving.middleware import Limits

TOKEN = "right-token"
AUTHORIZED = {"authorization": f"Bearer {TOKEN}"}


@pytest.fixture(scope="module")
def client(archive, tiny_bundle) -> Iterator[TestClient]:
    options = SearchOptions(num_threads=1, files=False, limits=UPLOAD_LIMITS)

    def open_client() -> SearchClient:
        return SearchClient(str(archive[0] / "milvus"), "clips", tiny_bundle, options=options)

    limits = Limits(token=TOKEN, max_body_bytes=1 << 20, burst=10_000, requests_per_s=1e4)
    urls = UrlPolicy(hosts=ALLOWED_HOSTS)
    config = AppConfig(limits=limits, batching=BatcherConfig(sample_share=1.0), urls=urls)
    with TestClient(create_app(open_client, config), raise_server_exceptions=False) as opened:
        yield opened


def test_answers_equal_exact_search_in_numpy(client, archive) -> None:
    _, vectors = archive
    reply = client.post("/v1/search", json={"clip": "clip/4", "limit": 5}, headers=AUTHORIZED)
    assert reply.status_code == 200
    cosines = vectors @ vectors[4]
    wanted = [f"clip/{i}" for i in np.argsort(-cosines) if i != 4][:5]
    assert [hit["clip_id"] for hit in reply.json()["hits"]] == wanted
    assert reply.json()["hits"][0]["score"] == pytest.approx(np.sort(cosines)[-2], abs=1e-4)


def test_an_uploaded_video_and_an_edit_find_what_the_archive_has(client, archive) -> None:
    files = {"video": ("a.mp4", io.BytesIO((archive[0] / "1.mp4").read_bytes()))}
    query = {"query": '{"edits": ["in tuck"], "limit": 3, "filters": {"twists": "1"}}'}
    reply = client.post("/v1/search", files=files, data=query, headers=AUTHORIZED)
    assert reply.status_code == 200, reply.text
    hits = reply.json()["hits"]
    assert len(hits) == 3
    for hit in hits:
        assert hit["attributes"] == {"twists": "1"}
        assert hit["score"] == pytest.approx(hit["from_clip"] + hit["from_edit"], abs=1e-5)


def test_a_url_on_an_allowed_host_finds_what_the_upload_finds(client, archive, tiny_bundle) -> None:
    files = {"video": ("a.mp4", io.BytesIO((archive[0] / "1.mp4").read_bytes()))}
    query = {"edits": ["in tuck"], "limit": 3}
    uploaded = client.post(
        "/v1/search", files=files, data={"query": json.dumps(query)}, headers=AUTHORIZED
    )
    options = SearchOptions(num_threads=1, files=False, limits=UPLOAD_LIMITS)

    def open_client() -> SearchClient:
        return SearchClient(str(archive[0] / "milvus"), "clips", tiny_bundle, options=options)

    handler = partial(SimpleHTTPRequestHandler, directory=str(archive[0]))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        host = f"127.0.0.1:{server.server_address[1]}"
        config = AppConfig(urls=UrlPolicy(hosts=(host,), allow_private=True))
        with TestClient(create_app(open_client, config)) as open_to_urls:
            found = open_to_urls.post(
                "/v1/search", json=query | {"clip_url": f"http://{host}/1.mp4"}
            )
            text = open_to_urls.post(
                "/v1/search", json=query | {"clip_url": f"http://{host}/text.mp4"}
            )
        server.shutdown()
    assert found.status_code == 200, found.text
    assert found.json()["hits"] == uploaded.json()["hits"]
    assert (text.status_code, "root:" in text.text) == (422, False)


def test_media_by_range_and_by_span(client, archive) -> None:
    whole = (archive[0] / "0.mp4").read_bytes()
    path = "/v1/clips/clip%2F1/media"
    assert client.get(path, headers=AUTHORIZED).content == whole
    part = client.get(path, headers=AUTHORIZED | {"range": "bytes=5-9"})
    assert (part.status_code, part.content) == (206, whole[5:10])
    assert part.headers["content-range"] == f"bytes 5-9/{len(whole)}"
    tail = client.get(path, headers=AUTHORIZED | {"range": "bytes=-4"})
    assert tail.content == whole[-4:]
    trimmed = client.get(f"{path}?trim=true", headers=AUTHORIZED)
    assert trimmed.content[4:8] == b"ftyp"
    assert client.get("/v1/clips/clip%2F1/strip.jpg", headers=AUTHORIZED).content[:2] == b"\xff\xd8"


@pytest.mark.parametrize("clip", ["clip%2F10", "clip%2F11", "none"])
def test_links_and_files_that_are_no_video_are_not_found(client, clip: str) -> None:
    reply = client.get(f"/v1/clips/{clip}/media", headers=AUTHORIZED)
    assert reply.status_code == 404
    assert b"root:" not in reply.content
    assert reply.json()["request_id"] == reply.headers["x-request-id"]


def test_metrics_hold_the_recall_of_sampled_queries(client) -> None:
    client.post("/v1/search", json={"clip": "clip/2"}, headers=AUTHORIZED)
    text = client.get("/metrics", headers=AUTHORIZED).text
    assert "tfcovr_search_seconds_bucket" in text
    assert 'tfcovr_latency_ms{quantile="0.99"}' in text


def test_no_hostile_request_succeeds(client) -> None:
    def send(request: Hostile) -> Reply:
        headers = {name: value.encode("latin-1") for name, value in request.headers.items()}
        extra = AUTHORIZED if request.has_token else {}
        reply = client.request(
            request.method, request.path, headers={**extra, **headers}, content=request.body
        )
        return Reply(status=reply.status_code, body=reply.content)

    assert len(list(hostile_requests("clip/1"))) >= 120
    assert try_all(send, clip_id="clip%2F1") == {}
