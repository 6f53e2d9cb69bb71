"""Ports: free ones of this machine, and whether somebody listens at one."""

import socket
from urllib.parse import urlsplit


def require_free_port(host: str, port: int) -> None:
    """OSError when nothing could listen there; said before anything starts."""
    with _socket(host) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise OSError(
                f"--host {host!r} --port {port}: {error.strerror}; give another --port, or end what listens there"
            ) from error


def free_port(host: str = "127.0.0.1") -> int:
    """One that is free now."""
    with _socket(host) as free:
        free.bind((host, 0))
        return free.getsockname()[1]


def require_listener(address: str, *, timeout_s: float = 10.0) -> None:
    """OSError where nobody listens at [SCHEME://]HOST:PORT; an address without a port passes."""
    parts = urlsplit(address if "://" in address else f"//{address}")
    if parts.hostname and parts.port:
        socket.create_connection((parts.hostname, parts.port), timeout=timeout_s).close()


def _socket(host: str) -> socket.socket:
    return socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
