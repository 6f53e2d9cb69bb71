"""Guard of the service: token, body size, request rate and timeouts. Plain ASGI, so that bodies can stream.

Every response carries a request id; every refusal is a problem JSON (RFC 9457).
"""

import asyncio
import hmac
import json
import logging
import re
import time
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from cachetools import LRUCache

from indexing.serving.problems import ProblemError, problem_body

logger = logging.getLogger(__name__)
_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]
_App = Callable[[_Message, _Receive, _Send], Awaitable[None]]
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_MAX_CLIENTS = 10_000
OPEN_PATHS = ("/healthz", "/readyz", "/", "/web/")


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Limits of one request and of one client."""

    token: str = ""
    """Bearer token that a request must carry; "" = none is required."""
    max_body_bytes: int = 64 << 20
    """Maximum size of a request body."""
    body_timeout_s: float = 20.0
    """Maximum time until the whole body has arrived."""
    request_timeout_s: float = 60.0
    """Maximum time until the first byte of the response."""
    requests_per_s: float = 50.0
    """Maximum sustained request rate of one client address."""
    burst: int = 200
    """Maximum burst of requests of one client address."""
    max_in_flight: int = 256
    """Maximum number of requests in progress or waiting, of all clients; one more is refused at once with 503."""
    max_url_bytes: int = 8192
    """Maximum length of a URL."""

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            if name != "token" and not value > 0:
                raise ValueError(f"{name} is {value}; it must be above 0")


class Guard:
    """ASGI middleware that enforces the limits."""

    def __init__(self, app: _App, limits: Limits) -> None:
        self._app, self._limits = app, limits
        self._clients: LRUCache[str, tuple[float, float]] = LRUCache(_MAX_CLIENTS)
        self._num_in_flight = 0

    async def __call__(self, scope: _Message, receive: _Receive, send: _Send) -> None:
        """Handle one request."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = _Answer(send, _request_id(scope))
        scope.setdefault("state", {})["request_id"] = answer.request_id
        try:
            self._check(scope)
            if self._num_in_flight >= self._limits.max_in_flight:
                raise ProblemError(503, "all workers are busy; try again", {"retry-after": "1"})
            self._num_in_flight += 1
            try:
                await self._serve(scope, receive, answer)
            finally:
                self._num_in_flight -= 1
        except ProblemError as problem:
            await answer.refuse(problem.status, problem.detail, problem.headers)
        except Exception:  # outermost boundary: any error becomes a response
            logger.exception("request %s failed", answer.request_id)
            await answer.refuse(500, "internal error of the service; see its log", {})

    async def _serve(self, scope: _Message, receive: _Receive, answer: "_Answer") -> None:
        limits = self._limits
        body = _Body(receive, limits)
        task = asyncio.ensure_future(self._app(scope, body, answer.send))
        started = asyncio.ensure_future(answer.started.wait())
        try:
            await asyncio.wait(
                {task, started},
                timeout=limits.request_timeout_s,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if not task.done() and not answer.started.is_set():
                raise ProblemError(504, f"no answer within {limits.request_timeout_s:g} s")
            await task
        finally:
            started.cancel()
            task.cancel()
        if body.problem is not None and not answer.started.is_set():
            raise body.problem

    def _check(self, scope: _Message) -> None:
        limits, path = self._limits, scope["path"]
        headers = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.lower(), value)
        if len(scope.get("raw_path") or b"") + len(scope["query_string"]) > limits.max_url_bytes:
            raise ProblemError(400, f"the URL is longer than {limits.max_url_bytes} bytes")
        if "\x00" in path or "\\" in path or ".." in path.split("/"):
            raise ProblemError(400, "the path is not allowed")
        self._check_rate((scope.get("client") or ("", 0))[0])
        is_open = path in OPEN_PATHS or path.startswith("/web/")
        if limits.token and not is_open and not _has_token(headers, limits.token):
            raise ProblemError(
                401, "send `Authorization: Bearer TOKEN`", {"www-authenticate": "Bearer"}
            )
        length = headers.get(b"content-length")
        if length is not None and not (length.isdigit() and int(length) <= limits.max_body_bytes):
            raise ProblemError(413, f"a body may have at most {limits.max_body_bytes} bytes")

    def _check_rate(self, client: str) -> None:
        """Token bucket per client address."""
        limits, now_s = self._limits, time.monotonic()
        left, then_s = self._clients.get(client, (float(limits.burst), now_s))
        left = min(left + (now_s - then_s) * limits.requests_per_s, float(limits.burst))
        self._clients[client] = (max(left - 1, 0.0), now_s)
        if left < 1:
            raise ProblemError(429, "too many requests from this address", {"retry-after": "1"})


class _Body:
    """The request body as the app reads it, limited in bytes and time."""

    def __init__(self, receive: _Receive, limits: Limits) -> None:
        self._receive, self._limits = receive, limits
        self._num_bytes, self._is_whole = 0, False
        self._give_up_s = time.monotonic() + limits.body_timeout_s
        self.problem: ProblemError | None = None

    async def __call__(self) -> _Message:
        if self._is_whole:
            return await self._receive()
        try:
            message = await asyncio.wait_for(
                self._receive(), max(self._give_up_s - time.monotonic(), 0.01)
            )
        except TimeoutError:
            raise self._refuse(408, "the body took too long to arrive") from None
        self._num_bytes += len(message.get("body", b""))
        self._is_whole = not message.get("more_body", False)
        if self._num_bytes > self._limits.max_body_bytes:
            raise self._refuse(413, f"a body may have at most {self._limits.max_body_bytes} bytes")
        return message

    def _refuse(self, status: int, detail: str) -> ProblemError:
        self.problem = ProblemError(status, detail)
        return self.problem


class _Answer:
    """Sends the response with the request id and records whether it has started."""

    def __init__(self, send: _Send, request_id: str) -> None:
        self._send, self.request_id = send, request_id
        self.started = asyncio.Event()

    async def send(self, message: _Message) -> None:
        if message["type"] == "http.response.start":
            headers = list(message.get("headers", []))
            headers += [
                (b"x-request-id", self.request_id.encode()),
                (b"x-content-type-options", b"nosniff"),
                (b"referrer-policy", b"no-referrer"),
            ]
            message["headers"] = headers
            self.started.set()
        await self._send(message)

    async def refuse(self, status: int, detail: str, headers: dict[str, str]) -> None:
        if self.started.is_set():
            return  # too late for a status: the client sees a truncated response
        body = json.dumps(problem_body(status, detail, self.request_id)).encode()
        fields = {"content-type": "application/problem+json", "content-length": str(len(body))}
        pairs = [(name.encode(), value.encode()) for name, value in (fields | headers).items()]
        await self.send({"type": "http.response.start", "status": status, "headers": pairs})
        await self.send({"type": "http.response.body", "body": body})


def _request_id(scope: _Message) -> str:
    given = dict(scope["headers"]).get(b"x-request-id", b"")
    return given.decode() if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


def _has_token(headers: dict[bytes, bytes], token: str) -> bool:
    """Whether the token is in a header or, for the page's <video> elements, which cannot send headers, in a cookie."""
    given = headers.get(b"authorization", b"")
    if given[:7].lower() == b"bearer ":
        return hmac.compare_digest(given[7:].strip(), token.encode())
    for part in headers.get(b"cookie", b"").split(b";"):
        name, _, value = part.strip().partition(b"=")
        if name == b"tfcovr_token":
            return hmac.compare_digest(value, token.encode())
    return False
