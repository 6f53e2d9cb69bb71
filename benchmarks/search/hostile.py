"""Requests that a hostile client would send, and what each must not achieve.

A request counts as succeeded when it gets a 2xx answer that it should not get, any 5xx other than 503 and 504, or a byte of
the secret that lies beside the archive.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

SECRET = b"root:x:0:0"
ALLOWED_HOSTS = ("localhost", "127.0.0.1")
"""What a service under test may allow: the attacks then get past the list, and must fail at the address."""
_JSON = {"content-type": "application/json"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Hostile:
    """One request; `may_answer` = a 2xx is not a success of the attack as long as no secret is in it."""

    name: str
    path: str
    method: str = "GET"
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    may_answer: bool = False
    has_token: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """What came back."""

    status: int
    body: bytes


def has_succeeded(request: Hostile, reply: Reply) -> bool:
    """Whether the attack got what it wanted."""
    if SECRET in reply.body or b"Traceback" in reply.body:
        return True
    if 200 <= reply.status < 300:
        return not request.may_answer
    return reply.status >= 500 and reply.status not in (503, 504)


def try_all(send: Callable[[Hostile], Reply], requests: Iterable[Hostile]) -> dict[str, int]:
    """Name of each attack that succeeded -> its status; {} is what is wanted."""
    replies = ((request, send(request)) for request in requests)
    return {
        request.name: reply.status for request, reply in replies if has_succeeded(request, reply)
    }


def hostile_requests(clip_id: str) -> Iterator[Hostile]:
    """All of them; `clip_id` is one that exists."""
    yield from _paths()
    yield from _ranges(clip_id)
    yield from _queries(clip_id)
    yield from _urls(clip_id)
    yield from _uploads()
    yield from _tokens(clip_id)
    yield from _ids()
    yield from _pages(clip_id)
    yield from _headers(clip_id)


def _paths() -> Iterator[Hostile]:
    for number, path in enumerate((
        "/v1/clips/..%2f..%2f..%2fetc%2fpasswd/media", "/v1/clips/%2fetc%2fpasswd/media", "/v1/clips/file:%2f%2f%2fetc%2fpasswd/media",
        "/v1/clips/....%2f%2f....%2f%2fetc%2fpasswd/media", "/v1/clips/%252e%252e%252fetc%252fpasswd/media",
        "/v1/clips/..%5c..%5cetc%5cpasswd/media", "/v1/clips/%00/media", "/v1/clips/etc%ef%bc%8fpasswd/media",
        "/web/..%2f..%2fetc%2fpasswd", "/web/%2e%2e/app.py", "/web/..%2fapp.py", "/web/%2fetc%2fpasswd", "/web/.git/config",
        "/v1/clips/http:%2f%2f169.254.169.254%2flatest/media", "/v1/clips/http:%2f%2flocalhost:22/strip.jpg",
        "/v1/clips/concat:%2fetc%2fpasswd/strip.jpg", "/v1/clips/" + "a" * 20_000, "/v1/clips/%ff%fe/media",
        "/v1/clips/x%22%20or%20clip_id%20!=%20%22/media", "/v1/clips/x%5c%22%20or%201==1%20or%20%22/media",
    )):  # fmt: skip
        yield Hostile(name=f"path-{number}", path=path)


def _ranges(clip_id: str) -> Iterator[Hostile]:
    path = f"/v1/clips/{clip_id}/media"
    for number, value in enumerate((
        "bytes=99999999999-", "bytes=5-1", "bytes=-0", "bytes=a-b", "bytes=0-1,2-3", "bytes=--1", "items=0-5",
        "bytes=" + "0-1," * 50 + "0-1", "bytes=18446744073709551616-", "bytes=\u0661-2".encode().decode("latin-1"),
    )):  # fmt: skip
        yield Hostile(name=f"range-{number}", path=path, headers={"range": value})


def _queries(clip_id: str) -> Iterator[Hostile]:
    def ask(name: str, query: Any, *, may_answer: bool = False) -> Hostile:
        body = query if isinstance(query, bytes) else json.dumps(query).encode()
        return Hostile(name=name, path="/v1/search", method="POST", headers=_JSON, body=body, may_answer=may_answer)  # fmt: skip

    for number, clip in enumerate((
        "/etc/passwd", "../../../etc/passwd", "file:///etc/passwd", "http://169.254.169.254/latest/meta-data",
        "https://localhost:19530/", "/etc/passwd@0-1", 'x" or clip_id != "', "\\\" or 1 == 1 or \\\"", "pipe:0", "clip\u0000id",
    )):  # fmt: skip
        yield ask(f"clip-{number}", {"clip": clip, "edits": ["in tuck"]})
    for number, filters in enumerate((
        {"split == 'x' or clip_id": "y"}, {"1 == 1 or split": "test"}, {"embedding": "x"}, {"clip_key": "x"}, {"__proto__": "x"},
        {"split": {"$ne": 1}}, {"split": [["a"]]}, {"duration_s": ["a", "b"]}, {"start_s": "0 or 1 == 1"}, {"split": "te\u0000st"},
        {"start_s": [5, 1]}, {"duration_s": [None, None]},
    )):  # fmt: skip
        yield ask(f"filter-{number}", {"clip": clip_id, "filters": filters})
    quote = {"split": 'no" or split != "', "label": "no\\"}
    yield ask("filter-quote", {"clip": clip_id, "filters": quote}, may_answer=True)
    yield ask(
        "filter-unicode", {"clip": clip_id, "filters": {"split": "\u201d or 1"}}, may_answer=True
    )
    yield ask("limit-huge", {"clip": clip_id, "limit": 10**9})
    yield ask("limit-negative", {"clip": clip_id, "limit": -1})
    yield ask("strength-nan", b'{"clip": "a", "strength": NaN}')
    yield ask("strength-infinite", b'{"clip": "a", "strength": 1e999}')
    yield ask("nested", b"[" * 100_000)
    yield ask("not-json", b"\x80\x81")
    yield ask("unknown-field", {"clip": clip_id, "bundle_dir": "/etc"})
    yield ask("edit-huge", {"clip": clip_id, "edits": ["a" * 5000]})
    yield ask("edits-many", {"clip": clip_id, "edits": ["in tuck"] * 1000})
    yield ask("surrogate", b'{"clip": "\\ud800", "edits": ["in tuck"]}')
    yield ask("edit-surrogate", b'{"edits": ["\\ud800"]}', may_answer=True)
    yield ask("liked-injection", {"clip": clip_id, "liked": ['" or "" == "']})


def _urls(clip_id: str) -> Iterator[Hostile]:
    """Query clips by URL, for a service where they are off or where only ALLOWED_HOSTS are allowed, at public addresses."""
    for number, url in enumerate((
        "http://169.254.169.254/latest/meta-data/", "http://localhost/", "http://localhost:443/", "http://localhost:22/", "http://127.0.0.1:9/",
        "http://127.0.0.1/", "http://2130706433/", "http://0x7f000001/", "http://017700000001/", "http://127.1/", "http://0/", "http://[::1]/",
        "http://[::ffff:127.0.0.1]/", "http://[::ffff:7f00:1]/", "http://[64:ff9b::7f00:1]/", "http://localhost.evil.test/",
        "http://localhost@169.254.169.254/", "http://169.254.169.254#@localhost/", "http://169.254.169.254\\@localhost/",
        "http://localhost%2f@evil.test/", "http://127\u30020\u30020\u30021/", "http://\u24db\u24de\u24d2\u24d0\u24db\u24d7\u24de\u24e2\u24e3/",
        "http://localhost/\r\nHost: evil.test", "http://localhost\t/", " http://localhost/", "file:///etc/passwd", "file://localhost/etc/passwd",
        "ftp://localhost/etc/passwd", "gopher://localhost:6379/_INFO", "concat:/etc/passwd", "data:video/mp4;base64,AAAA", "//localhost/",
        "http:/localhost/", "http://", "http://localhost:0/", "http://localhost:-1/", "jar:http://localhost!/", "/etc/passwd",
        "http://localhost/" + "a" * 3000,
    )):  # fmt: skip
        body = json.dumps({"clip_url": url, "edits": ["in tuck"]}).encode()
        yield Hostile(name=f"url-{number}", path="/v1/search", method="POST", headers=_JSON, body=body)  # fmt: skip
    both = json.dumps({"clip_url": "http://localhost/", "clip": clip_id}).encode()
    yield Hostile(name="url-and-clip", path="/v1/search", method="POST", headers=_JSON, body=both)


def _uploads() -> Iterator[Hostile]:
    def upload(name: str, video: bytes, boundary: str = "xx") -> Hostile:
        head = b'--xx\r\ncontent-disposition: form-data; name="video"; filename="../../etc/passwd"\r\n\r\n'
        kind = {"content-type": f"multipart/form-data; boundary={boundary}"}
        return Hostile(name=name, path="/v1/search", method="POST", headers=kind, body=head + video + b"\r\n--xx--\r\n")  # fmt: skip

    box = (1 << 31).to_bytes(4, "big")
    yield upload("upload-empty", b"")
    yield upload("upload-text", b"#!/bin/sh\nid\n")
    yield upload("upload-playlist", b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n")
    yield upload("upload-concat", b"ffconcat version 1.0\nfile /etc/passwd\n")
    yield upload("upload-svg", b'<svg><image href="file:///etc/passwd"/></svg>')
    yield upload("upload-box", box + b"ftypisom" + b"\0" * 64)
    yield upload("upload-truncated", b"\0\0\0\x18ftypisom\0\0\0\0isomiso2\0\0\0\x08mdat")
    yield upload("upload-mkv", b"\x1aE\xdf\xa3" + b"\xff" * 256)
    yield upload("upload-boundary", b"x", boundary="yy")
    yield Hostile(name="upload-no-boundary", path="/v1/search", method="POST", headers={"content-type": "multipart/form-data"}, body=b"x")  # fmt: skip
    yield Hostile(name="media-type", path="/v1/search", method="POST", headers={"content-type": "application/xml"}, body=b"<!DOCTYPE a SYSTEM 'file:///etc/passwd'>")  # fmt: skip
    yield Hostile(name="body-huge", path="/v1/search", method="POST", headers=_JSON | {"content-length": str(1 << 40)}, body=b"{}")  # fmt: skip
    yield Hostile(name="method", path="/v1/collections", method="DELETE")


def _tokens(clip_id: str) -> Iterator[Hostile]:
    for number, value in enumerate(
        ("", "Bearer", "Bearer wrong", "Basic dG9rZW46", "bearer  ", "Bearer \xff", "Bearer token2")
    ):
        headers = {"authorization": value} if value else {}
        yield Hostile(name=f"token-{number}", path="/v1/collections", headers=headers, has_token=False)  # fmt: skip
    cookie = {"cookie": "tfcovr_token=; tfcovr_token=x"}
    yield Hostile(name="token-cookie", path="/metrics", headers=cookie, has_token=False)
    yield Hostile(name="token-query", path=f"/v1/clips/{clip_id}?token=secret", has_token=False)
    yield Hostile(name="token-media", path=f"/v1/clips/{clip_id}/media", has_token=False)


def _ids() -> Iterator[Hostile]:
    """Ids in the query string, where any text may stand."""
    for number, text in enumerate((
        "..%2f..%2fetc%2fpasswd", "%2fetc%2fpasswd", "file:%2f%2f%2fetc%2fpasswd", "%00", "%0d%0aset-cookie:a=b", "%ff%fe", "a" * 5000, "",
        "x%22%20or%20clip_id%20!=%20%22", "x%5c%22%20or%201==1", "%22%5d%20or%201==1%20or%20clip_id%20in%20%5b%22", "%u0041", "%ed%a0%80", "%F0%9F",
    )):  # fmt: skip
        for path in ("/v1/clip", "/v1/clip/media", "/v1/clip/strip.jpg"):
            yield Hostile(name=f"id-{number}-{path[9:]}", path=f"{path}?id={text}")
    for number, query in enumerate(("", "?clip_id=x", "?id=x&id=y", "?id[]=x", "?ID=x")):
        yield Hostile(name=f"id-query-{number}", path=f"/v1/clip{query}")


def _pages(clip_id: str) -> Iterator[Hostile]:
    """What a page of another site makes a browser send, and a name that was rebound to the service (DNS rebinding)."""
    for number, host in enumerate((
        "evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.evil.example", "127.0.0.1@evil.example", "evil.example#127.0.0.1",
        "127.1", "0.0.0.0", "2130706433", "[::]", "127.0.0.1:80:80", "127.0.0.1, evil.example", "xn--e1afmkfd", "localhost.", "127.0.0.1%00.evil.example",
    )):  # fmt: skip
        for path in ("/", "/v1/collections", f"/v1/clip?id={clip_id}"):
            yield Hostile(name=f"host-{number}-{path[:8]}", path=path, headers={"host": host})
    query = b'{"edits": ["in tuck"]}'
    for number, origin in enumerate((
        "http://evil.example", "https://evil.example:443", "null", "file://", "http://127.0.0.1:1", "http://localhost:3000", "http://[", "chrome-extension://a",
        "http://127.0.0.1@evil.example", "http://evil.example\\@127.0.0.1", "ftp://127.0.0.1", "http://",
    )):  # fmt: skip
        headers = _JSON | {"origin": origin}
        yield Hostile(name=f"origin-{number}", path="/v1/search", method="POST", headers=headers, body=query)  # fmt: skip
    for number, mode in enumerate(("no-cors", "cors", "navigate", "websocket", "")):
        headers = _JSON | {"sec-fetch-site": "cross-site", "sec-fetch-mode": mode}
        yield Hostile(name=f"fetch-{number}", path="/v1/search", method="POST", headers=headers, body=query)  # fmt: skip
        if mode != "navigate":
            path = f"/v1/clip/media?id={clip_id}&trim=true"
            yield Hostile(name=f"fetch-media-{number}", path=path, headers=headers)


def _headers(clip_id: str) -> Iterator[Hostile]:
    """Headers that a server before the app may read, and routes of that server."""
    path = f"/v1/clip?id={clip_id}"
    for number, (name, value) in enumerate((
        ("x-request-id", "\xff\xfe"), ("x-request-id", "a" * 10_000), ("x-request-timeout-seconds", "-1"), ("x-request-timeout-seconds", "\xff"),
        ("x-request-disconnect-disabled", "?1"), ("serve_multiplexed_model_id", "\xff"), ("traceparent", "\xff"), ("x-session-id", "\xff"),
        ("x-forwarded-host", "evil.example"), ("x-forwarded-proto", "\xff"), ("forwarded", "for=evil"), ("x-original-url", "/-/routes"),
        ("x-http-method-override", "DELETE"), ("accept", "\xff"), ("cookie", "\xff" * 100), ("if-none-match", "\xff"), ("accept-encoding", "\xff;q=a"),
    )):  # fmt: skip
        yield Hostile(name=f"header-{number}", path=path, headers={name: value}, may_answer=True)
    for number, path in enumerate(
        (
            "/-/routes",
            "/-/healthz",
            "/-/",
            "/-/routes/",
            "/docs",
            "/redoc",
            "/openapi.json",
            "/v1",
            "/web/",
            "//v1/collections",
        )
    ):
        yield Hostile(name=f"route-{number}", path=path, has_token=False)
    for number, method in enumerate(("PUT", "PATCH", "DELETE", "TRACE", "PROPFIND")):
        yield Hostile(name=f"method-{number}", path="/v1/search", method=method)
