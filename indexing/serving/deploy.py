"""Deployment of the HTTP service on Ray Serve.

Ray starts first: it forks, and a process that has opened Milvus Lite has threads that do not survive a fork.
"""

import gc
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from indexing.archive_folder import Archive
from indexing.serving.batching import BatcherConfig
from indexing.serving.clip_urls import UrlPolicy
from indexing.serving.config import ServeConfig
from indexing.serving.guard.access import LOOPBACK_HOSTS
from indexing.serving.guard.limits import Limits

if TYPE_CHECKING:
    from indexing.serving.metrics import Quality

APP_NAME = "tfcovr"
_ERROR = re.compile(r"[\w.]*(Error|Exception)\b.*: ")
_KEEP_ALIVE_S = 30
_EXPORT_EVERY_S = 5.0
_QUIET: dict[str, Any] = {"log_level": "WARNING", "enable_access_log": False}
_SWITCH_INTERVAL_S = 0.001
_STOPS_S = 15.0
_ADD_GRPC_PORT = "add_port_to_grpc_server"
# Fewer thread switches per request. Safe because the app never blocks the event loop that it shares with Ray: the encoder and Milvus
# run in threads of their own.
ONE_LOOP = {
    "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
    "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "0",
}
ON_A_BUSY_MACHINE = {
    "RAY_worker_niceness": "0",
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "120",
    "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "120",
}
"""For a Ray that starts here. By default its workers have niceness 15: whatever else runs on the machine would hold up every answer, and
the processes that trim and decode for the service, meant to come after it, would have almost its share of the cores. And a proxy that
gets no processor for 15 s would be killed, and the service not start."""


def direct_ingress(port: int) -> dict[str, str]:
    """Settings of Ray Serve by which one replica listens on `port` itself: no request passes a proxy.

    A restarted replica takes the same port at once.
    """
    return {
        "RAY_SERVE_ENABLE_DIRECT_INGRESS": "1",
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(port),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(port + 1),
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "0",
        "RAY_SERVE_PORT_QUARANTINE_S": "0",
    }


def build_app(settings: dict[str, Any]) -> Any:
    """The ASGI app, built inside a replica from plain values."""
    from cluster.telemetry import open_tracer
    from indexing.search.client import SearchClient, SearchOptions
    from indexing.search.migration.compare_collections import EncodedCollection
    from indexing.search.migration.two_generations import TwoGenerations
    from indexing.serving.app import UPLOAD_LIMITS, AppConfig, create_app
    from indexing.serving.spans import QuerySpans
    from indexing.store.client import QUERYING

    # The event loop gets the interpreter back from the threads that read queries and rank answers after a fifth of the usual time.
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    options = SearchOptions(
        num_threads=settings["num_threads"],
        limits=UPLOAD_LIMITS,
        decode_deadline_s=20.0,
        moved_videos=settings["moved_videos"],
        files=False,
        call_options=replace(QUERYING, ef=settings["ef"]),
    )

    def open_client() -> SearchClient:
        address, following = settings["milvus_address"], settings["next"]
        name, bundle_dir = settings["collection"], Path(settings["bundle_dir"])
        if following is None:
            return SearchClient(address, name, bundle_dir, options=options)
        present = EncodedCollection(collection=name, bundle_dir=bundle_dir)
        following = EncodedCollection(
            collection=following["collection"], bundle_dir=Path(following["bundle_dir"])
        )
        alias = settings["alias"]
        return TwoGenerations(address, present, following, alias=alias, options=options)

    config = AppConfig(
        limits=Limits(**settings["limits"]),
        batching=BatcherConfig(
            sample_share=settings["sample_share"],
            max_waiting=settings["limits"][
                "max_in_flight"
            ],  # the guard refuses before the queue is full
        ),
        urls=UrlPolicy(**settings["urls"]),
        labels=None if settings["labels"] is None else Path(settings["labels"]),
        asked=None if settings["asked"] is None else Path(settings["asked"]),
        spans=QuerySpans(
            open_tracer(endpoint) if (endpoint := settings["otlp_endpoint"]) else None
        ),
        while_serving=_while_serving,
    )
    return create_app(open_client, config)


@contextmanager
def _while_serving(quality: "Quality") -> Iterator[None]:
    """Copy the metrics of this replica to Ray's endpoint: behind the proxy, /metrics is that of whichever replica answers."""
    from cluster.repetition import repeated
    from cluster.telemetry import RayMetrics

    # What is there now stays. Looking through the 300,000 objects of torch, Ray and the client again and again would stop every
    # answer for 0.15 s.
    gc.collect()
    gc.freeze()
    metrics = RayMetrics(quality, labels={"replica": f"{socket.gethostname()}-{os.getpid()}"})
    with repeated(metrics.export, every_s=_EXPORT_EVERY_S, name="export-metrics"):
        yield


def _keep_replica_on_loopback() -> None:
    """In a Ray that listens on loopback, bind the replica's gRPC server there too: Ray Serve binds it to every address."""
    import ray
    from ray.serve._private import replica

    if ray.util.get_node_ip_address() != "127.0.0.1":
        return
    add_port = getattr(replica, _ADD_GRPC_PORT)

    def add_loopback_port(server: Any, address: str) -> int:
        return add_port(server, address.replace("[::]", "127.0.0.1"))

    setattr(replica, _ADD_GRPC_PORT, add_loopback_port)


def app_settings(config: ServeConfig, archive: Archive, *, token: str) -> dict[str, Any]:
    """The settings of a replica, without the address of Milvus, as plain values."""
    from dataclasses import asdict

    return {
        "collection": archive.collection,
        "bundle_dir": str(archive.bundle.resolve()),
        "moved_videos": archive.moved_videos,
        "num_threads": config.threads_per_replica,
        "sample_share": config.sample_share,
        "ef": config.ef,
        "otlp_endpoint": config.otlp_endpoint,
        "urls": asdict(config.url_policy),
        "labels": None if config.labels is None else str(config.labels.resolve()),
        "asked": None if config.asked is None else str(config.asked.resolve()),
        "next": config.next_bundle
        and {
            "collection": config.next_collection,
            "bundle_dir": str(config.next_bundle.resolve()),
        },
        "limits": {
            "token": token,
            "allowed_hosts": allowed_hosts(config, token=token),
            "max_json_bytes": config.max_json_kb << 10,
            "max_body_bytes": config.max_body_mb << 20,
            "max_upload_bytes": config.max_uploads_mb << 20,
            "requests_per_s": config.requests_per_s,
            "burst": config.burst,
            "max_in_flight": config.max_in_flight,
            "max_in_flight_per_client": config.client_places,
        },
    }


def collection_settings(config: ServeConfig, archive: Archive, address: str) -> dict[str, Any]:
    """The settings that say where the vectors are, after a look at the collections; ValueError where one is not of its bundle.

    While an encoder is changed, `collection` is what the alias named before: also in a service that starts after the promotion.
    """
    from encoders.bundle.card import read_card
    from indexing.store.aliases import open_catalog
    from indexing.store.collection import open_collection

    name = archive.collection
    asked = {name: archive.bundle}
    if config.next_bundle is not None:
        with open_catalog(address) as catalog:
            name = catalog.before(archive.collection, config.next_collection)
        asked = {name: archive.bundle, config.next_collection: config.next_bundle}
    for one, bundle in asked.items():
        with open_collection(address, one) as collection:
            collection.check(encoder_id=read_card(bundle).encoder_id)
    return {"milvus_address": address, "collection": name, "alias": archive.collection}


def allowed_hosts(config: ServeConfig, *, token: str) -> tuple[str, ...]:
    """The names that a Host header may hold: without a token, a page that a browser reaches by another name must not be answered."""
    if config.allowed_hosts or token or not config.listens_on_loopback:
        return config.allowed_hosts
    return LOOPBACK_HOSTS


def application(options: dict[str, Any]) -> Any:
    """The service as an application of a Ray Serve config file, whose `args` are options of `tfcovr serve`.

    ValueError for options that it does not have, a Milvus that only one machine reaches, or without TFCOVR_TOKEN.
    """
    from encoders.files import from_dict
    from indexing.store.endpoint import is_lite

    config = from_dict(ServeConfig, {"host": "0.0.0.0", **options}, "args")
    token = config.token or os.environ.get("TFCOVR_TOKEN", "")
    if not token and not config.no_token:
        raise ValueError("TFCOVR_TOKEN is not set; give the service a token by it, or no_token")
    archive = config.located()
    if is_lite(archive.milvus_uri):
        raise ValueError(
            f"milvus_uri is {archive.milvus_uri!r}, a folder; give a server, http://HOST:19530"
        )
    settings = app_settings(config, archive, token=token)
    settings |= collection_settings(config, archive, archive.milvus_uri)
    return _deployment(settings, replicas=config.replicas).bind()


def _deployment(settings: dict[str, Any], *, replicas: int) -> Any:
    from ray import serve
    from ray.serve.schema import LoggingConfig

    def build() -> Any:
        _keep_replica_on_loopback()
        return build_app(settings)

    return serve.deployment(
        num_replicas=replicas,
        max_ongoing_requests=2 * settings["limits"]["max_in_flight"],  # the guard refuses first
        max_queued_requests=256,
        # The proxy and the replicas share the cores.
        ray_actor_options={"num_cpus": 0, "runtime_env": {"env_vars": ONE_LOOP}},
        logging_config=LoggingConfig(**_QUIET),
    )(serve.ingress(build)())


def start_service(settings: dict[str, Any], *, host: str, proxy_port: int, replicas: int) -> None:
    """Deploy on the connected Ray; returns when the replicas answer. ConnectionError with the reason of a replica that cannot start."""
    from ray import serve
    from ray._private.worker import global_worker
    from ray.serve.config import HTTPOptions
    from ray.serve.schema import LoggingConfig

    serve.start(
        http_options=HTTPOptions(
            host=host, port=proxy_port, request_timeout_s=90, keep_alive_timeout_s=_KEEP_ALIVE_S
        ),
        logging_config=LoggingConfig(**_QUIET),
    )
    deployment = _deployment(settings, replicas=replicas)
    try:
        serve.run(deployment.bind(), name=APP_NAME, route_prefix="/")
    except RuntimeError as error:
        node = global_worker.node
        folder = Path(node.get_session_dir_path() if node else "/tmp/ray", "logs", "serve")
        reason = last_error(folder) or f"{error} (logs: {folder})"
        raise ConnectionError(f"the service did not start: {reason}") from error


def last_error(folder: Path) -> str:
    """The last error that a replica logged in this folder; "" where there is none.

    Ray Serve itself tells only that a replica did not start.
    """
    logs = sorted(folder.glob(f"replica_{APP_NAME}_*.log"), key=lambda log: log.stat().st_mtime)
    lines = [line.strip() for log in logs for line in log.read_text(errors="replace").splitlines()]
    return next((line for line in reversed(lines) if _ERROR.match(line)), "")


def stop_service(*, may_answer: Callable[[], bool]) -> None:
    """Stop the deployment and its proxy, and wait for that; not for a controller that was terminated with everything else."""
    from ray import serve

    thread = threading.Thread(target=serve.shutdown, name="stop-service", daemon=True)
    thread.start()
    give_up_s = time.monotonic() + _STOPS_S
    while thread.is_alive() and may_answer() and time.monotonic() < give_up_s:
        thread.join(0.2)
