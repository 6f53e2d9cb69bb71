"""Who may ask, by the request line and the headers alone: URL, Host, Origin, token, length of the body.

A browser sends a page's own address as Host and the address of the page that asks as Origin. A name that is rebound to this
machine (DNS rebinding) is therefore seen in Host, and a form on a foreign page in Origin or Sec-Fetch-Site.
"""

import hmac
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from indexing.serving.guard.limits import Limits
from indexing.serving.guard.problems import ProblemError

HEALTH_PATH = "/healthz"
"""Passes before every check and count."""
_OPEN_PATHS = ("/readyz", "/", "/web/")
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")


class Headers:
    """The headers of a request, by lower-case name."""

    def __init__(self, pairs: Sequence[tuple[bytes, bytes]]) -> None:
        self._values: dict[bytes, list[bytes]] = {}
        for name, value in pairs:
            self._values.setdefault(name.lower(), []).append(value)

    def get(self, name: str) -> str:
        """The first value, or ""."""
        return self._values.get(name.encode(), [b""])[0].decode("latin-1")

    def count(self, name: str) -> int:
        """How often the header was sent."""
        return len(self._values.get(name.encode(), ()))


def check_url(scope: Any, limits: Limits) -> None:
    """ProblemError 400 for a URL that is too long or leads elsewhere."""
    path = scope["path"]
    if len(scope.get("raw_path") or b"") + len(scope["query_string"]) > limits.max_url_bytes:
        raise ProblemError(400, f"the URL is longer than {limits.max_url_bytes} bytes")
    if "\x00" in path or "\\" in path or ".." in path.split("/"):
        raise ProblemError(400, "the path is not allowed; name a clip as ?id= of /v1/clip")


def check_sender(scope: Any, headers: Headers, limits: Limits) -> None:
    """ProblemError 403 for a Host that is not allowed and for requests that a foreign page has sent, 401 without the token."""
    path, method = scope["path"], scope["method"]
    host = headers.get("host").lower()
    if headers.count("host") > 1:
        raise ProblemError(400, "the header Host was sent more than once")
    if limits.allowed_hosts and path != "/readyz" and not _is_among(host, limits.allowed_hosts):
        raise ProblemError(
            403, f"host {host[:256]!r} is not allowed here; see --allowed-hosts of tfcovr serve"
        )
    is_cross_site = headers.get("sec-fetch-site").lower() == "cross-site"
    is_own_page = path == "/" or path.startswith("/web/")
    if is_cross_site and not is_own_page and headers.get("sec-fetch-mode").lower() != "navigate":
        raise ProblemError(403, "a page of another site may not ask this service")
    if method not in _SAFE_METHODS:
        if is_cross_site:
            raise ProblemError(403, "a page of another site may not send this request")
        _check_origin(headers, host, limits)
    is_open = path in _OPEN_PATHS or path.startswith("/web/")
    if limits.token and not is_open and not _has_token(headers, limits.token):
        raise ProblemError(
            401, "send `Authorization: Bearer TOKEN`", {"www-authenticate": "Bearer"}
        )


def body_length(headers: Headers, limits: Limits) -> tuple[int, int]:
    """(length that the body announces, length that it may have); ProblemError 413 where it announces more.

    Only a form with an upload may be long.
    """
    is_form = headers.get("content-type").lstrip().lower().startswith("multipart/form-data")
    allowed = limits.max_body_bytes if is_form else limits.max_json_bytes
    announced = headers.get("content-length") or "0"
    is_number = announced.isascii() and announced.isdigit() and len(announced) <= 18
    if not is_number or int(announced) > allowed:
        raise ProblemError(413, f"a body of this type may have at most {allowed} bytes")
    return int(announced), allowed


def _is_among(host: str, allowed: Sequence[str]) -> bool:
    """Whether a Host, with or without its port, is one of the names."""
    name, _, port = host.rpartition(":")
    bare = name if name and port.isdigit() and port.isascii() else host
    return host in allowed or bare in allowed


def _check_origin(headers: Headers, host: str, limits: Limits) -> None:
    origin = headers.get("origin").lower()
    if not origin:
        return  # not a browser
    try:
        parts = urlsplit(origin)
        authority, is_web = parts.netloc, parts.scheme in ("http", "https")
    except ValueError:
        authority, is_web = "", False
    # The service that listens on loopback allows its names on every port, but another port is another page.
    is_named = not _is_loopback_only(limits) and _is_among(authority, limits.allowed_hosts)
    if not is_web or not authority or not (authority == host or is_named):
        raise ProblemError(403, f"a page of {origin[:256]!r} may not send this request")


LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "[::1]")
"""What Host holds when a browser on this machine asks a service on loopback."""


def _is_loopback_only(limits: Limits) -> bool:
    return set(limits.allowed_hosts) <= set(LOOPBACK_HOSTS)


def _has_token(headers: Headers, token: str) -> bool:
    """Whether the token is in a header or, for the page's <video> elements, which cannot send headers, in a cookie."""
    given = headers.get("authorization")
    if given[:7].lower() == "bearer ":
        return _is_equal(given[7:].strip(), token)
    for part in headers.get("cookie").split(";"):
        name, _, value = part.strip().partition("=")
        if name == "tfcovr_token":
            return _is_equal(value, token)
    return False


def _is_equal(given: str, token: str) -> bool:
    return hmac.compare_digest(given.encode("latin-1"), token.encode())
