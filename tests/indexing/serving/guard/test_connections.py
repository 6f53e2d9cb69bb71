"""A real uvicorn server with short limits, and clients that speak to it over plain sockets."""

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import uvicorn

from cluster.network import free_port
from indexing.serving.guard import connections
from indexing.serving.guard.connections import LimitedProtocol, RayFront
from indexing.serving.guard.limits import ConnectionLimits
from indexing.serving.guard.rates import RateLimit

LARGE = 32 << 20


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """The client's address, the body's length and the headers; /large is long."""
    size = 0
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size += len(message["body"])
        more = message.get("more_body", False)
    body = {"client": scope["client"][0], "size": size, "headers": [name.decode() for name, _ in scope["headers"]]}  # fmt: skip
    await send({"type": "http.response.start", "status": 200, "headers": []})
    data = json.dumps(body).encode() if scope["path"] != "/large" else bytes(LARGE)
    for start in range(0, len(data), 1 << 16):
        part = data[start : start + (1 << 16)]
        await send({"type": "http.response.body", "body": part, "more_body": start + (1 << 16) < len(data)})  # fmt: skip


@contextmanager
def served(
    app: Any = echo, *, connection_rate: RateLimit | None = None, **limits: Any
) -> Iterator[int]:
    """The port of a server that has these limits."""
    of_class = {"limits": ConnectionLimits(**limits), "connection_rate": connection_rate or RateLimit(1e6, 10**6)}  # fmt: skip
    protocol = type("Protocol", (LimitedProtocol,), of_class)
    port = free_port()
    config = uvicorn.Config(app, port=port, http=protocol, lifespan="off", log_level="critical")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.01)
    try:
        yield port
    finally:
        server.should_exit = True
        thread.join()


def connect(port: int, data: bytes = b"", source: str = "127.0.0.1") -> socket.socket:
    client = socket.create_connection(("127.0.0.1", port), 10, (source, 0))
    client.sendall(data)
    return client


def reply(client: socket.socket) -> tuple[int, bytes]:
    """(status, body) until the server closes; status 0 where nothing came."""
    data = b""
    try:
        while part := client.recv(1 << 16):
            data += part
    except ConnectionResetError:
        pass
    head, _, body = data.partition(b"\r\n\r\n")
    return int(head.split(b" ")[1]) if head else 0, body


GET = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n"


def test_a_whole_request_is_answered() -> None:
    with served() as port:
        status, body = reply(connect(port, GET + b"\r\n"))
    assert status == 200
    assert b'"client": "127.0.0.1"' in body


@pytest.mark.parametrize(
    "sent",
    [b"", b"GET", b"GET / HTTP/1.1\r\nhost: x\r\n", b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nabc"],
    ids=["nothing", "method", "header", "body"],
)  # fmt: skip
def test_what_never_becomes_whole_is_closed(sent: bytes) -> None:
    with served(header_timeout_s=0.2, body_timeout_s=0.2) as port:
        start_s = time.monotonic()
        status, body = reply(connect(port, sent))
        assert time.monotonic() - start_s < 3
    assert (status, json.loads(body)["status"]) == (408, 408)


def test_a_kept_connection_on_which_nothing_follows_is_closed() -> None:
    with served(header_timeout_s=0.2) as port:
        client = connect(port, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        assert client.recv(1 << 16).startswith(b"HTTP/1.1 200")
        client.sendall(b"\r\n")  # belongs to no request, and ends uvicorn's own time limit
        start_s = time.monotonic()
        reply(client)
        assert time.monotonic() - start_s < 3


@pytest.mark.parametrize(
    "head",
    [
        b"x: " + b"a" * 5000 + b"\r\n", b"x: y\r\n" * 1000, b"x: " + b"a" * 5000,
        b"transfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n" + b"x: y\r\n" * 1000 + b"\r\n",
    ],
    ids=["long", "many", "open", "trailers"],
)  # fmt: skip
def test_a_header_or_a_trailer_has_a_size(head: bytes) -> None:
    with served(max_header_bytes=4096) as port:
        status, body = reply(connect(port, GET + head + b"\r\n"))
        assert status in ((431, 0) if b"chunked" in head else (431,))
        assert reply(connect(port, GET + b"\r\n"))[0] == 200
        long_url = b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\nhost: x\r\n\r\n"
        assert reply(connect(port, long_url))[0] == 431
    assert status == 0 or json.loads(body)["status"] == 431


@pytest.mark.parametrize(
    "sent", [b"\x16\x03\x01\x02\x00\x01\x00", b"GET / HTTP/9\r\n\r\n", b"GET \xff HTTP/1.1\r\n\r\n", b"x\r\n\r\n", b"GET / HTTP/1.1\r\na b: c\r\n\r\n"],
    ids=["tls", "version", "byte", "word", "name"],
)  # fmt: skip
def test_what_is_no_http_is_refused_as_a_problem(sent: bytes) -> None:
    with served() as port:
        status, body = reply(connect(port, sent))
    assert status == 400
    assert json.loads(body)["detail"]


def test_a_websocket_is_not_opened() -> None:
    upgrade = b"upgrade: websocket\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n"
    with served() as port:
        assert reply(connect(port, GET.replace(b"close", b"upgrade, close") + upgrade + b"\r\n"))[0] == 200  # fmt: skip


def test_a_reader_that_does_not_read_is_cut() -> None:
    with served(reader_timeout_s=0.2) as port:
        client = connect(port, GET.replace(b"/ ", b"/large ") + b"\r\n")
        time.sleep(2.5)
        assert len(reply(client)[1]) < LARGE


def test_a_client_has_a_number_of_connections_and_another_has_its_own() -> None:
    with served(max_connections_per_client=5, max_connections=8) as port:
        held = [connect(port) for _ in range(5)]
        time.sleep(0.1)
        assert reply(connect(port, GET + b"\r\n"))[0] in (429, 0)
        others = [connect(port, source="127.0.0.2") for _ in range(2)]
        assert reply(connect(port, GET + b"\r\n", "127.0.0.2"))[0] == 200
        others.append(connect(port, source="127.0.0.3"))
        time.sleep(0.1)
        assert reply(connect(port, GET + b"\r\n", "127.0.0.4"))[0] in (503, 0)
        for client in (*held, *others):
            client.close()
        time.sleep(0.1)
        assert reply(connect(port, GET + b"\r\n"))[0] == 200
    assert not +LimitedProtocol._num_by_client


def test_a_client_that_connects_on_and_on_is_cut_before_it_is_read() -> None:
    with served(connection_rate=RateLimit(0.001, 2)) as port:
        statuses = [reply(connect(port, GET + b"\r\n"))[0] for _ in range(3)]
        assert statuses == [200, 200, 0]
        assert reply(connect(port, GET + b"\r\n", "127.0.0.2"))[0] == 200
    with served(connection_rate=RateLimit(0.001, 1), trusted_proxies=("127.0.0.1",)) as port:
        assert [reply(connect(port, GET + b"\r\n"))[0] for _ in range(3)] == [200] * 3


def test_only_a_named_proxy_names_the_client() -> None:
    request = GET + b"x-forwarded-for: 203.0.113.7, 10.0.0.1\r\n\r\n"
    with served() as port:
        assert b'"client": "127.0.0.1"' in reply(connect(port, request))[1]
    with served(trusted_proxies=("127.0.0.1", "10.0.0.0/8")) as port:
        assert b'"client": "203.0.113.7"' in reply(connect(port, request))[1]
        assert b'"client": "127.0.0.2"' in reply(connect(port, request, "127.0.0.2"))[1]
    with pytest.raises(ValueError, match="must be an IP address or a network"):
        ConnectionLimits(trusted_proxies=("proxy.example",))


def test_what_only_ray_reads_does_not_get_there() -> None:
    odd = b"x-request-id: \xff\xfe\r\nx-request-timeout-seconds: \xff\r\nx-request-disconnect-disabled: ?1\r\ntraceparent: \xff\r\n"
    with served(RayFront(echo, ConnectionLimits())) as port:
        status, body = reply(connect(port, GET + odd + b"accept: a\r\n\r\n"))
        assert status == 200
        assert json.loads(body[body.index(b"{") : body.rindex(b"}") + 1])["headers"] == ["host", "accept", "x-request-id"]  # fmt: skip
        for path in (b"/-/routes", b"/-/healthz"):
            status, body = reply(connect(port, GET.replace(b"/ ", path + b" ") + b"\r\n"))
            assert (status, b'"status": 404' in body) == (404, True)


def test_a_client_over_its_rate_does_not_get_there_and_health_does() -> None:
    limits = ConnectionLimits(requests_per_s=0.001, burst=2)
    with served(RayFront(echo, limits)) as port:
        assert [reply(connect(port, GET + b"\r\n"))[0] for _ in range(3)] == [200, 200, 429]
        assert reply(connect(port, GET + b"\r\n", "127.0.0.2"))[0] == 200
        assert reply(connect(port, GET.replace(b"/ ", b"/healthz ") + b"\r\n"))[0] == 200


def test_ray_serve_is_given_the_limits(monkeypatch) -> None:
    monkeypatch.setattr(LimitedProtocol, "limits", ConnectionLimits())
    monkeypatch.setattr(LimitedProtocol, "connection_rate", LimitedProtocol.connection_rate)
    monkeypatch.setitem(connections.HTTP_PROTOCOLS, "auto", connections.HTTP_PROTOCOLS["auto"])
    given = ConnectionLimits(header_timeout_s=3, max_connections=10, trusted_proxies=("10.0.0.1",))
    monkeypatch.setattr(os, "environ", {**os.environ, **connections.ray_serve_environment(given)})
    assert os.environ["RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"].endswith(":ray_serve_middlewares")  # fmt: skip
    (middleware,) = connections.ray_serve_middlewares()
    assert middleware.cls is RayFront
    config = uvicorn.Config(echo)
    config.load()
    assert config.http_protocol_class is LimitedProtocol
    assert LimitedProtocol.limits == given


def test_a_limit_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="header_timeout_s is 0"):
        ConnectionLimits(header_timeout_s=0)
