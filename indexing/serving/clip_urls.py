"""Query clips by URL: only from allow-listed hosts and, unless configured otherwise, only from public addresses.

The connection goes to the address that was checked, so a name that changes its address in between (DNS rebinding) gains nothing.
"""

import http.client
import ipaddress
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import BinaryIO
from urllib.parse import urljoin, urlsplit

from indexing.serving.guard.problems import ProblemError
from indexing.serving.guard.work_queue import StopSignal, WorkQueue

_CHUNK_BYTES = 1 << 16
_REDIRECTS = (301, 302, 303, 307, 308)
_PORTS = {"http": 80, "https": 443}
_MAX_URL = 2048
_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_HOST = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(\.{_LABEL})*|\[[0-9a-f:.]{{2,45}}\]")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve = Callable[[str, int], Sequence[str]]


class UrlRefusedError(ValueError):
    """The URL may not or could not be fetched; the text does not contain addresses that the client did not send."""


@dataclass(frozen=True, kw_only=True, slots=True)
class UrlPolicy:
    """Which URLs may be query clips; without `hosts`, none."""

    hosts: tuple[str, ...] = ()
    """Allowed hosts: HOST (ports 80 and 443) or HOST:PORT, without wildcards."""
    allow_private: bool = False
    """Whether a host may have a loopback, link-local or private address."""
    max_bytes: int = 64 << 20
    """Maximum size of a video."""
    deadline_s: float = 15.0
    """Deadline of a fetch, including redirects, headers and body."""
    max_redirects: int = 3
    """Maximum number of redirects; only those to the same host are followed."""

    def __post_init__(self) -> None:
        for host in self.hosts:
            name, colon, port = _split_port(host)
            if not _HOST.fullmatch(name) or (colon and not _is_port(port)):
                raise ValueError(
                    f"host {host!r} must be HOST or HOST:PORT, in lower case, without scheme, path or wildcard"
                )
        if self.max_bytes < 1 or self.deadline_s <= 0 or self.max_redirects < 0:
            raise ValueError(
                f"max_bytes is {self.max_bytes}, deadline_s {self.deadline_s}, max_redirects {self.max_redirects}"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Target:
    scheme: str
    host: str
    port: int
    path: str

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.host}:{self.port}{self.path}"


def fetch_url(
    url: str, policy: UrlPolicy, out: BinaryIO, *, resolve: Resolve | None = None
) -> None:
    """Write the bytes behind a URL to `out`; UrlRefusedError with the reason where that fails."""
    give_up_s = time.monotonic() + policy.deadline_s
    target = checked_target(url, policy)
    for _ in range(policy.max_redirects + 1):
        address = _checked_address(target, policy, resolve or _resolve)
        location = _request(target, address, policy, give_up_s, out)
        if location is None:
            return
        try:
            url = urljoin(target.url, location)
        except ValueError as error:
            raise UrlRefusedError("the URL redirects to what is no URL") from error
        following = checked_target(url, policy)
        is_weaker = (target.scheme, following.scheme) == ("https", "http")
        if following.host != target.host or is_weaker:
            raise UrlRefusedError("the URL redirects to another host or to plain http")
        target = following
    raise UrlRefusedError(f"the URL redirects more than {policy.max_redirects} times")


def checked_target(url: str, policy: UrlPolicy) -> _Target:
    """Parse a URL and check it against the policy, without resolving or sending anything."""
    if not policy.hosts:
        raise UrlRefusedError(
            "query clips by URL are disabled; start the service with --clip-hosts"
        )
    if len(url) > _MAX_URL or not url.isascii() or re.search(r"[\x00-\x20\x7f\\]", url):
        raise UrlRefusedError(
            f"a URL has at most {_MAX_URL} printable ASCII characters and no backslash"
        )
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise UrlRefusedError(f"the URL cannot be read: {error}") from None
    scheme = parts.scheme.lower()
    if scheme not in _PORTS:
        raise UrlRefusedError("a URL begins with http:// or https://")
    if "@" in parts.netloc:
        raise UrlRefusedError("a URL with user info is not fetched")
    host = (parts.hostname or "").rstrip(".")
    host = f"[{host}]" if ":" in host else host
    if not _HOST.fullmatch(host):
        raise UrlRefusedError("the URL names no host")
    port = _PORTS[scheme] if port is None else port
    usual = port in _PORTS.values() and host in policy.hosts
    if not usual and f"{host}:{port}" not in policy.hosts:
        raise UrlRefusedError("the host of the URL is not among those that are allowed here")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return _Target(scheme=scheme, host=host, port=port, path=path)


def is_public(address: str) -> bool:
    """Whether an address is globally routable, also where it is embedded in an IPv6 address."""
    try:
        parsed: _IpAddress = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.sixtofour or parsed.teredo or parsed in _NAT64:
            return False
        parsed = parsed.ipv4_mapped or parsed
    return parsed.is_global and not (parsed.is_multicast or parsed.is_reserved)


def _checked_address(target: _Target, policy: UrlPolicy, resolve: Resolve) -> str:
    try:
        addresses = list(resolve(target.host.strip("[]"), target.port))
    except (OSError, UnicodeError):  # the latter for names that IDNA does not allow
        addresses = []
    if not addresses:
        raise UrlRefusedError("the host of the URL has no address")
    # One private address among public ones is refused too: which one is taken is the name server's choice.
    if not policy.allow_private and not all(map(is_public, addresses)):
        raise UrlRefusedError("the host of the URL has a private address, which is not fetched")
    return addresses[0]


def _request(
    target: _Target, address: str, policy: UrlPolicy, give_up_s: float, out: BinaryIO
) -> str | None:
    """Write the body; or where the server redirects to."""
    left_s = max(give_up_s - time.monotonic(), 0.001)
    connection = _connection(target, address, left_s)
    watchdog = threading.Timer(
        left_s, _end, [connection]
    )  # also ends a response whose headers arrive byte by byte
    watchdog.daemon = True
    watchdog.start()
    try:
        headers = {"Accept-Encoding": "identity", "User-Agent": "tfcovr", "Accept": "video/*, */*"}
        connection.request("GET", target.path, headers=headers)
        answer = connection.getresponse()
        if answer.status in _REDIRECTS:
            return answer.headers.get("Location", "")
        if answer.status != 200:
            raise UrlRefusedError(f"the URL was answered with status {answer.status}")
        if answer.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise UrlRefusedError("the URL was answered with a compressed body")
        if (answer.length or 0) > policy.max_bytes:
            raise _too_large(policy)
        _read(answer, policy, give_up_s, out)
        return None
    except (OSError, http.client.HTTPException, AttributeError) as error:
        # AttributeError: http.client loses its socket when the watchdog closes it between two reads.
        if time.monotonic() >= give_up_s:
            raise UrlRefusedError(f"the URL took longer than {policy.deadline_s:g} s") from None
        raise UrlRefusedError(f"the URL could not be fetched ({type(error).__name__})") from None
    finally:
        watchdog.cancel()
        connection.close()


def _read(
    answer: http.client.HTTPResponse, policy: UrlPolicy, give_up_s: float, out: BinaryIO
) -> None:
    expected, num_bytes = answer.length, 0
    while part := answer.read1(_CHUNK_BYTES):
        out.write(part)
        num_bytes += len(part)
        if num_bytes > policy.max_bytes:
            raise _too_large(policy)
        if time.monotonic() >= give_up_s:
            break
    if (
        time.monotonic() >= give_up_s
    ):  # a connection that the watchdog closed looks like the end of the body
        raise TimeoutError
    if expected is not None and num_bytes < expected:
        raise http.client.IncompleteRead(b"", expected - num_bytes)
    out.flush()


def _connection(target: _Target, address: str, timeout_s: float) -> http.client.HTTPConnection:
    """Connects to the address that was checked, and speaks to the host by its name."""
    name = target.host.strip("[]")
    connection: http.client.HTTPConnection
    if target.scheme == "https":
        context = ssl.create_default_context()
        connection = http.client.HTTPSConnection(
            name, target.port, timeout=timeout_s, context=context
        )
    else:
        connection = http.client.HTTPConnection(name, target.port, timeout=timeout_s)

    def connect(_address: tuple[str, int], timeout: float, source: object) -> socket.socket:
        return socket.create_connection((address, target.port), timeout)

    setattr(connection, "_create_connection", connect)  # noqa: B010 - the hook that http.client has for this
    return connection


def _end(connection: http.client.HTTPConnection) -> None:
    sock = connection.sock
    if sock is not None:
        try:
            sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            return


def _resolve(host: str, port: int) -> list[str]:
    entries = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in entries))


def _too_large(policy: UrlPolicy) -> UrlRefusedError:
    return UrlRefusedError(f"the URL has more than {policy.max_bytes} bytes")


def _split_port(host: str) -> tuple[str, str, str]:
    if host.startswith("[") and host.endswith("]"):
        return host, "", ""
    name, colon, port = host.rpartition(":")
    return (name, colon, port) if colon else (host, "", "")


def _is_port(text: str) -> bool:
    return text.isdigit() and 0 < int(text) < 65536


_MAX_FETCHES = 4
_MAX_FETCHES_PER_CLIENT = 2


class ClipUrls:
    """Fetches of query clips under one policy, a bounded number at a time."""

    def __init__(self, policy: UrlPolicy) -> None:
        self._policy = policy
        self._queue: WorkQueue[None] = WorkQueue(
            "the fetch of clip_url",
            deadline_s=2 * policy.deadline_s,
            max_waiting=_MAX_FETCHES,
            max_per_client=_MAX_FETCHES_PER_CLIENT,
            num_threads=_MAX_FETCHES,
        )

    async def fetch(self, url: str, out: BinaryIO, *, client: str = "") -> None:
        """Write a video to `out`; ProblemError 422 where that fails, 503 where too many are being fetched."""

        def fetch(_stop: StopSignal) -> None:
            try:
                fetch_url(url, self._policy, out)
            except UrlRefusedError as error:
                raise ProblemError(422, str(error)) from error

        await self._queue.run(object(), fetch, client=client)

    def close(self) -> None:
        """End the threads; fetches that run have a deadline."""
        self._queue.close()
