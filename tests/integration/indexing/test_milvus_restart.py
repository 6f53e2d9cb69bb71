"""A Milvus server that was killed with connections open comes back where its clients look for it."""

import socket
from pathlib import Path

import pytest

from indexing.store.dev_server import crash, start, stop


def test_a_crashed_server_comes_back_on_its_port(tmp_path: Path) -> None:
    pytest.importorskip("milvus", reason="needs a Milvus server: pip install '.[server]'")
    folder = tmp_path / "server"
    uri = start(folder)
    port = int(uri.rpartition(":")[2])
    try:
        with socket.create_connection(("127.0.0.1", port)):
            assert crash(folder)  # the dead server's end of the connection lingers on the port
        assert start(folder, port) == uri
    finally:
        stop(folder)
