import socket
import time

import pytest

from cluster.ray_session import ray_session


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_an_address_where_nobody_listens_is_refused_at_once(scheme: str) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"{scheme}127.0.0.1:{free.getsockname()[1]}"
        started = time.monotonic()
        with (
            pytest.raises(ConnectionError, match=f"no Ray answers at '{address}'"),
            ray_session(address=address),
        ):
            pass
        assert time.monotonic() - started < 5
