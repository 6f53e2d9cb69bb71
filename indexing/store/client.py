"""Timeout, retry and consistency policies of Milvus calls: an indexing run waits for a server that restarts, a query does not."""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

import grpc
from pymilvus import MilvusClient
from pymilvus.exceptions import ConnectError, MilvusException, MilvusUnavailableException

from cluster.network import is_loopback_host, require_listener
from cluster.repetition import retry
from indexing.sources.uris import public_uri, without_secrets
from indexing.store.endpoint import split_token

ALLOW_OLD = "TFCOVR_ALLOW_OLD_MILVUS"
"""Environment variable; 1 = use servers whose versions have known holes."""
_CONNECT_S = 10.0
_PASSING_RPC = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
# Error codes of a server that starts, loads or stops: no service, no such node, channel, segment or replica yet. pymilvus
# raises its base class with 2 when a channel breaks.
_PASSING = (2, 5, 101, 103, 201, 202, 401, 500, 501, 503, 600, 601, 602, 901, 902, 903, 904)


class MilvusBusyError(OSError):
    """Milvus could not answer this time; a retry may succeed."""


MILVUS_ERRORS = (OSError, MilvusException, grpc.RpcError)
"""All that a call to Milvus raises where Milvus fails, for good or for now."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CallOptions:
    """Options of calls to Milvus; the defaults are those of a run that writes."""

    timeout_s: float = 60.0
    """Timeout of one attempt."""
    attempts: int = 7
    """Maximum number of attempts; 7 wait for 31 s in total, enough for a server to restart."""
    freshness: Literal["", "Strong", "Bounded"] = ""
    """Consistency level: Strong sees every write and waits up to 0.2 s for the server's next tick; Bounded may miss the last seconds;
    "" = the level of the collection, which is Strong."""
    ef: int | None = None
    """Number of candidates per search of an HNSW index; None = the default of the server."""

    def __post_init__(self) -> None:
        if (
            not self.timeout_s > 0
            or self.attempts < 1
            or not 1 <= (1 if self.ef is None else self.ef) <= 32_768
        ):
            raise ValueError(f"timeout_s must be above 0, attempts at least 1, ef 1 to 32768; got {self}")  # fmt: skip

    def read_options(self) -> dict[str, Any]:
        """Keyword arguments of a call that reads."""
        return {"timeout": self.timeout_s} | (
            {"consistency_level": self.freshness} if self.freshness else {}
        )

    def search_params(self, limit: int) -> dict[str, Any]:
        """Search parameters for a number of hits."""
        return {} if self.ef is None else {"params": {"ef": max(self.ef, limit)}}


QUERYING = CallOptions(timeout_s=5.0, attempts=1, freshness="Bounded")
"""Options of an interactive query: short timeout, one attempt."""


def connect(address: str, attempts: int = 7) -> MilvusClient:
    """Connect to Milvus. ConnectionError where nothing listens at the address; a server that listens but does not answer is retried."""

    uri, token = split_token(address)

    def attempt() -> MilvusClient:
        try:
            return MilvusClient(uri=uri, token=token, timeout=_CONNECT_S)
        except MilvusException as error:
            message = (
                f"no Milvus answers at {public_uri(address)!r} ({without_secrets(str(error))})"
            )
            try:
                require_listener(address)
            except OSError:
                raise ConnectionError(
                    f"{message}; start it, or give a folder to use Milvus Lite"
                ) from error
            raise MilvusBusyError(
                f"{message}; the port is open but Milvus did not answer"
            ) from error

    return retry(attempt, on=(MilvusBusyError,), attempts=attempts)


def require_fixed_server(client: MilvusClient, address: str) -> None:
    """ValueError for a server beyond loopback whose version lets anybody in, unless ALLOW_OLD says that it may be used.

    Before these versions, the proxy could be asked without a password (CVE-2025-64513), and so could port 9091 (CVE-2026-26190).
    """
    host = urlsplit(address).hostname or ""
    if is_loopback_host(host) or os.environ.get(ALLOW_OLD) == "1":
        return
    version = str(client.get_server_version(timeout=_CONNECT_S))
    if is_fixed_version(version):
        return
    raise ValueError(
        f"Milvus at {public_uri(address)!r} has version {version}, which others on its network can use without a password "
        f"(CVE-2025-64513, CVE-2026-26190); upgrade it to 2.5.27, 2.6.10 or later, or set {ALLOW_OLD}=1 to use it all the same"
    )


def is_fixed_version(version: str) -> bool:
    """Whether a version has no known way around its password; a name that is not a version, as of a hosted service, passes."""
    matched = re.match(r"v?(\d+)\.(\d+)\.(\d+)", version)
    if matched is None:
        return True
    numbers = tuple(map(int, matched.groups()))
    return numbers >= (2, 6, 10) or (2, 5, 27) <= numbers < (2, 6, 0)


def call_milvus(call: Callable[[], Any], attempts: int = 7) -> Any:
    """Call Milvus with retries of transient errors; every other error is raised at once."""

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
    if type(error) is not MilvusException:  # its subclasses mean that the request is invalid
        return False
    # These share the code of unexpected errors: pymilvus gave up retrying, or a restarted server still lists its old nodes.
    says_so = any(words in error.message for words in ("Retry timeout", "node not found"))
    return says_so or error.code in (*_PASSING, *_PASSING_RPC)
