"""How Milvus is asked: how long, how often, how fresh and how thoroughly. An indexing run waits for a server that restarts; a query does not."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import grpc
from pymilvus import MilvusClient
from pymilvus.exceptions import ConnectError, MilvusException, MilvusUnavailableException

from cluster.network import require_listener
from cluster.retry import retry
from indexing.sources.uris import public_uri, without_secrets
from indexing.store.endpoint import split_token

_CONNECT_S = 10.0
_PASSING_RPC = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
# What a server says of itself while it starts, loads or goes: no service, no such node, channel, segment or replica yet. pymilvus
# raises its base class with 2 when a channel breaks.
_PASSING = (2, 5, 101, 103, 201, 202, 401, 500, 501, 503, 600, 601, 602, 901, 902, 903, 904)


class MilvusBusyError(OSError):
    """Milvus could not answer this time; asking again may help."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CallOptions:
    """The defaults are those of a run that writes."""

    timeout_s: float = 60.0
    attempts: int = 7
    """31 s of waiting: a server that restarts, a network that is mended."""
    freshness: Literal["", "Strong", "Bounded"] = ""
    """Strong sees every write and waits for the server's next tick, up to 0.2 s; Bounded may miss the last seconds. "" = as the
    collection says, which is Strong."""
    ef: int | None = None
    """Candidates of a search in an HNSW index; None = as the server chooses."""

    def __post_init__(self) -> None:
        if (
            not self.timeout_s > 0
            or self.attempts < 1
            or not 1 <= (1 if self.ef is None else self.ef) <= 32_768
        ):
            raise ValueError(f"timeout_s must be above 0, attempts at least 1, ef 1 to 32768; got {self}")  # fmt: skip

    def read_options(self) -> dict[str, Any]:
        """For a call that reads."""
        return {"timeout": self.timeout_s} | (
            {"consistency_level": self.freshness} if self.freshness else {}
        )

    def search_params(self, limit: int) -> dict[str, Any]:
        """For a search of so many hits."""
        return {} if self.ef is None else {"params": {"ef": max(self.ef, limit)}}


QUERYING = CallOptions(timeout_s=5.0, attempts=1, freshness="Bounded")
"""For a person who waits."""


def connect(address: str, attempts: int = 7) -> MilvusClient:
    """ConnectionError when no Milvus answers; one that listens and is slow to answer is asked again."""

    uri, token = split_token(address)

    def attempt() -> MilvusClient:
        try:
            return MilvusClient(uri=uri, token=token, timeout=_CONNECT_S)
        except MilvusException as error:
            said = f"no Milvus answers at {public_uri(address)!r} ({without_secrets(str(error))})"
            try:
                require_listener(address)
            except OSError:
                raise ConnectionError(
                    f"{said}; start it, or give a folder to use Milvus Lite"
                ) from error
            raise MilvusBusyError(f"{said}, and somebody listens there") from error

    return retry(attempt, on=(MilvusBusyError,), attempts=attempts)


def call_milvus(call: Callable[[], Any], attempts: int = 7) -> Any:
    """Repeat what Milvus itself calls repeatable; everything else comes out at once."""

    def attempt() -> Any:
        try:
            return call()
        except (MilvusException, grpc.RpcError) as error:
            if _may_pass(error):
                raise MilvusBusyError(f"Milvus does not answer: {error}") from error
            raise

    return retry(attempt, on=(MilvusBusyError,), attempts=attempts)


def _may_pass(error: MilvusException | grpc.RpcError) -> bool:
    if isinstance(error, grpc.RpcError):
        return error.code() in _PASSING_RPC  # pyright: ignore[reportAttributeAccessIssue] - every call's error has it
    if error.retriable or isinstance(error, MilvusUnavailableException | ConnectError):
        return True
    if type(error) is not MilvusException:  # its subclasses say that the request is wrong
        return False
    # Under the code of all that is unexpected: pymilvus retried for long, a server that started again still names its old nodes.
    says_so = any(words in error.message for words in ("Retry timeout", "node not found"))
    return says_so or error.code in (*_PASSING, *_PASSING_RPC)
