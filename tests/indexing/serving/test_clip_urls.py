"""Against a local HTTP server that does what it is asked to."""

import asyncio
import io
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from indexing.serving import clip_urls
from indexing.serving.clip_urls import (
    ClipUrls,
    UrlPolicy,
    UrlRefusedError,
    checked_target,
    fetch_url,
    is_public,
)
from indexing.serving.guard.problems import ProblemError

BODY = bytes(range(256)) * 40


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        self.server.seen.append((self.path, self.headers["Host"]))

    def do_GET(self) -> None:
        kind, _, rest = self.path.lstrip("/").partition("?")
        getattr(self, f"_{kind}")(rest)

    def _send(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in ({"Content_Length": str(len(body))} | headers).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def _good(self, _: str) -> None:
        self._send(200, BODY)

    def _to(self, where: str) -> None:
        self._send(302, b"", Location=where)

    def _missing(self, _: str) -> None:
        self._send(404, b"no")

    def _packed(self, _: str) -> None:
        self._send(200, BODY, Content_Encoding="gzip")

    def _torn(self, _: str) -> None:
        self._send(200, BODY, Content_Length=str(len(BODY) + 9))
        self.close_connection = True

    def _chunks(self, _: str) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for _number in range(40):
            self.wfile.write(b"100\r\n" + bytes(256) + b"\r\n")
        self.wfile.write(b"0\r\n\r\n")

    def _drip(self, _: str) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\n")
        while True:
            self.wfile.write(b"X: y\r\n")
            self.wfile.flush()
            time.sleep(0.02)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A client that hangs up is what some tests want."""


@pytest.fixture(scope="module")
def server() -> Iterator[_Server]:
    opened = _Server(("127.0.0.1", 0), _Handler)
    opened.seen = []
    thread = threading.Thread(target=opened.serve_forever, daemon=True)
    thread.start()
    yield opened
    opened.shutdown()
    opened.server_close()
    thread.join()


@pytest.fixture
def port(server: _Server) -> int:
    return server.server_address[1]


@pytest.fixture
def policy(port: int) -> UrlPolicy:
    return UrlPolicy(hosts=(f"media.test:{port}",), allow_private=True, deadline_s=5)


def fetch(path: str, port: int, policy: UrlPolicy, addresses: tuple[str, ...] = ("127.0.0.1",)):
    out = io.BytesIO()
    fetch_url(f"http://media.test:{port}/{path}", policy, out, resolve=lambda *_: addresses)
    return out.getvalue()


def test_an_allowed_host_is_spoken_to_by_its_name(server, port, policy) -> None:
    assert fetch("good", port, policy) == BODY
    assert server.seen[-1] == ("/good", f"media.test:{port}")
    assert fetch("chunks", port, policy) == bytes(256 * 40)


def test_redirects_stay_on_their_host(server, port, policy) -> None:
    assert fetch("to?/good", port, policy) == BODY
    assert fetch(f"to?http://media.test:{port}/good", port, policy) == BODY
    both = replace(policy, hosts=(*policy.hosts, f"other.test:{port}"))
    with pytest.raises(UrlRefusedError, match="another host"):
        fetch(f"to?http://other.test:{port}/good", port, both)
    for where in ("http://169.254.169.254/", f"http://media.test:{port + 1}/", "file:///etc/passwd", "http://[", "//[x]/"):  # fmt: skip
        num_before = len(server.seen)
        with pytest.raises(UrlRefusedError):
            fetch(f"to?{where}", port, policy)
        assert len(server.seen) == num_before + 1
    with pytest.raises(UrlRefusedError, match="more than 3 times"):
        fetch("to?/to?/to?/to?/good", port, policy)


def test_a_private_address_is_refused_before_anything_is_sent(server, port, policy) -> None:
    public_only = replace(policy, allow_private=False)
    num_before = len(server.seen)
    for addresses in (("127.0.0.1",), ("93.184.216.34", "127.0.0.1"), ("::ffff:10.0.0.1",), ("fe80::1%eth0",)):  # fmt: skip
        with pytest.raises(UrlRefusedError, match="private address"):
            fetch("good", port, public_only, addresses)
    with pytest.raises(UrlRefusedError, match="no address"):
        fetch("good", port, policy, ())
    assert len(server.seen) == num_before


@pytest.mark.parametrize(
    ("path", "said"),
    [("missing", "status 404"), ("packed", "compressed"), ("torn", "could not be fetched")],
)
def test_answers_that_are_no_clip(port, policy, path: str, said: str) -> None:
    with pytest.raises(UrlRefusedError, match=said):
        fetch(path, port, policy)


@pytest.mark.parametrize("path", ["good", "chunks"])
def test_a_large_answer_is_left_with_and_without_its_length(port, policy, path: str) -> None:
    with pytest.raises(UrlRefusedError, match="more than 4000 bytes"):
        fetch(path, port, replace(policy, max_bytes=4000))


def test_headers_that_drip_end_at_the_deadline(port, policy) -> None:
    started = time.monotonic()
    with pytest.raises(UrlRefusedError, match=r"longer than 0\.3 s"):
        fetch("drip", port, replace(policy, deadline_s=0.3))
    assert time.monotonic() - started < 2


@pytest.mark.parametrize(
    "url",
    [
        "http://other.test/", "http://media.test.evil.test/", "http://media.test@evil.test/", "http://evil.test/?media.test",
        "http://evil.test#@media.test/", "http://media.test\\@evil.test/", "ftp://media.test/a", "file:///etc/passwd", "//media.test/a",
        "http://media.test:22/", "http://media.test:99999/", "http:///a", "http://media.test%2f@evil.test/", "http://m\u00e9dia.test/",
        "http://media\u3002test/", "http://media.test/a b", "http://media.test/\r\nHost: evil.test", "http://2130706433/", "http://0x7f.1/",
        "http://[::1]/", "http://media.test/" + "a" * 3000, "javascript:alert(1)", "media.test/a", "http://.media.test/", "",
    ],
)  # fmt: skip
def test_urls_that_lead_elsewhere_are_refused(url: str) -> None:
    with pytest.raises(UrlRefusedError):
        checked_target(url, UrlPolicy(hosts=("media.test",)))


def test_an_allowed_name_is_taken_however_it_is_written() -> None:
    policy = UrlPolicy(hosts=("media.test", "[::1]:8080"))
    assert checked_target("HTTPS://Media.Test./a?b=c", policy).url == "https://media.test:443/a?b=c"
    assert checked_target("http://[::1]:8080/a", policy).host == "[::1]"
    with pytest.raises(UrlRefusedError, match="are disabled"):
        checked_target("http://media.test/", UrlPolicy())


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("93.184.216.34", True), ("2606:2800:220:1::1", True), ("10.1.2.3", False), ("127.0.0.1", False), ("169.254.169.254", False),
        ("100.64.0.1", False), ("0.0.0.0", False), ("224.0.0.1", False), ("240.0.0.1", False), ("::1", False), ("fc00::1", False),
        ("fe80::1", False), ("::ffff:127.0.0.1", False), ("64:ff9b::7f00:1", False), ("2002:7f00:1::", False), ("ff02::1", False),
        ("localhost", False),
    ],
)  # fmt: skip
def test_which_addresses_are_public(address: str, expected: bool) -> None:
    assert is_public(address) is expected


@pytest.mark.parametrize("host", ["*.example.org", "http://a.test", "a.test/x", "A.test", "a.test:", "a.test:99999", ""])  # fmt: skip
def test_a_host_that_is_no_host_is_named(host: str) -> None:
    with pytest.raises(ValueError, match="must be HOST or HOST:PORT"):
        UrlPolicy(hosts=(host,))


def test_a_refusal_is_the_fault_of_the_request() -> None:
    with pytest.raises(ProblemError, match="are disabled") as refused:
        asyncio.run(ClipUrls(UrlPolicy()).fetch("http://media.test/a.mp4", io.BytesIO()))
    assert refused.value.status == 422


def test_more_than_a_few_at_once_are_refused_and_room_comes_back(monkeypatch) -> None:
    gate = threading.Event()

    def slow(_url: str, _policy: UrlPolicy, out: io.BytesIO) -> None:
        assert gate.wait(5)
        out.write(b"video")

    monkeypatch.setattr(clip_urls, "fetch_url", slow)
    urls = ClipUrls(UrlPolicy(hosts=("media.test",)))

    async def fetch(client: str) -> bytes | int:
        out = io.BytesIO()
        try:
            await urls.fetch("u", out, client=client)
        except ProblemError as problem:
            return problem.status
        return out.getvalue()

    async def ask() -> list[bytes | int]:
        tasks = [asyncio.ensure_future(fetch("a")) for _ in range(8)]
        await asyncio.sleep(0.05)
        tasks.append(asyncio.ensure_future(fetch("b")))  # another client still has a place
        await asyncio.sleep(0.05)
        gate.set()
        return [*await asyncio.gather(*tasks), await fetch("a")]

    answers = asyncio.run(ask())
    urls.close()
    assert answers[:8].count(b"video") == 6
    assert answers[:8].count(503) == 2
    assert answers[8:] == [b"video", b"video"]
