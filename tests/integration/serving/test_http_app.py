"""The app over a small archive in Milvus Lite, driven as a client would."""

import io
import json
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from PIL import Image
from starlette.testclient import TestClient

from benchmarks.search.hostile import ALLOWED_HOSTS, Hostile, Reply, try_all
from benchmarks.search.hostile_bodies import all_hostile
from indexing.search.client import SearchClient, SearchOptions
from indexing.serving.app import UPLOAD_LIMITS, AppConfig, create_app
from indexing.serving.batching import BatcherConfig
from indexing.serving.clip_urls import UrlPolicy
from indexing.serving.guard.limits import Limits
from indexing.serving.spans import QuerySpans
from tests.support.served_archive import ODD_IDS, write_served_archive

TOKEN = "right-token"
SPANS = InMemorySpanExporter()
AUTHORIZED = {"authorization": f"Bearer {TOKEN}"}


@pytest.fixture(scope="module")
def archive(tmp_path_factory, tiny_bundle) -> tuple[Path, np.ndarray]:
    folder = tmp_path_factory.mktemp("odd_archive")
    return folder, write_served_archive(folder, tiny_bundle, odd_rows=True)


@pytest.fixture(scope="module")
def client(archive, tiny_bundle) -> Iterator[TestClient]:
    options = SearchOptions(num_threads=1, files=False, limits=UPLOAD_LIMITS)

    def open_client() -> SearchClient:
        return SearchClient(str(archive[0] / "milvus"), "clips", tiny_bundle, options=options)

    limits = Limits(
        token=TOKEN,
        allowed_hosts=("testserver",),
        max_body_bytes=1 << 20,
        burst=10_000,
        requests_per_s=1e4,
    )
    urls = UrlPolicy(hosts=ALLOWED_HOSTS)
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(SPANS))
    spans = QuerySpans(provider.get_tracer("test"))
    batching = BatcherConfig(sample_share=1.0)
    config = AppConfig(limits=limits, batching=batching, urls=urls, spans=spans)
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
    head = client.head(path, headers=AUTHORIZED)
    assert (head.status_code, head.content) == (200, b"")
    assert (head.headers["content-length"], head.headers["content-type"]) == (str(len(whole)), "video/mp4")  # fmt: skip
    assert part.headers["content-range"] == f"bytes 5-9/{len(whole)}"
    stale = client.get(path, headers=AUTHORIZED | {"range": "bytes=5-9", "if-range": '"x"'})
    assert stale.status_code == 200
    tail = client.get(path, headers=AUTHORIZED | {"range": "bytes=-4"})
    assert tail.content == whole[-4:]
    trimmed = client.get(f"{path}?trim=true", headers=AUTHORIZED)
    assert trimmed.content[4:8] == b"ftyp"
    assert client.get("/v1/clips/clip%2F1/strip.jpg", headers=AUTHORIZED).content[:2] == b"\xff\xd8"


@pytest.mark.parametrize("clip_id", ODD_IDS)
def test_an_id_of_any_text_is_reachable_and_named_in_its_urls(client, clip_id: str) -> None:
    found = client.get("/v1/clip", params={"id": clip_id}, headers=AUTHORIZED)
    assert (found.status_code, found.json()["clip_id"]) == (200, clip_id)
    for url in ("media_url", "strip_url"):
        reply = client.get(found.json()[url], headers=AUTHORIZED)
        assert (reply.status_code, reply.headers["content-type"]) == (200, {"media_url": "video/mp4", "strip_url": "image/jpeg"}[url])  # fmt: skip
    asked = client.post("/v1/search", json={"clip": clip_id, "limit": 1}, headers=AUTHORIZED)
    assert asked.json()["query"]["clip_id"] == clip_id


def test_an_id_that_ends_like_a_route_is_told_from_it_in_a_path_too(client) -> None:
    assert client.get("/v1/clips/slash%2Fmedia", headers=AUTHORIZED).json()["clip_id"] == "slash/media"  # fmt: skip
    assert client.get("/v1/clips/slash%2Fstrip.jpg", headers=AUTHORIZED).json()["clip_id"] == "slash/strip.jpg"  # fmt: skip
    assert client.get("/v1/clips/slash%2Fmedia/media", headers=AUTHORIZED).content[4:8] == b"ftyp"


@pytest.mark.parametrize("clip_id", ["bad-0", "bad-1"])
def test_a_row_with_a_span_that_cannot_be_is_shown_and_never_an_error(client, clip_id: str) -> None:
    urls = client.get("/v1/clip", params={"id": clip_id}, headers=AUTHORIZED).json()
    assert client.get(urls["strip_url"], headers=AUTHORIZED).content[:2] == b"\xff\xd8"
    trimmed = client.get(urls["trimmed_url"], headers=AUTHORIZED)
    assert (trimmed.status_code, trimmed.headers["content-type"]) == (422, "application/problem+json")  # fmt: skip


def test_an_unexpected_error_is_a_problem_too(client, monkeypatch) -> None:
    def broken(*_: object) -> None:
        raise KeyError("a secret detail")

    monkeypatch.setattr(SearchClient, "place_of", broken)
    reply = client.get("/v1/clip", params={"id": "x"}, headers=AUTHORIZED)
    assert (reply.status_code, reply.headers["content-type"]) == (500, "application/problem+json")
    assert "secret" not in reply.text
    assert reply.json()["request_id"] == reply.headers["x-request-id"]


def test_an_unknown_part_of_a_form_is_named(client) -> None:
    files = {"clip": ("a.mp4", io.BytesIO(b"x"))}
    reply = client.post("/v1/search", files=files, headers=AUTHORIZED)
    assert (reply.status_code, "'clip'" in reply.json()["detail"]) == (422, True)
    assert "`video`" in reply.json()["detail"]


def test_an_upload_leaves_no_file_behind(client, archive, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for content in ((archive[0] / "1.mp4").read_bytes(), b"no video"):
        files = {"video": ("a.mp4", io.BytesIO(content))}
        status = client.post("/v1/search", files=files, headers=AUTHORIZED).status_code
        assert status in (200, 422)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("clip", ["clip%2F10", "clip%2F11", "none"])
def test_links_and_files_that_are_no_video_are_not_found(client, clip: str) -> None:
    reply = client.get(f"/v1/clips/{clip}/media", headers=AUTHORIZED)
    assert reply.status_code == 404
    assert b"root:" not in reply.content
    assert reply.json()["request_id"] == reply.headers["x-request-id"]


def test_the_document_names_the_token(client) -> None:
    document = client.get("/v1/openapi.json", headers=AUTHORIZED).json()
    assert document["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
    assert [server["url"] for server in document["servers"]] == ["/"]
    for name, methods in document["paths"].items():
        for operation in methods.values():
            body = operation.get("requestBody", {}).get("content", {}).get("application/json")
            assert body is None or body["schema"]["examples"], name
    assert "/v1/clip/media" in document["paths"]


def test_metrics_hold_the_recall_of_sampled_queries(client) -> None:
    client.post("/v1/search", json={"clip": "clip/2"}, headers=AUTHORIZED)
    text = client.get("/metrics", headers=AUTHORIZED).text
    assert "tfcovr_search_seconds_bucket" in text
    assert 'tfcovr_latency_ms{quantile="0.99"}' in text


def test_a_query_is_a_span_of_its_callers_trace_with_its_steps_below(client) -> None:
    SPANS.clear()
    trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    headers = AUTHORIZED | {"traceparent": f"00-{trace}-{parent}-01"}
    reply = client.post("/v1/search", json={"clip": "clip/2"}, headers=headers).json()
    *steps, query = SPANS.get_finished_spans()
    assert (query.name, f"{query.parent.span_id:016x}") == ("search", parent)
    assert {f"{span.context.trace_id:032x}" for span in (*steps, query)} == {trace}
    assert {span.name for span in steps} == set(reply["timings_ms"])
    for span in steps:
        assert span.parent.span_id == query.context.span_id
        took_ms = (span.end_time - span.start_time) / 1e6
        assert took_ms == pytest.approx(reply["timings_ms"][span.name], abs=0.1)
    client.post("/v1/search", json={"clip": "clip/none"}, headers=AUTHORIZED)
    assert not SPANS.get_finished_spans()[-1].status.is_ok


def test_no_hostile_request_succeeds(client) -> None:
    def send(request: Hostile) -> Reply:
        headers = {name: value.encode("latin-1") for name, value in request.headers.items()}
        extra = AUTHORIZED if request.has_token else {}
        reply = client.request(
            request.method, request.path, headers={**extra, **headers}, content=request.body
        )
        return Reply(status=reply.status_code, body=reply.content)

    requests = all_hostile("clip%2F1")
    assert len(requests) >= 300
    assert len({request.name for request in requests}) == len(requests)
    assert try_all(send, requests) == {}


def test_a_poster_is_the_middle_frame_in_its_own_shape(client) -> None:
    reply = client.get("/v1/clip/poster.jpg?id=clip/1", headers=AUTHORIZED)
    assert reply.headers["content-type"] == "image/jpeg"
    poster = Image.open(io.BytesIO(reply.content))
    assert poster.size == (64, 64)
    assert client.get("/v1/clip/poster.jpg?id=nowhere", headers=AUTHORIZED).status_code == 404


def test_the_clips_of_a_video_come_in_their_order(client) -> None:
    clips = client.get("/v1/clip/video?id=clip/9", headers=AUTHORIZED).json()
    assert [clip["clip_id"] for clip in clips] == ["clip/9"]  # the only one of 1.mp4
    starts = [
        clip["start_s"]
        for clip in client.get("/v1/clip/video?id=clip/1", headers=AUTHORIZED).json()
    ]
    assert len(starts) > 5
    assert starts == sorted(starts)


@pytest.mark.parametrize("suffix", ["edl", "otio", "fcpxml", "xml", "vtt"])
def test_a_list_of_cuts_names_files_and_no_folder(client, archive, suffix: str) -> None:
    body = {"clip_ids": ["clip/9", "clip/1"], "format": suffix}
    reply = client.post("/v1/cuts", json=body, headers=AUTHORIZED)
    assert reply.status_code == 200
    assert reply.headers["content-disposition"] == f'attachment; filename="tfcovr.{suffix}"'
    assert reply.text.index("1.mp4") < reply.text.rindex("0.mp4")
    assert str(archive[0]) not in reply.text


@pytest.mark.parametrize(
    ("body", "status", "word"),
    [
        ({"clip_ids": ["clip/1", "clip/9"], "format": "llc"}, 422, "2 videos"),  # one video only
        ({"clip_ids": ["nowhere"], "format": "edl"}, 404, "no such clip"),
        ({"clip_ids": ["\ud800"], "format": "edl"}, 404, "no such clip"),
        ({"clip_ids": ["clip/10"], "format": "edl"}, 404, "cannot be read"),  # a link to another file
        ({"clip_ids": ["bad-0"], "format": "edl"}, 422, "span is [-5.0, 1.0)"),
        ({"clip_ids": ["bad-1"], "format": "edl"}, 422, "span is [1.0, 0.5)"),
        ({"clip_ids": [], "format": "edl"}, 422, "at least 1"),
        ({"clip_ids": ["clip/1"], "format": "avi"}, 422, "'edl'"),
        ({"clips": ["clip/1"], "format": "edl"}, 422, "did you mean 'clip_ids'"),
    ],
)  # fmt: skip
def test_a_list_of_cuts_that_cannot_be_is_refused_in_words(
    client, archive, body: dict, status: int, word: str
) -> None:
    headers = AUTHORIZED | {"content-type": "application/json"}
    reply = client.post("/v1/cuts", content=json.dumps(body), headers=headers)
    assert reply.status_code == status
    assert word in reply.json()["detail"]
    assert str(archive[0]) not in reply.text
