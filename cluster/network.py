"""TCP ports: find a free one, and check whether a server listens."""

import socket
from urllib.parse import urlsplit


def require_free_port(host: str, port: int) -> None:
    """OSError if the port cannot be bound; called before anything is started."""
    with _socket(host) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise OSError(
                f"--host {host!r} --port {port}: {error.strerror}; give another --port, or end what listens there"
            ) from error


def free_port(host: str = "127.0.0.1") -> int:
    """A port that is free at this moment."""
    with _socket(host) as free:
        free.bind((host, 0))
        return free.getsockname()[1]


def require_listener(address: str, *, timeout_s: float = 10.0) -> None:
    """OSError if no server listens at [SCHEME://]HOST:PORT; an address without a port passes."""
    parts = urlsplit(address if "://" in address else f"//{address}")
    if parts.hostname and parts.port:
        socket.create_connection((parts.hostname, parts.port), timeout=timeout_s).close()


def _socket(host: str) -> socket.socket:
    return socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
