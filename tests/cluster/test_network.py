"""Ports, and programs that would listen on every address: they listen on loopback, however they ask."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.network import free_port, is_loopback, require_free_port, require_listener

ROOT = Path(__file__).resolve().parents[2]
# Listens in a child of the process that was restricted, as a server does, and says where.
LISTEN = """
import socket, sys
family, address = getattr(socket, sys.argv[1]), sys.argv[2]
sock = socket.socket(family)
sock.bind((address, 0))
sock.listen()
print(sock.getsockname()[0], sock.getsockname()[1], flush=True)
sys.stdin.read()
"""
RESTRICTED = """
import subprocess, sys
from cluster.network import keep_on_loopback
keep_on_loopback()
raise SystemExit(subprocess.run([sys.executable, "-c", *sys.argv[1:]]).returncode)
"""


@pytest.mark.parametrize(
    ("family", "address"),
    [("AF_INET", "0.0.0.0"), ("AF_INET", "127.0.0.2"), ("AF_INET6", "::"), ("AF_INET6", "::1"), ("AF_INET", "")],
)  # fmt: skip
def test_a_socket_for_every_address_is_one_for_loopback(family: str, address: str) -> None:
    server = subprocess.Popen(
        [sys.executable, "-c", RESTRICTED, LISTEN, family, address],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdin is not None
    assert server.stdout is not None
    with server, server.stdin:
        bound, port = server.stdout.readline().split()
        assert is_loopback(bound)
        if bound != "::1":
            address = "127.0.0.2" if bound == "127.0.0.2" else "127.0.0.1"
            socket.create_connection((address, int(port)), timeout=5).close()
        own = next((a for a in own_addresses() if not is_loopback(a)), None)
        if own is not None:
            with pytest.raises(OSError, match="refused"):
                socket.create_connection((own, int(port)), timeout=5)
    assert server.returncode == 0


def own_addresses() -> list[str]:
    import psutil

    every = [a for of_card in psutil.net_if_addrs().values() for a in of_card]
    return [a.address for a in every if a.family == socket.AF_INET]


@pytest.mark.parametrize(
    ("address", "is_local"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.0.2.2", False),
        ("::ffff:192.0.2.2", False),
        ("fe80::1%eth0", False),
    ],
)
def test_loopback_is_told_from_the_network(address: str, is_local: bool) -> None:
    assert is_loopback(address) is is_local


def test_a_port_that_is_taken_is_named_before_anything_starts() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(
            OSError, match=rf"--host '127\.0\.0\.1' --port {port}: .*another --port"
        ):
            require_free_port("127.0.0.1", port)
    require_free_port("127.0.0.1", port)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_free_port_can_be_listened_on(host: str) -> None:
    port = free_port(host)
    require_free_port(host, port)
    assert 0 < port < 65536


@pytest.mark.parametrize("before", ["", "http://", "http://root:pw@", "ray://"])
def test_whether_somebody_listens(before: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"{before}127.0.0.1:{listener.getsockname()[1]}"
        require_listener(address)
    with pytest.raises(ConnectionRefusedError):
        require_listener(address)
    require_listener(f"{before}auto")
