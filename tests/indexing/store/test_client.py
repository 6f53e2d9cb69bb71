"""Which errors of Milvus are worth another try, and how often."""

import os
import socket
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress

import grpc
import psutil
import pytest
from pymilvus.exceptions import MilvusException, MilvusUnavailableException, ParamError

from cluster.network import is_loopback
from indexing.store import client
from indexing.store.aliases import open_catalog
from indexing.store.client import (
    CallOptions,
    MilvusBusyError,
    call_milvus,
    connect,
    is_fixed_version,
)
from indexing.store.collection import open_collection
from indexing.store.transfer.datasink import open_datasink


def test_a_query_gives_up_at_the_first_try_and_says_so() -> None:
    tries = []

    def call() -> None:
        tries.append(1)
        raise MilvusUnavailableException(message="gone")

    with pytest.raises(MilvusBusyError, match="gone"):
        call_milvus(call, attempts=1)
    assert len(tries) == 1


class DeadlineError(grpc.RpcError):
    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.DEADLINE_EXCEEDED


@pytest.mark.parametrize(
    "error",
    [
        DeadlineError(),
        MilvusException(code=101, message="collection not loaded"),
        MilvusException(code=grpc.StatusCode.UNAVAILABLE, message="retried"),  # as pymilvus does
        MilvusException(code=65535, message="attempt #0: datanode-3: node not found[node=3]"),
    ],
)
def test_a_server_that_is_starting_is_busy(error) -> None:
    def call() -> None:
        raise error

    with pytest.raises(MilvusBusyError, match="does not answer"):
        call_milvus(call, attempts=1)


def test_what_is_wrong_stays_wrong() -> None:
    def call() -> None:
        raise MilvusException(code=1100, message="no such field")

    with pytest.raises(MilvusException, match="no such field"):
        call_milvus(call, attempts=3)
    with pytest.raises(ParamError, match="limit"):
        call_milvus(wrong_parameter, attempts=3)


def wrong_parameter() -> None:
    raise ParamError(message="limit must be positive")


def test_a_search_in_a_graph_looks_at_no_fewer_than_it_must_return() -> None:
    options = CallOptions(ef=50, freshness="Bounded", timeout_s=3)
    assert options.search_params(200) == {"params": {"ef": 200}}
    assert options.search_params(10) == {"params": {"ef": 50}}
    assert options.read_options() == {"timeout": 3, "consistency_level": "Bounded"}
    assert CallOptions().read_options() == {"timeout": 60.0}


@pytest.mark.parametrize("wrong", [{"ef": 0}, {"timeout_s": 0}, {"attempts": 0}, {"ef": 40_000}])
def test_numbers_out_of_range_are_refused(wrong) -> None:
    with pytest.raises(ValueError, match="must be above 0"):
        CallOptions(**wrong)


def test_a_server_that_listens_and_is_slow_is_asked_again(monkeypatch) -> None:
    tries = []

    def slow(*, uri: str, token: str, timeout: float) -> tuple[str, str]:
        tries.append(timeout)
        if len(tries) < 3:
            raise MilvusException(code=2, message="Fail connecting to server")
        return uri, token

    monkeypatch.setattr(client, "MilvusClient", slow)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        place = f"127.0.0.1:{listener.getsockname()[1]}"
        address = f"http://root:pw@{place}"
        assert connect(address) == (f"http://{place}", "root:pw")
        tries.clear()
        with pytest.raises(MilvusBusyError, match=r"http://127\.0\.0\.1:\d+'.* the port is open"):
            connect(address, attempts=2)
    tries.clear()
    with pytest.raises(ConnectionError, match=r"no Milvus answers at .* start it"):
        connect(address)
    assert len(tries) == 1


@pytest.mark.parametrize(
    ("version", "is_fixed"),
    [
        ("v2.3.5-lite", False), ("2.3.21", False), ("2.4.24", False), ("v2.5.26", False), ("2.5.27", True), ("2.6.0", False),
        ("2.6.9", False), ("v2.6.10", True), ("2.6.19-gpu", True), ("3.0.1", True), ("2.10.0", True),
        ("Zilliz Cloud Vector Database(Compatible with Milvus 2.5)", True),
    ],
)  # fmt: skip
def test_versions_with_known_holes_are_told(version: str, is_fixed: bool) -> None:
    assert is_fixed_version(version) is is_fixed


def own_address() -> str:
    """An address at which other machines reach this one."""
    addresses = [
        a.address
        for card in psutil.net_if_addrs().values()
        for a in card
        if a.family == socket.AF_INET
    ]
    return next((address for address in addresses if not is_loopback(address)), "")


@pytest.fixture
def server_beyond_loopback(milvus_server: str) -> Iterator[str]:
    """The tests' server, through a forwarder that listens where others reach it."""
    if not own_address():
        pytest.skip("this machine has only loopback")
    target = ("127.0.0.1", int(milvus_server.rpartition(":")[2]))

    class Forward(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with socket.create_connection(target) as server:
                pairs = ((self.request, server), (server, self.request))
                threads = [threading.Thread(target=pump, args=pair, daemon=True) for pair in pairs]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()

    def pump(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while content := source.recv(65536):
                sink.sendall(content)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    with socketserver.ThreadingTCPServer((own_address(), 0), Forward) as forwarder:
        forwarder.daemon_threads = True
        threading.Thread(target=forwarder.serve_forever, daemon=True).start()
        yield f"http://{own_address()}:{forwarder.server_address[1]}"
        forwarder.shutdown()


def test_an_old_server_beyond_loopback_is_refused_unless_told(
    server_beyond_loopback: str, milvus_server: str, monkeypatch
) -> None:
    openers = (lambda uri: open_collection(uri, "clips"), open_catalog, open_sink)
    message = r"has version v2\.3\.5.*CVE-2026-26190.*TFCOVR_ALLOW_OLD_MILVUS=1"
    for opened in openers:
        with pytest.raises(ValueError, match=message), opened(server_beyond_loopback):
            pass
    with open_catalog(milvus_server) as catalog:
        assert "refused" not in catalog.names()
    monkeypatch.setenv("TFCOVR_ALLOW_OLD_MILVUS", "1")
    with open_catalog(server_beyond_loopback) as catalog:
        assert isinstance(catalog.names(), list)


def open_sink(uri: str):
    return open_datasink(uri, "refused", encoder_id="encoder", embedding_dim=8)


@pytest.mark.parametrize("value", ["runs/milvus", "http://elsewhere:1", "x"])
def test_variables_of_pymilvus_decide_nothing(value: str) -> None:
    names = ("MILVUS_URI", "MILVUS_DEFAULT_CONNECTION", "MILVUS_CONN_ALIAS", "MILVUS_CONN_TIMEOUT")
    code = "import indexing.store.client; from pymilvus.settings import Config; print(Config.MILVUS_URI, Config.MILVUS_CONN_ALIAS)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **dict.fromkeys(names, value)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["default"]
