"""Options of the HTTP service. Imports nothing heavy, so that `tfcovr serve --help` is quick."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from indexing.archive_folder import ArchiveOptions

if TYPE_CHECKING:
    from indexing.serving.clip_urls import UrlPolicy
    from indexing.serving.guard.limits import ConnectionLimits

_HTTP_ADDRESS = re.compile(r"https?://[^/\s]+")


@dataclass(frozen=True, kw_only=True, slots=True)
class ServeConfig(ArchiveOptions):
    """Serve an indexed archive over HTTP, with a web page."""

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = 8000
    """Port to listen on."""
    replicas: int = 1
    """Number of processes, each with its own encoder. One listens itself; several run behind Ray Serve's proxy, as does one in a cluster (RAY_ADDRESS)."""
    threads_per_replica: int = 1
    """Number of CPU threads of each encoder."""
    token: str = ""
    """Bearer token, also read from TFCOVR_TOKEN. Without one, a service that listens beyond loopback generates and prints a token."""
    no_token: bool = False
    """Whether to listen beyond loopback without a token."""
    sample_share: float = 0.02
    """Fraction of the unfiltered queries that are also run as exact search, to estimate the recall in /metrics."""
    otlp_endpoint: str = ""
    """Address of an OpenTelemetry collector, such as http://HOST:4318, that gets spans of every query by OTLP over HTTP; none = no spans."""
    ef: int | None = None
    """Number of candidates per search of an HNSW index; none = the default of Milvus."""
    requests_per_s: float = 50.0
    """Maximum sustained request rate of one client address."""
    max_in_flight: int = 256
    """Maximum number of requests in progress or waiting in one replica; one more is refused at once with 503."""
    max_in_flight_per_client: int | None = None
    """Maximum number of requests of one client address in progress or waiting; one more is refused at once with 429. None = a quarter of max_in_flight."""
    max_body_mb: int = 64
    """Maximum size of an upload in MiB."""
    max_uploads_mb: int = 256
    """Maximum size of all uploads in progress together, in MiB; one client address may take half of it."""
    max_json_kb: int = 256
    """Maximum size of a query without its video, in KiB."""
    allowed_hosts: tuple[str, ...] = ()
    """HOST or HOST:PORT by which clients may name the service. None = the names of loopback where it listens there without a token, else any name."""
    trusted_proxies: tuple[str, ...] = ()
    """Addresses or networks of proxies whose X-Forwarded-For names the client; none = no such header is believed."""
    next_bundle: Path | None = None
    """Bundle of a new encoder that fills another collection beside this one: every query is then answered from both, as one."""
    next_collection: str = ""
    """The collection that the new encoder fills."""
    asked: Path | None = None
    """Folder of counts of the clips that are asked for and answered with, for `tfcovr index --asked`; none = nothing is counted."""
    labels: Path | None = None
    """Folder that clicks of people who label are written to, such as runs/mine/labels; none = the service only reads."""
    clip_hosts: tuple[str, ...] = ()
    """HOST or HOST:PORT from which a query may load its clip by URL (`clip_url`); none = URLs are disabled."""
    clip_hosts_private: bool = False
    """Whether these hosts may have private or loopback addresses."""

    def __post_init__(self) -> None:
        if not 0 < self.port < 65536 or self.replicas < 1 or self.threads_per_replica < 1:
            raise ValueError(
                f"port is {self.port} (1 to 65535), replicas {self.replicas} and threads_per_replica "
                f"{self.threads_per_replica} (at least 1)"
            )
        self._require_search()
        for name in (
            "max_in_flight",
            "max_body_mb",
            "max_uploads_mb",
            "max_json_kb",
            "requests_per_s",
        ):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above 0")
        if not 0 < self.client_places <= self.max_in_flight:
            raise ValueError(
                f"max_in_flight_per_client is {self.client_places}; it must be 1 to max_in_flight ({self.max_in_flight})"
            )
        for host in self.allowed_hosts:
            if not host or host != host.lower() or any(char in host for char in "/@*, "):
                raise ValueError(
                    f"allowed_hosts has {host!r}; each must be HOST or HOST:PORT, in lower case, without scheme, path or wildcard"
                )
        if self.labels is not None and self.replicas > 1:
            raise ValueError(
                f"replicas is {self.replicas}; with labels it must be 1, because one process writes them"
            )
        if not self.token.isascii() or any(char.isspace() for char in self.token):
            raise ValueError("token must be ASCII without spaces")
        self._require_fitting_next()
        _ = self.url_policy, self.connection_limits

    def _require_search(self) -> None:
        if not 0 <= self.sample_share <= 1:
            raise ValueError(f"sample_share is {self.sample_share}; it must lie in [0, 1]")
        if self.ef is not None and self.ef < 1:
            raise ValueError(f"ef is {self.ef}; it must be at least 1")
        if self.otlp_endpoint and not _HTTP_ADDRESS.match(self.otlp_endpoint):
            raise ValueError(
                f"otlp_endpoint is {self.otlp_endpoint!r}; it must be http://HOST:PORT or https://HOST:PORT"
            )

    def _require_fitting_next(self) -> None:
        if (self.next_bundle is None) != (not self.next_collection):
            raise ValueError(
                f"next_bundle is {self.next_bundle} and next_collection {self.next_collection!r}; give both or neither"
            )
        if self.next_bundle is not None and self.labels is not None:
            raise ValueError(
                f"labels is {self.labels} and next_bundle {self.next_bundle}; clips are labelled by one encoder, leave one of them out"
            )

    @property
    def client_places(self) -> int:
        """The number of requests in progress that one client address may have."""
        return self.max_in_flight_per_client or max(self.max_in_flight // 4, 1)

    @property
    def burst(self) -> int:
        """The number of requests that one client address may send at once."""
        return max(200, int(self.requests_per_s))

    @property
    def listens_on_loopback(self) -> bool:
        """Whether only this machine reaches the service."""
        return self.host in ("127.0.0.1", "localhost", "::1")

    @property
    def connection_limits(self) -> "ConnectionLimits":
        """The limits of connections that follow from these options."""
        from indexing.serving.guard.limits import ConnectionLimits

        return ConnectionLimits(
            requests_per_s=self.requests_per_s,
            burst=self.burst,
            trusted_proxies=self.trusted_proxies,
        )

    @property
    def url_policy(self) -> "UrlPolicy":
        """The policy of query clips by URL that follows from these options."""
        from indexing.serving.clip_urls import UrlPolicy

        size = self.max_body_mb << 20
        return UrlPolicy(
            hosts=self.clip_hosts, allow_private=self.clip_hosts_private, max_bytes=size
        )
