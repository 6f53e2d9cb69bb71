import socket

import pytest

from cluster.network import free_port, require_free_port, require_listener


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
