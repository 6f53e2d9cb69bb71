import socket

import pytest

from cluster.ports import free_port, require_free_port


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
