"""Floods: what one hostile client does for some seconds with all that it has, from a process and an address of its own.

`python -m benchmarks.search.floods NAME --port PORT --seconds S`. Each flood keeps `NUM_CONNECTIONS` connections busy, or as many as
its kind says.
"""

import argparse
import asyncio
import itertools
import json
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress

SOURCE = "127.0.0.1"
NUM_CONNECTIONS = 64
_REPLY_S = 70.0
_TOKEN = "benchmark"
_Send = Callable[[int, int], Awaitable[None]]
"""(port, number of the request) of one request, from its connection to the end of its answer."""


def _head(method: str, path: str, *headers: str, length: int | None = None) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "host: 127.0.0.1", f"authorization: Bearer {_TOKEN}", *headers]  # fmt: skip
    lines += [] if length is None else [f"content-length: {length}"]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def _exchange(port: int, *parts: bytes, read: bool = True, hold_s: float = 0.0) -> None:
    """Send the parts one after the other, then read to the end or hold the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(SOURCE, 0))
    try:
        for part in parts:
            writer.write(part)
            await writer.drain()
        if read:
            async with asyncio.timeout(_REPLY_S):
                while await reader.read(1 << 16):
                    pass
        await asyncio.sleep(hold_s)
    finally:
        writer.transport.abort()


def _json(body: bytes) -> _Send:
    head = _head("POST", "/v1/search", "content-type: application/json", "connection: close", length=len(body))  # fmt: skip

    async def send(port: int, _number: int) -> None:
        await _exchange(port, head, body)

    return send


def _get(path: str, *headers: str) -> _Send:
    """`{}` in the path or in a header stands for the number of the request."""

    async def send(port: int, number: int) -> None:
        filled = (header.format(number) for header in headers)
        await _exchange(port, _head("GET", path.format(number % 48), "connection: close", *filled))

    return send


def _form(num_bytes: int, content: bytes) -> _Send:
    start = b'--xx\r\ncontent-disposition: form-data; name="video"; filename="a.mp4"\r\n\r\n'
    end = b"\r\n--xx--\r\n"
    content = (content * (num_bytes // len(content) + 1))[:num_bytes]
    length = len(start) + num_bytes + len(end)
    head = _head("POST", "/v1/search", "content-type: multipart/form-data; boundary=xx", "connection: close", length=length)  # fmt: skip

    async def send(port: int, _number: int) -> None:
        await _exchange(port, head, start, content, end)

    return send


async def _search(port: int, number: int) -> None:
    body = json.dumps({"edits": [f"with {number} twists"], "limit": 100, "filters": {"label": [f"label-{i:03d}" for i in range(200)]}}).encode()  # fmt: skip
    await _json(body)(port, number)


async def _leave(port: int, number: int) -> None:
    """Ask and leave."""
    body = json.dumps({"edits": [f"with {number} twists"]}).encode()
    head = _head("POST", "/v1/search", "content-type: application/json", length=len(body))
    await _exchange(port, head, body, read=False)


async def _leave_trims(port: int, number: int) -> None:
    await _exchange(port, _head("GET", f"/v1/clip/media?id=heavy-{number % 48}&trim=true"), read=False, hold_s=0.2)  # fmt: skip


async def _slow_body(port: int, _number: int) -> None:
    head = _head("POST", "/v1/search", "content-type: application/json", length=1000)
    await _exchange(port, head, b"{", read=False, hold_s=_REPLY_S)


async def _slow_reader(port: int, _number: int) -> None:
    await _exchange(port, _head("GET", "/v1/clip/media?id=large"), read=False, hold_s=_REPLY_S)


async def _half_header(port: int, _number: int) -> None:
    await _exchange(port, b"GET / HTTP/1.1\r\nhost: 127.0.0.1\r\n", read=False, hold_s=_REPLY_S)


async def _drip(port: int, _number: int) -> None:
    """A header that never ends, a byte a second."""
    await _exchange(port, b"GET / HTTP/1.1\r\nx: ", read=False)
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(SOURCE, 0))
    writer.write(b"GET / HTTP/1.1\r\nx: ")
    try:
        while not writer.is_closing() and not reader.at_eof():
            writer.write(b"a")
            await writer.drain()
            await asyncio.sleep(1)
    finally:
        writer.transport.abort()


def _of_lists(num_bytes: int) -> bytes:
    return b'{"filters":{"label":[' + b",".join([b"{}"] * (num_bytes // 3)) + b"]}}"


FLOODS: dict[str, tuple[_Send, int]] = {
    "json_lists_allowed": (_json(_of_lists(250 << 10)), NUM_CONNECTIONS),
    "json_lists_large": (_json(_of_lists(1500 << 10)), NUM_CONNECTIONS),
    "json_keys": (_json(b"{" + b",".join(b'"%d":1' % i for i in range(20_000)) + b"}"), NUM_CONNECTIONS),
    "json_depth": (_json(b'{"x":' + b"[" * 100_000), NUM_CONNECTIONS),
    "searches": (_search, NUM_CONNECTIONS),
    "searches_left": (_leave, NUM_CONNECTIONS),
    "forwarded_for": (_get("/v1/clips?label={0}", "x-forwarded-for: 203.0.113.{}"), NUM_CONNECTIONS),
    "slow_bodies": (_slow_body, 300),
    "slow_readers": (_slow_reader, 300),
    "half_headers": (_half_header, 3000),
    "dripped_headers": (_drip, 300),
    "trims": (_get("/v1/clip/media?id=heavy-{}&trim=true"), NUM_CONNECTIONS),
    "trims_left": (_leave_trims, NUM_CONNECTIONS),
    "strips": (_get("/v1/clip/strip.jpg?id=heavy-{}"), NUM_CONNECTIONS),
    "uploads": (_form(50 << 20, os.urandom(1 << 20)), 12),
    "forms_of_delimiters": (_form(16 << 20, b"\r\n--x"), 12),
}  # fmt: skip
"""By name: a request, and how many connections send it."""


async def flood(name: str, port: int, seconds: float) -> int:
    """Send one request after the other on each connection; the number of requests."""
    send, num_connections = FLOODS[name]
    loop = asyncio.get_running_loop()
    numbers, end_s = itertools.count(), loop.time() + seconds

    async def client() -> None:
        while loop.time() < end_s:
            with suppress(OSError, TimeoutError):
                await send(port, next(numbers))
            await asyncio.sleep(0.01)

    tasks = [asyncio.ensure_future(client()) for _ in range(num_connections)]
    await asyncio.wait(tasks, timeout=seconds)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return next(numbers)


def main() -> None:
    """Print the number of requests."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=sorted(FLOODS))
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    arguments = parser.parse_args()
    os.nice(10)  # another machine in practice: it must not take the cores of the service
    print(asyncio.run(flood(arguments.name, arguments.port, arguments.seconds)))  # noqa: T201


if __name__ == "__main__":
    main()
