import json
import socket
import time

import pytest

from cluster import ray_session as sessions
from cluster.ray_session import has_autoscaler, ray_session


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


NODE = "node_98c588060077987b80caedd54f581be2d8a894bc3d878402c2223ebf"


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (None, False),
        ({"load_metrics_report": {}}, False),
        ({"autoscaler_report": {"active_nodes": {}}}, False),
        # What Ray's monitor reports of a head that was started by hand, or by a driver.
        ({"autoscaler_report": {"active_nodes": {NODE: 1}, "pending_launches": {}}}, False),
        ({"autoscaler_report": {"active_nodes": {"ray.head.default": 1}}}, True),
        ({"autoscaler_report": {"active_nodes": {}, "pending_launches": {"gpu": 2}}}, True),
    ],
)
def test_only_a_head_that_knows_types_of_nodes_can_add_some(
    monkeypatch, status: dict | None, expected: bool
) -> None:
    text = status and json.dumps(status).encode()
    monkeypatch.setattr(sessions, "is_autoscaler_v2", lambda: False)
    monkeypatch.setattr(sessions.internal_kv, "_internal_kv_get", lambda _key: text)
    assert has_autoscaler() is expected
