import asyncio
import json
from typing import Any

import pytest

from indexing.serving.guard.limits import Limits
from indexing.serving.guard.middleware import Guard


def ask(limits: Limits, **request) -> tuple[int, dict, Any]:
    """(status, headers, JSON) of one request."""
    status, headers, body = ask_raw(limits, **request)
    return status, headers, json.loads(body)


def ask_raw(
    limits: Limits, *, app=None, body=(b"",), path="/v1/x", headers=(), guard=None, wait_s=0.0,
    method="POST", client="10.0.0.1",
):  # fmt: skip
    """(status, headers, body) of one request, spoken in plain ASGI."""
    sent: list[dict[str, Any]] = []
    parts = list(body)

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(wait_s)
        if not parts:
            await asyncio.Event().wait()  # the client stays
        part = parts.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(parts)}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async def reading(_scope: dict, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    scope = {
        "type": "http", "path": path, "raw_path": path.encode(), "query_string": b"",
        "headers": [*headers, *([(b"transfer-encoding", b"chunked")] if body != (b"",) else [])],
        "client": (client, 1), "method": method,
    }  # fmt: skip
    asyncio.run((guard or Guard(app or reading, limits))(scope, receive, send))
    return sent[0]["status"], dict(sent[0]["headers"]), sent[1]["body"]


def test_a_body_may_be_neither_too_large_nor_too_slow() -> None:
    limits = Limits(max_json_bytes=10, body_timeout_s=0.05)
    assert ask(limits, body=(b"12345", b"67890"))[0] == 200
    assert ask(limits, body=(b"12345", b"67890", b"1"))[0] == 413
    assert ask(limits, headers=[(b"content-length", b"11")])[0] == 413
    assert ask(limits, headers=[(b"content-length", b"-1")])[0] == 413
    assert ask(limits, body=(b"1",) * 9, wait_s=0.02)[0] == 408


def test_head_is_get_without_its_body() -> None:
    async def endless(scope: dict, _receive: Any, send: Any) -> None:
        assert scope["method"] == "GET"
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"9")]})  # fmt: skip
        while True:
            await send({"type": "http.response.body", "body": b"[]", "more_body": True})

    status, headers, body = ask_raw(Limits(), app=endless, method="HEAD")
    assert (status, headers[b"content-length"], body) == (200, b"9", b"")
    assert ask_raw(Limits(), method="HEAD", path="/healthz")[::2] == (200, b"")
    assert ask_raw(Limits(token="good"), method="HEAD")[::2] == (401, b"")


def test_a_token_is_asked_for_where_there_is_one() -> None:
    limits = Limits(token="good")
    status, headers, problem = ask(limits)
    assert (status, headers[b"www-authenticate"]) == (401, b"Bearer")
    assert problem["request_id"] == headers[b"x-request-id"].decode()
    assert ask(limits, headers=[(b"authorization", b"Bearer bad")])[0] == 401
    assert ask(limits, headers=[(b"authorization", b"Bearer good")])[0] == 200
    assert ask(limits, headers=[(b"cookie", b"a=b; tfcovr_token=good")])[0] == 200
    assert ask(limits, path="/healthz")[0] == 200
    assert ask(limits, path="/-/routes")[0] == 401


def test_a_client_has_a_rate() -> None:
    guard = Guard(None, Limits(burst=2, requests_per_s=0.001))

    async def quick(_scope: dict, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    guard._app = quick
    limits = Limits()
    assert [ask(limits, guard=guard)[0] for _ in range(3)] == [204, 204, 429]
    assert ask(limits, guard=guard, client="10.0.0.2")[0] == 204


def test_an_app_that_hangs_or_breaks_gets_an_answer() -> None:
    async def hangs(*_: Any) -> None:
        await asyncio.sleep(60)

    async def breaks(*_: Any) -> None:
        raise KeyError("a secret detail")

    assert ask(Limits(request_timeout_s=0.05), app=hangs)[0] == 504
    status, _, problem = ask(Limits(), app=breaks)
    assert status == 500
    assert "secret" not in json.dumps(problem)


@pytest.mark.parametrize("path", ["/a/../b", "/a\x00", "/a\\b", "/" + "a" * 9000])
def test_paths_that_lead_elsewhere_are_refused(path: str) -> None:
    assert ask(Limits(), path=path)[0] == 400


class Asked:
    """A request that is held by an app that waits, and whose client may leave."""

    def __init__(self, guard: Guard, *, client: str, path: str = "/v1/x", headers=()) -> None:
        self._left = asyncio.Event()
        self.statuses: list[int] = []
        scope = {
            "type": "http", "path": path, "raw_path": path.encode(), "query_string": b"", "method": "GET",
            "headers": list(headers), "client": (client, 1),
        }  # fmt: skip
        self.task = asyncio.ensure_future(guard(scope, self._receive, self._send))

    async def _receive(self) -> dict[str, Any]:
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.statuses.append(message["status"])

    async def leave(self) -> None:
        self._left.set()
        await asyncio.wait_for(self.task, 5)


class Waiting:
    """An app that answers when it may; it counts the requests that were cancelled."""

    def __init__(self) -> None:
        self.may_answer, self.num_cancelled = asyncio.Event(), 0

    async def __call__(self, scope: dict, _receive: Any, send: Any) -> None:
        try:
            if scope["path"] != "/healthz":
                await self.may_answer.wait()
        except asyncio.CancelledError:
            self.num_cancelled += 1
            raise
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})


def test_a_client_has_a_share_of_the_places_and_health_has_its_own() -> None:
    async def test() -> None:
        app = Waiting()
        guard = Guard(app, Limits(max_in_flight=3, max_in_flight_per_client=2, burst=1000))
        asked = [Asked(guard, client=client) for client in "aaabbc"]
        asked += [Asked(guard, client="a", path="/healthz") for _ in range(5)]
        await asyncio.sleep(0.05)
        assert [one.statuses for one in asked] == [[], [], [429], [], [503], [503], *[[200]] * 5]
        app.may_answer.set()
        await asyncio.gather(*(one.task for one in asked))
        assert [asked[i].statuses for i in (0, 1, 3)] == [[200]] * 3
        again = Asked(guard, client="a")
        await again.task
        assert again.statuses == [200]  # the places came back

    asyncio.run(test())


def test_a_request_whose_client_left_is_cancelled_and_its_place_is_free() -> None:
    async def test() -> None:
        app = Waiting()
        guard = Guard(app, Limits(max_in_flight=1, max_in_flight_per_client=1))
        first = Asked(guard, client="a")
        await asyncio.sleep(0.02)
        await first.leave()
        await asyncio.sleep(0.02)
        assert app.num_cancelled == 1
        app.may_answer.set()
        second = Asked(guard, client="a")
        await second.task
        assert second.statuses == [200]

    asyncio.run(test())


def test_uploads_in_progress_are_counted_in_bytes() -> None:
    def upload(num_bytes: int) -> list[tuple[bytes, bytes]]:
        kind = (b"content-type", b"multipart/form-data; boundary=x")
        return [kind, (b"content-length", str(num_bytes).encode())]

    async def test() -> None:
        guard = Guard(Waiting(), Limits(max_json_bytes=10, max_body_bytes=60, max_upload_bytes=100))
        asked = [Asked(guard, client=c, headers=upload(n)) for c, n in (("a", 30), ("a", 30), ("b", 50), ("c", 40), ("c", 20))]  # fmt: skip
        await asyncio.sleep(0.02)
        assert [one.statuses for one in asked] == [[], [429], [], [503], []]
        asked[0].task.cancel()
        await asyncio.wait({asked[0].task})
        again = Asked(guard, client="a", headers=upload(30))
        await asyncio.sleep(0.02)
        assert again.statuses == []
        for one in (*asked, again):
            one.task.cancel()

    asyncio.run(test())


def test_an_answer_must_be_read_at_some_rate() -> None:
    cut = []

    async def large(_scope: dict, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            while True:
                await send({"type": "http.response.body", "body": b"x" * 10, "more_body": True})
        except asyncio.CancelledError:
            cut.append(1)
            raise

    async def never() -> dict[str, Any]:
        await asyncio.Event().wait()
        raise AssertionError

    async def slow(_message: Any) -> None:
        await asyncio.sleep(0.05)  # 200 bytes a second

    async def test() -> None:
        guard = Guard(large, Limits(reader_grace_s=0.2, min_bytes_per_s=1000))
        scope = {"type": "http", "path": "/v1/x", "query_string": b"", "method": "GET", "headers": [], "client": ("b", 1)}  # fmt: skip
        await asyncio.wait_for(guard(scope, never, slow), 10)

    asyncio.run(test())
    assert cut
