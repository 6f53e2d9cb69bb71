"""Connections of the HTTP server: limits in time, size and number, and no header that nobody asked for.

uvicorn has no time limit for headers, bodies and clients that do not read, and believes X-Forwarded-For from loopback. Ray Serve
starts uvicorn itself, in a replica or in its proxy, and calls `ray_serve_middlewares` there before it does.
"""

import asyncio
import json
import os
import resource
from collections import Counter
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import asdict, replace
from functools import lru_cache
from typing import Any, ClassVar

from starlette.middleware import Middleware
from uvicorn.config import HTTP_PROTOCOLS, Config
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from indexing.serving.guard.access import HEALTH_PATH
from indexing.serving.guard.limits import ConnectionLimits
from indexing.serving.guard.problems import MEDIA_TYPE, TITLES, problem_json
from indexing.serving.guard.rates import TOO_MANY, RateLimit

_CHECK_S = 1.0
_CLOSING_S = 5.0
_LIMITS_VARIABLE = "TFCOVR_CONNECTION_LIMITS"
# All that the app reads. Ray Serve reads more (timeouts, routing, tracing), and answers with a bare 500 where it cannot.
_HEADERS_OF_THE_APP = frozenset({
    b"accept", b"accept-encoding", b"authorization", b"content-length", b"content-type", b"cookie", b"expect", b"host",
    b"if-modified-since", b"if-none-match", b"if-range", b"origin", b"range", b"sec-fetch-mode", b"sec-fetch-site", b"transfer-encoding",
    b"user-agent",
})  # fmt: skip
_REQUEST_ID = b"x-request-id"


class LimitedProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 protocol with `limits`, which hold for all connections of the process."""

    limits: ClassVar[ConnectionLimits] = ConnectionLimits()
    _num_by_client: ClassVar[Counter[str]] = Counter()
    connection_rate: ClassVar[RateLimit] = RateLimit(100.0, 800)
    """Of new connections; beyond it they are closed before anything is read from them."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.ws_protocol_class = None
        self.app = _without_proxy_headers(self.config, self.limits.trusted_proxies)
        self._status = 400
        self._stage, self._num_header_bytes, self._num_open_bytes = "header", 0, 0
        self._since_s = self.loop.time()
        self._paused_s: float | None = None
        self._closing_s: float | None = None

    # Stages of a connection: header -> body -> answer -> idle -> header ...
    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._host = self.client[0] if self.client else ""
        self._num_by_client[self._host] += 1
        self._watch = self.loop.call_later(_CHECK_S, self._check)
        of_client = self._num_by_client[self._host]
        is_proxy = self.limits.is_trusted_proxy(self._host)
        if not is_proxy and self.connection_rate.is_exceeded(self._host):
            transport.abort()
        elif len(self.connections) > self.limits.max_connections:
            self._refuse(503, "the service has too many connections")
        elif of_client > self.limits.max_connections_per_client and not is_proxy:
            self._refuse(429, "this address has too many connections")

    def connection_lost(self, exc: Exception | None) -> None:
        self._watch.cancel()
        self._num_by_client[self._host] -= 1
        if self._num_by_client[self._host] <= 0:
            del self._num_by_client[self._host]
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        if self._stage == "idle":
            self._enter("header")
        super().data_received(data)
        # A header line that has not ended yet is in no callback of the parser.
        self._num_open_bytes = self._num_open_bytes + len(data) if self._stage == "header" else 0
        if self._num_open_bytes > self.limits.max_header_bytes and not self.transport.is_closing():
            self._status = 431
            self.send_400_response("")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._num_header_bytes = 0

    def on_url(self, url: bytes) -> None:
        self._count_header(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count_header(len(name) + len(value) + 4)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._enter("body")

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._enter("idle" if self.cycle is None or self.cycle.response_complete else "answer")

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._stage == "answer" and not self.pipeline:
            self._enter("idle")

    def pause_writing(self) -> None:
        self._paused_s = self.loop.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        self._paused_s = None
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        too_large = f"a header may have at most {self.limits.max_header_bytes} bytes"
        self._refuse(
            self._status, "the request is not HTTP/1.1" if self._status == 400 else too_large
        )

    def _count_header(self, count: int) -> None:
        """Raising in a callback of the parser ends in `send_400_response`. Trailers of a chunked body count too."""
        self._num_header_bytes += count
        if self._num_header_bytes > self.limits.max_header_bytes:
            self._status = 431
            raise ValueError("the header is too large")

    def _enter(self, stage: str) -> None:
        self._stage, self._since_s = stage, self.loop.time()

    def _check(self) -> None:
        """Look every second whether the client keeps the connection from being of use."""
        self._watch = self.loop.call_later(_CHECK_S, self._check)
        limits, now_s = self.limits, self.loop.time()
        spent_s = now_s - self._since_s
        if self.transport.is_closing():  # what it still has to send may never be read
            self._closing_s = self._closing_s or now_s
            if now_s - self._closing_s > _CLOSING_S:
                self.transport.abort()
        elif self._paused_s is not None and now_s - self._paused_s > limits.reader_timeout_s:
            self.transport.abort()
        elif self._stage == "header" and spent_s > limits.header_timeout_s:
            self._refuse(408, "the header took too long to arrive")
        elif self._stage == "body" and spent_s > limits.body_timeout_s:
            self._refuse(408, "the body took too long to arrive")

    def _refuse(self, status: int, detail: str) -> None:
        """Answer and close; in the middle of an answer, only close."""
        is_answering = self.cycle is not None and self.cycle.response_started
        if is_answering and not self.cycle.response_complete:
            self.transport.abort()
            return
        body = problem_json(status, detail, os.urandom(16).hex())
        head = f"HTTP/1.1 {status} {TITLES[status]}\r\ncontent-type: {MEDIA_TYPE}\r\n"
        head += f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        self.transport.write(head.encode() + body)
        self.transport.close()


class RayFront:
    """ASGI middleware in front of Ray Serve: refuses Ray's own routes and clients over their rate, and drops what only Ray reads."""

    def __init__(self, app: Callable[..., Awaitable[None]], limits: ConnectionLimits) -> None:
        self._app = app
        self._rate = RateLimit(limits.requests_per_s, limits.burst)

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            return  # the protocol knows no other
        request_ids = [value for name, value in scope["headers"] if name == _REQUEST_ID]
        is_usable = bool(request_ids) and _is_plain(request_ids[0])
        request_id = request_ids[0] if is_usable else os.urandom(16).hex().encode()
        scope["headers"] = [pair for pair in scope["headers"] if pair[0] in _HEADERS_OF_THE_APP]
        scope["headers"].append((_REQUEST_ID, request_id))
        client = (scope.get("client") or ("", 0))[0]
        if scope["path"] != HEALTH_PATH and self._rate.is_exceeded(client):
            await asyncio.sleep(self._rate.refusal_delay_s(client))
            await _refuse(send, 429, TOO_MANY, request_id, [(b"retry-after", b"1")])
        elif scope["path"].startswith("/-/"):
            await _refuse(send, 404, "Not Found", request_id, [])
        else:
            await self._app(scope, receive, send)


async def _refuse(
    send: Any, status: int, detail: str, request_id: bytes, headers: list[tuple[bytes, bytes]]
) -> None:
    body = problem_json(status, detail, request_id.decode())
    length = str(len(body)).encode()
    own = [(b"content-type", MEDIA_TYPE.encode()), (b"content-length", length)]
    own += [(_REQUEST_ID, request_id), *headers]
    await send({"type": "http.response.start", "status": status, "headers": own})
    await send({"type": "http.response.body", "body": body})


def _is_plain(value: bytes) -> bool:
    return len(value) <= 64 and value.replace(b"-", b"").replace(b"_", b"").replace(b".", b"").isalnum()  # fmt: skip


@lru_cache(maxsize=8)
def _without_proxy_headers(config: Config, trusted_proxies: tuple[str, ...]) -> Any:
    """The app of a server: uvicorn believes the headers of proxies on loopback, and here only those that are named are believed."""
    app: Any = config.loaded_app
    while isinstance(app, ProxyHeadersMiddleware):
        app = app.app
    return ProxyHeadersMiddleware(app, list(trusted_proxies)) if trusted_proxies else app


def use_connection_limits(limits: ConnectionLimits) -> None:
    """Hold all connections of uvicorn servers that this process starts from now on to these limits."""
    num_files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    num_files = num_files if num_files > 0 else limits.max_connections * 2
    LimitedProtocol.limits = replace(
        limits, max_connections=min(limits.max_connections, num_files // 2)
    )
    # One request on each connection is usual, and a burst of requests opens no more connections than it has requests.
    LimitedProtocol.connection_rate = RateLimit(2 * limits.requests_per_s, 4 * limits.burst)
    HTTP_PROTOCOLS["auto"] = f"{__name__}:LimitedProtocol"


def ray_serve_environment(limits: ConnectionLimits) -> dict[str, str]:
    """Environment variables by which every HTTP server of Ray Serve calls `ray_serve_middlewares`."""
    return {
        "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": f"{__name__}:{ray_serve_middlewares.__name__}",
        _LIMITS_VARIABLE: json.dumps(asdict(limits)),
    }


def ray_serve_middlewares() -> list[Middleware]:
    """Called by Ray Serve in a process that is about to start an HTTP server: the limits, and what stands in front of Ray."""
    values = json.loads(os.environ[_LIMITS_VARIABLE])
    values["trusted_proxies"] = tuple(values["trusted_proxies"])
    limits = ConnectionLimits(**values)
    use_connection_limits(limits)
    return [Middleware(RayFront, limits=limits)]
