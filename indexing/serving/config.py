"""Options of the HTTP service; nothing heavy is imported here, so that `tfcovr serve --help` is quick."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from indexing.serving.clip_urls import UrlPolicy


@dataclass(frozen=True, kw_only=True, slots=True)
class ServeConfig:
    """Serve an indexed archive over HTTP, with a web page."""

    bundle: Path
    """Bundle that indexed the archive, or one with the same encoder id."""
    milvus_uri: str
    """A folder (Milvus Lite) or http://HOST:19530."""
    collection: str = "clips"
    host: str = "127.0.0.1"
    port: int = 8000
    replicas: int = 1
    """Processes that answer; each holds its own encoder. One listens itself; several stand behind Ray Serve's proxy, as does one in a cluster (RAY_ADDRESS)."""
    threads_per_replica: int = 1
    """CPU threads of each encoder."""
    token: str = ""
    """Bearer token; beyond loopback one is made up and printed where none is given. Or set TFCOVR_TOKEN."""
    no_token: bool = False
    """Listen beyond loopback without a token."""
    threshold: Path | None = None
    """File of `tfcovr calibrate`: answers then say when nothing matches."""
    sample_share: float = 0.02
    """Share of the queries that are also asked exactly, for the recall in /metrics."""
    ef: int | None = None
    """Candidates of a search, for a collection with an HNSW index; none = as Milvus chooses."""
    requests_per_s: float = 50.0
    """Of one client address."""
    max_in_flight: int = 256
    """Requests at work or waiting in one replica, a few seconds of its work; one more is refused at once with 503."""
    max_body_mb: int = 64
    """Largest upload."""
    clip_hosts: tuple[str, ...] = ()
    """HOST or HOST:PORT from which a query may take its clip by URL (`clip_url`); none = URLs are off."""
    clip_hosts_private: bool = False
    """Also where these hosts have private or loopback addresses."""

    def __post_init__(self) -> None:
        if not 0 < self.port < 65536 or self.replicas < 1 or self.threads_per_replica < 1:
            raise ValueError(
                f"port is {self.port} (1 to 65535), replicas {self.replicas} and threads_per_replica "
                f"{self.threads_per_replica} (at least 1)"
            )
        if not self.token.isascii() or any(one.isspace() for one in self.token):
            raise ValueError("token must be ASCII without spaces")
        _ = self.url_policy

    @property
    def url_policy(self) -> "UrlPolicy":
        """What the two options about hosts say."""
        from indexing.serving.clip_urls import UrlPolicy

        size = self.max_body_mb << 20
        return UrlPolicy(
            hosts=self.clip_hosts, allow_private=self.clip_hosts_private, max_bytes=size
        )
