"""Which errors of Milvus are worth another try, and how often."""

import socket

import grpc
import pytest
from pymilvus.exceptions import MilvusException, MilvusUnavailableException, ParamError

from indexing.store import client
from indexing.store.client import CallOptions, MilvusBusyError, call_milvus, connect


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
