"""Limits of requests, clients and connections, as plain values that reach every process of the service."""

import ipaddress
from dataclasses import dataclass
from typing import Any

_NOT_NUMBERS = ("token", "allowed_hosts", "trusted_proxies")


def _check_positive(limits: Any) -> None:
    for name in limits.__dataclass_fields__:
        value = getattr(limits, name)
        if name not in _NOT_NUMBERS and not value > 0:
            raise ValueError(f"{name} is {value}; it must be above 0")


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Limits of one request and of one client."""

    token: str = ""
    """Bearer token that a request must carry; "" = none is required."""
    allowed_hosts: tuple[str, ...] = ()
    """Names that the Host header may hold, each HOST or HOST:PORT; none = any."""
    max_json_bytes: int = 256 << 10
    """Maximum size of a JSON body, and of the JSON part of a form."""
    max_body_bytes: int = 64 << 20
    """Maximum size of a form with an upload."""
    max_upload_bytes: int = 256 << 20
    """Maximum size of all forms in progress together; one client may take half of it."""
    body_timeout_s: float = 20.0
    """Maximum time until the whole body has arrived."""
    request_timeout_s: float = 60.0
    """Maximum time until the first byte of the response."""
    reader_grace_s: float = 30.0
    """Time for which a response may be read at any rate."""
    min_bytes_per_s: float = 32 << 10
    """Minimum average rate at which a response is read after the grace time."""
    requests_per_s: float = 50.0
    """Maximum sustained request rate of one client address."""
    burst: int = 200
    """Maximum burst of requests of one client address."""
    max_in_flight: int = 256
    """Maximum number of requests in progress or waiting, of all clients; one more is refused at once with 503."""
    max_in_flight_per_client: int = 64
    """Maximum number of requests in progress or waiting of one client address; one more is refused at once with 429."""
    max_url_bytes: int = 8192
    """Maximum length of a URL."""

    def __post_init__(self) -> None:
        _check_positive(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class ConnectionLimits:
    """Limits of one connection and of the connections of one client address."""

    header_timeout_s: float = 10.0
    """Maximum time until a header is whole, counted from the connection or from its first byte on a kept one."""
    max_header_bytes: int = 32 << 10
    """Maximum size of a header, URL included."""
    body_timeout_s: float = 25.0
    """Maximum time until a body is whole; longer than that of a request, which has an answer for it."""
    reader_timeout_s: float = 20.0
    """Maximum time for which a client reads nothing while a response waits for it."""
    max_connections: int = 2048
    """Maximum number of open connections."""
    max_connections_per_client: int = 512
    """Maximum number of open connections of one client address that is not a trusted proxy."""
    requests_per_s: float = 50.0
    """As of `Limits`: checked before Ray Serve sees a request."""
    burst: int = 200
    """As of `Limits`."""
    trusted_proxies: tuple[str, ...] = ()
    """Addresses or networks of proxies whose X-Forwarded-For is believed; none = no such header is."""

    def __post_init__(self) -> None:
        _check_positive(self)
        for proxy in self.trusted_proxies:
            try:
                ipaddress.ip_network(proxy, strict=False)
            except ValueError:
                raise ValueError(
                    f"trusted_proxies has {proxy!r}; each must be an IP address or a network such as 10.0.0.0/8"
                ) from None

    def is_trusted_proxy(self, host: str) -> bool:
        """Whether the peer of a connection is one of the proxies."""
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return False
        networks = (ipaddress.ip_network(proxy, strict=False) for proxy in self.trusted_proxies)
        return any(address in network for network in networks)
