import asyncio
import json
from typing import Any

import pytest

from indexing.serving.middleware import Guard, Limits


def ask(limits: Limits, *, app=None, body=(b"",), path="/v1/x", headers=(), guard=None, wait_s=0.0):
    """(status, headers, JSON) of one request, spoken in plain ASGI."""
    sent: list[dict[str, Any]] = []
    parts = list(body)

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(wait_s)
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
        "headers": list(headers), "client": ("10.0.0.1", 1),
    }  # fmt: skip
    asyncio.run((guard or Guard(app or reading, limits))(scope, receive, send))
    return sent[0]["status"], dict(sent[0]["headers"]), json.loads(sent[1]["body"])


def test_a_body_may_be_neither_too_large_nor_too_slow() -> None:
    limits = Limits(max_body_bytes=10, body_timeout_s=0.05)
    assert ask(limits, body=(b"12345", b"67890"))[0] == 200
    assert ask(limits, body=(b"12345", b"67890", b"1"))[0] == 413
    assert ask(limits, headers=[(b"content-length", b"11")])[0] == 413
    assert ask(limits, headers=[(b"content-length", b"-1")])[0] == 413
    assert ask(limits, body=(b"1",) * 9, wait_s=0.02)[0] == 408


def test_a_token_is_asked_for_where_there_is_one() -> None:
    limits = Limits(token="good")
    status, headers, problem = ask(limits)
    assert (status, headers[b"www-authenticate"]) == (401, b"Bearer")
    assert problem["request_id"] == headers[b"x-request-id"].decode()
    assert ask(limits, headers=[(b"authorization", b"Bearer bad")])[0] == 401
    assert ask(limits, headers=[(b"authorization", b"Bearer good")])[0] == 200
    assert ask(limits, headers=[(b"cookie", b"a=b; tfcovr_token=good")])[0] == 200
    assert ask(limits, path="/healthz")[0] == 200


def test_a_client_has_a_rate_and_all_have_a_number() -> None:
    guard = Guard(None, Limits(burst=2, requests_per_s=0.001))

    async def quick(_scope: dict, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    guard._app = quick
    limits = Limits()
    assert [ask(limits, guard=guard)[0] for _ in range(3)] == [204, 204, 429]
    full = Guard(quick, Limits(max_in_flight=1))
    full._num_in_flight = 1
    assert ask(limits, guard=full)[0] == 503


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
