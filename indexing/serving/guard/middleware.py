"""Guard of the service: who may ask, how much at once, and for how long. Plain ASGI, so that bodies can stream.

Every response carries a request id; every refusal is a problem JSON (RFC 9457). A request whose client has left is cancelled.
/healthz passes before every check and count.
"""

import asyncio
import logging
import re
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

from indexing.serving.guard.access import HEALTH_PATH, Headers, body_length, check_sender, check_url
from indexing.serving.guard.limits import Limits
from indexing.serving.guard.problems import MEDIA_TYPE, ProblemError, problem_json
from indexing.serving.guard.rates import TOO_MANY, RateLimit

logger = logging.getLogger(__name__)
_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]
_App = Callable[[_Message, _Receive, _Send], Awaitable[None]]
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_READER_CHECK_S = 1.0
_SECURITY_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
]


class Guard:
    """ASGI middleware that enforces the limits."""

    def __init__(self, app: _App, limits: Limits) -> None:
        self._app, self._limits = app, limits
        self._rate = RateLimit(limits.requests_per_s, limits.burst)
        self._places = _Shares(limits.max_in_flight, limits.max_in_flight_per_client)
        self._upload_bytes = _Shares(limits.max_upload_bytes, max(limits.max_upload_bytes // 2, 1))

    async def __call__(self, scope: _Message, receive: _Receive, send: _Send) -> None:
        """Handle one request."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope["headers"])
        is_head = scope["method"] == "HEAD"
        if is_head:
            scope = {**scope, "method": "GET"}
        answer = _Answer(send, _request_id(headers), is_head=is_head)
        scope.setdefault("state", {})["request_id"] = answer.request_id
        try:
            if scope["path"] == HEALTH_PATH:
                await self._app(scope, receive, answer.send)
            else:
                await self._admit(scope, headers, receive, answer)
        except ProblemError as problem:
            await answer.refuse(problem.status, problem.detail, problem.headers)
        except Exception:  # outermost boundary: any error becomes a response
            logger.exception("request %s failed", answer.request_id)
            await answer.refuse(500, "internal error of the service; see its log", {})

    async def _admit(
        self, scope: _Message, headers: Headers, receive: _Receive, answer: "_Answer"
    ) -> None:
        limits, client = self._limits, (scope.get("client") or ("", 0))[0]
        check_url(scope, limits)
        if self._rate.is_exceeded(client):
            raise ProblemError(429, TOO_MANY, {"retry-after": "1"})
        check_sender(scope, headers, limits)
        announced, allowed = body_length(headers, limits)
        with self._places.taken(client) as take_place:
            if (refusal := take_place(1)) is not None:
                raise _too_many(refusal, "requests")
            with self._upload_bytes.taken(client) as take_bytes:
                body = _Body(receive, limits.body_timeout_s, allowed, announced)
                if allowed > limits.max_json_bytes:  # others are too small to be counted
                    body.take = take_bytes
                    body.reserve(announced)
                if not announced and not headers.count("transfer-encoding"):
                    body.has_none()
                await self._serve(scope, body, answer)

    async def _serve(self, scope: _Message, body: "_Body", answer: "_Answer") -> None:
        """Run the app until it has answered, its client has left or its time is over; then cancel what is left of it."""
        limits = self._limits
        task = asyncio.ensure_future(self._app(scope, body, answer.send))
        gone = asyncio.ensure_future(body.wait_gone())
        started = asyncio.ensure_future(answer.started.wait())
        try:
            await asyncio.wait(
                {task, started, gone},
                timeout=limits.request_timeout_s,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if not (task.done() or started.done() or gone.done()):
                raise ProblemError(504, f"no answer within {limits.request_timeout_s:g} s")
            while not task.done() and not _is_gone(gone, answer):
                waited = {task} if gone.done() else {task, gone}
                await asyncio.wait(
                    waited, timeout=_READER_CHECK_S, return_when=asyncio.FIRST_COMPLETED
                )
                if answer.is_cut or not answer.is_read_fast_enough(limits):
                    return
            if task.done():
                task.result()
        finally:
            for part in (started, gone, task):
                part.cancel()
            task.add_done_callback(_retrieve)
        if body.problem is not None and not answer.started.is_set():
            raise body.problem


def _retrieve(task: "asyncio.Future[None]") -> None:
    """Mark the error of a task that nobody waits for any more as seen."""
    if not task.cancelled():
        task.exception()


def _is_gone(gone: "asyncio.Future[None]", answer: "_Answer") -> bool:
    """Whether the client left before it had the answer; what the app does after its answer is not cut short."""
    return gone.done() and not answer.is_complete


class _Shares:
    """A number of places, of which one client may take a part."""

    def __init__(self, num_all: int, num_per_client: int) -> None:
        self._num_all, self._num_per_client = num_all, num_per_client
        self._num_taken, self._by_client = 0, Counter[str]()

    @contextmanager
    def taken(self, client: str) -> Iterator[Callable[[int], int | None]]:
        """A function that takes places until the block ends; it gives the status of a refusal, or None."""
        num_taken = 0

        def take(count: int) -> int | None:
            nonlocal num_taken
            if self._by_client[client] + count > self._num_per_client:
                return 429
            if self._num_taken + count > self._num_all:
                return 503
            num_taken += count
            self._num_taken += count
            self._by_client[client] += count
            return None

        try:
            yield take
        finally:
            self._num_taken -= num_taken
            self._by_client[client] -= num_taken
            if self._by_client[client] <= 0:
                del self._by_client[client]


def _too_many(status: int, what: str) -> ProblemError:
    whose = "this address has too many" if status == 429 else "the service has too many"
    return ProblemError(status, f"{whose} {what} in progress; try again", {"retry-after": "1"})


class _Body:
    """The request body as the app reads it, limited in bytes and time; then it waits for the client to leave."""

    def __init__(self, receive: _Receive, timeout_s: float, allowed: int, announced: int) -> None:
        self._receive, self._allowed, self._announced = receive, allowed, announced
        self._num_bytes = 0
        self._is_empty = False
        self._whole, self._gone = asyncio.Event(), asyncio.Event()
        self._give_up_s = time.monotonic() + timeout_s
        self.take: Callable[[int], int | None] = lambda _count: None
        self.problem: ProblemError | None = None

    def reserve(self, count: int) -> None:
        """Count bytes as being in progress; ProblemError where they are too many."""
        if (refusal := self.take(count)) is not None:
            self.problem = _too_many(refusal, "bytes of uploads")
            raise self.problem

    def has_none(self) -> None:
        """The request has no body: from now on only its client's leaving can be received."""
        self._is_empty = True
        self._whole.set()

    async def __call__(self) -> _Message:
        if self._is_empty:
            self._is_empty = False
            return {"type": "http.request", "body": b"", "more_body": False}
        if self._whole.is_set():
            await self._gone.wait()
            return {"type": "http.disconnect"}
        left_s = max(self._give_up_s - time.monotonic(), 0.01)
        try:
            message = await asyncio.wait_for(self._receive(), left_s)
        except TimeoutError:
            raise self._refuse(408, "the body took too long to arrive") from None
        if message["type"] == "http.disconnect":
            self._gone.set()
            self._whole.set()
            await asyncio.Event().wait()  # the guard cancels this request
        count = len(message.get("body", b""))
        unreserved = self._num_bytes + count - self._announced
        self._num_bytes += count
        if self._num_bytes > self._allowed:
            raise self._refuse(413, f"a body of this type may have at most {self._allowed} bytes")
        self.reserve(max(min(count, unreserved), 0))
        if not message.get("more_body", False):
            self._whole.set()
        return message

    async def wait_gone(self) -> None:
        """Return when the client has left. The app reads the body, so that its end is awaited first."""
        await self._whole.wait()
        while not self._gone.is_set():
            if (await self._receive())["type"] == "http.disconnect":
                self._gone.set()

    def _refuse(self, status: int, detail: str) -> ProblemError:
        self.problem = ProblemError(status, detail)
        return self.problem


class _Answer:
    """Sends the response with the request id, and records how far it is. The answer to HEAD is that to GET without its body."""

    def __init__(self, send: _Send, request_id: str, *, is_head: bool = False) -> None:
        self._send, self.request_id, self._is_head = send, request_id, is_head
        self.started = asyncio.Event()
        self.is_complete, self.is_cut = False, False
        self._started_s, self._num_bytes = 0.0, 0

    async def send(self, message: _Message) -> None:
        if message["type"] == "http.response.start":
            own = [(b"x-request-id", self.request_id.encode()), *_SECURITY_HEADERS]
            message["headers"] = [*message.get("headers", []), *own]
            self._started_s = time.monotonic()
            self.started.set()
        elif self._is_head:
            self.is_cut = message.get("more_body", False)
            message = {"type": "http.response.body", "body": b""}
        await self._send(message)
        if message["type"] == "http.response.body":
            self._num_bytes += len(message.get("body", b""))
            self.is_complete = not message.get("more_body", False)
        if self.is_cut:
            await asyncio.Event().wait()  # nothing more is wanted: the guard cancels this request

    def is_read_fast_enough(self, limits: Limits) -> bool:
        """Whether the client reads at the rate that it must."""
        allowed_s = limits.reader_grace_s + self._num_bytes / limits.min_bytes_per_s
        return self.is_complete or time.monotonic() - self._started_s <= allowed_s

    async def refuse(self, status: int, detail: str, headers: dict[str, str]) -> None:
        if self.started.is_set():
            return  # too late for a status: the client sees a truncated response
        body = problem_json(status, detail, self.request_id)
        fields = {"content-type": MEDIA_TYPE, "content-length": str(len(body))}
        pairs = [(name.encode(), value.encode()) for name, value in (fields | headers).items()]
        await self.send({"type": "http.response.start", "status": status, "headers": pairs})
        await self.send({"type": "http.response.body", "body": body})


def _request_id(headers: Headers) -> str:
    given = headers.get("x-request-id")
    return given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
