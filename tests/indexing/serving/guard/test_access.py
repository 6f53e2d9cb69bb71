import pytest

from indexing.serving.guard.access import (
    LOOPBACK_HOSTS,
    Headers,
    body_length,
    check_sender,
    check_url,
)
from indexing.serving.guard.limits import Limits
from indexing.serving.guard.problems import ProblemError

LOOPBACK = Limits(allowed_hosts=LOOPBACK_HOSTS)
NAMED = Limits(allowed_hosts=("clips.example.org", "10.0.0.5:8000"))


def status(
    limits: Limits, method: str = "GET", path: str = "/v1/collections", **headers: str
) -> int:
    pairs = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]  # fmt: skip
    try:
        check_sender({"path": path, "method": method}, Headers(pairs), limits)
    except ProblemError as problem:
        return problem.status
    return 200


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:8000", "localhost", "LOCALHOST:1", "[::1]", "[::1]:8000"])  # fmt: skip
def test_the_names_of_loopback_are_answered(host: str) -> None:
    assert status(LOOPBACK, host=host) == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.evil.example", "", "127.0.0.1:80:80", "127.0.0.1@evil.example",
        "evil.example:127.0.0.1", "127.1", "2130706433", "0.0.0.0", "[::]", "localhost.", "localhost:evil", "127.0.0.1:8000, evil.example",
    ],
)  # fmt: skip
def test_a_name_that_was_rebound_is_refused(host: str) -> None:
    assert status(LOOPBACK, host=host) == 403
    assert status(LOOPBACK, path="/", host=host) == 403
    assert status(LOOPBACK, path="/readyz", host=host) == 200
    assert status(Limits(), host=host) == 200  # beyond loopback, any name unless some are given


def test_named_hosts_are_answered_with_their_port_or_with_any() -> None:
    assert status(NAMED, host="clips.example.org:443") == 200
    assert status(NAMED, host="10.0.0.5:8000") == 200
    assert status(NAMED, host="10.0.0.5:8001") == 403
    assert status(NAMED, host="127.0.0.1") == 403


def test_host_twice_is_refused() -> None:
    pairs = [(b"host", b"127.0.0.1"), (b"Host", b"evil.example")]
    with pytest.raises(ProblemError) as refused:
        check_sender({"path": "/", "method": "GET"}, Headers(pairs), LOOPBACK)
    assert refused.value.status == 400


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        ("http://127.0.0.1:8000", 200), ("https://127.0.0.1:8000", 200), ("", 200), ("http://127.0.0.1:3000", 403), ("http://localhost:3000", 403),
        ("http://evil.example", 403), ("null", 403), ("file://", 403), ("http://[", 403), ("http://127.0.0.1:8000@evil.example", 403),
    ],
)  # fmt: skip
def test_a_post_comes_from_the_page_itself_or_from_no_browser(origin: str, expected: int) -> None:
    headers = {"host": "127.0.0.1:8000"} | ({"origin": origin} if origin else {})
    for limits in (LOOPBACK, Limits()):
        assert status(limits, "POST", "/v1/search", **headers) == expected
        assert status(limits, "GET", "/v1/collections", **headers) == 200


def test_behind_a_proxy_the_page_has_one_of_the_named_hosts() -> None:
    own = {"host": "10.0.0.5:8000", "origin": "https://clips.example.org"}
    assert status(NAMED, "POST", "/v1/search", **own) == 200
    assert status(NAMED, "POST", "/v1/search", **(own | {"origin": "https://evil.example"})) == 403


def test_a_page_of_another_site_gets_nothing_but_a_link() -> None:
    foreign = {"host": "127.0.0.1", "sec_fetch_site": "cross-site"}
    assert status(LOOPBACK, "POST", "/v1/search", **foreign) == 403
    assert status(LOOPBACK, "POST", "/v1/search", sec_fetch_mode="navigate", **foreign) == 403
    assert status(LOOPBACK, "GET", "/v1/clip/media", sec_fetch_mode="no-cors", **foreign) == 403
    assert status(LOOPBACK, "GET", "/v1/clip/media", sec_fetch_mode="navigate", **foreign) == 200
    assert status(LOOPBACK, "GET", "/", sec_fetch_mode="navigate", **foreign) == 200
    assert (
        status(LOOPBACK, "GET", "/v1/clip", host="127.0.0.1", sec_fetch_site="same-origin") == 200
    )


@pytest.mark.parametrize(
    ("kind", "length", "expected"),
    [
        ("application/json", "256", 200), ("application/json", "257", 413), ("multipart/form-data; boundary=x", "1024", 200), (" Multipart/Form-Data", "1024", 200),
        ("multipart/form-data; boundary=x", "1025", 413), ("text/plain; multipart/form-data", "257", 413), ("", "257", 413), ("", "-1", 413),
        ("", "+1", 413), ("", "1_0", 413), ("", "\xb2", 413), ("", "0" * 5000, 413), ("", "9" * 30, 413), ("", "", 200),
    ],
)  # fmt: skip
def test_only_a_form_may_be_long(kind: str, length: str, expected: int) -> None:
    limits = Limits(max_json_bytes=256, max_body_bytes=1024)
    pairs = [(b"content-type", kind.encode()), (b"content-length", length.encode("latin-1"))]
    if expected == 200:
        assert body_length(Headers(pairs), limits)[0] == int(length or 0)
        return
    with pytest.raises(ProblemError) as refused:
        body_length(Headers(pairs), limits)
    assert refused.value.status == expected


def test_a_query_string_may_hold_any_text_and_a_path_may_not() -> None:
    scope = {"path": "/v1/clip", "raw_path": b"/v1/clip", "query_string": b"id=..%2F..%0d%0a%00"}
    check_url(scope, Limits())
    with pytest.raises(ProblemError):
        check_url(scope | {"path": "/v1/../x"}, Limits())
    with pytest.raises(ProblemError):
        check_url(scope | {"query_string": b"x" * 9000}, Limits())
