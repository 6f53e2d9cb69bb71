"""`tfcovr serve`: the HTTP service on Ray Serve, and whoever opens the archive for it.

Ray starts first: it forks, and a process that has opened Milvus Lite has threads that do not survive a fork.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from encoders.bundle.card import BundleCard
from indexing.serving.batching import EngineConfig
from indexing.serving.clip_urls import UrlPolicy
from indexing.serving.middleware import Limits

APP_NAME = "tfcovr"
# A request crosses fewer threads: the app never holds up the loop that it shares with Ray, encoder and Milvus have threads.
ONE_LOOP = {
    "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
    "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "0",
}


def direct_ingress(port: int) -> dict[str, str]:
    """Settings of Ray Serve by which one replica listens on `port` itself: no request passes a proxy.

    A replica that is started anew takes the same port at once.
    """
    return {
        "RAY_SERVE_ENABLE_DIRECT_INGRESS": "1",
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(port),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(port + 1),
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "0",
        "RAY_SERVE_PORT_QUARANTINE_S": "0",
    }


@dataclass(frozen=True, kw_only=True, slots=True)
class ServeConfig:
    """Serve an indexed archive over HTTP, with a web page.

    Example: tfcovr serve --bundle-dir runs/demo/stage2/bundle --milvus-uri runs/demo/milvus --clip-hosts media.example.org
    """

    bundle_dir: Path
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
    def url_policy(self) -> UrlPolicy:
        """What the two options about hosts say."""
        size = self.max_body_mb << 20
        return UrlPolicy(
            hosts=self.clip_hosts, allow_private=self.clip_hosts_private, max_bytes=size
        )


def build_app(settings: dict[str, Any]) -> Any:
    """The ASGI app, made inside a replica from plain values."""
    from indexing.search.client import SearchClient, SearchOptions
    from indexing.search.threshold import AbstainThreshold
    from indexing.serving.app import UPLOAD_LIMITS, AppConfig, create_app
    from indexing.store.client import QUERYING

    threshold = settings["threshold"]
    options = SearchOptions(
        num_threads=settings["num_threads"],
        limits=UPLOAD_LIMITS,
        decode_deadline_s=20.0,
        threshold=None if threshold is None else AbstainThreshold(**threshold),
        files=False,
        asking=replace(QUERYING, ef=settings["ef"]),
    )

    def open_client() -> SearchClient:
        where = (settings["milvus_address"], settings["collection"], settings["bundle_dir"])
        return SearchClient(*where, options=options)

    config = AppConfig(
        limits=Limits(**settings["limits"]),
        engine=EngineConfig(
            sample_share=settings["sample_share"],
            max_waiting=settings["limits"]["max_in_flight"],  # the guard refuses, not the line
        ),
        urls=UrlPolicy(**settings["urls"]),
    )
    return create_app(open_client, config)


def app_settings(config: ServeConfig, card: BundleCard, *, token: str) -> dict[str, Any]:
    """What a replica needs beside Milvus's address, as plain values."""
    from dataclasses import asdict

    from indexing.search.threshold import read_threshold

    threshold = None
    if config.threshold is not None:
        ids = {"encoder_id": card.encoder_id, "bundle_id": card.bundle_id}
        threshold = asdict(read_threshold(config.threshold, **ids))
    return {
        "collection": config.collection,
        "bundle_dir": str(config.bundle_dir.resolve()),
        "num_threads": config.threads_per_replica,
        "threshold": threshold,
        "sample_share": config.sample_share,
        "ef": config.ef,
        "urls": asdict(config.url_policy),
        "limits": {
            "token": token,
            "max_body_bytes": config.max_body_mb << 20,
            "requests_per_s": config.requests_per_s,
            "burst": max(200, int(config.requests_per_s)),
            "max_in_flight": config.max_in_flight,
        },
    }


def start_service(settings: dict[str, Any], *, host: str, proxy_port: int, replicas: int) -> None:
    """Deploy on the Ray at hand; returns when replicas answer."""
    from ray import serve
    from ray.serve.config import HTTPOptions
    from ray.serve.schema import LoggingConfig

    def build() -> Any:
        return build_app(settings)

    quiet = LoggingConfig(log_level="WARNING", enable_access_log=False)
    serve.start(
        http_options=HTTPOptions(host=host, port=proxy_port, request_timeout_s=90),
        logging_config=quiet,
    )
    deployment = serve.deployment(
        num_replicas=replicas,
        max_ongoing_requests=2 * settings["limits"]["max_in_flight"],  # the guard refuses first
        max_queued_requests=256,
        # The proxy and the replicas share the cores.
        ray_actor_options={"num_cpus": 0, "runtime_env": {"env_vars": ONE_LOOP}},
        logging_config=quiet,
    )(serve.ingress(build)())
    serve.run(deployment.bind(), name=APP_NAME, route_prefix="/")


def stop_service() -> None:
    """End the deployment and its proxy."""
    from ray import serve

    serve.shutdown()
