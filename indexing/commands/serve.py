"""tfcovr serve: answers over HTTP, with a web page."""

import os
import secrets
import signal
import sys
import threading
from contextlib import ExitStack

from indexing.serving.config import ServeConfig as Config

EXAMPLES = """
  tfcovr serve runs/mine
  tfcovr serve --bundle runs/demo/stage2/bundle --milvus-uri runs/demo/milvus
  tfcovr serve --bundle BUNDLE --milvus-uri http://HOST:19530 --host 0.0.0.0 --clip-hosts media.example.org
  tfcovr serve --bundle BUNDLE --milvus-uri http://HOST:19530 --collection live --next-bundle NEW --next-collection clips_new
  tfcovr serve --bundle BUNDLE --milvus-uri http://HOST:19530 --allowed-hosts clips.example.org --trusted-proxies 127.0.0.1
"""


def chosen_token(config: Config) -> str:
    """The token to ask for; "" = none, which beyond loopback must be said."""
    if config.no_token:
        if config.token:
            raise ValueError("token and no_token exclude each other")
        return ""
    given = config.token or os.environ.get("TFCOVR_TOKEN", "")
    return given or ("" if config.listens_on_loopback else secrets.token_urlsafe(24))


def run(config: Config) -> int:
    """Serve until Ctrl-C or SIGTERM."""
    from cluster.network import free_port, require_free_port
    from cluster.option_checks import require_folder
    from cluster.ray_session import has_local_servers, names_cluster, ray_session
    from encoders.backends.base import require_exported
    from encoders.bundle.card import read_card
    from indexing.serving.deploy import (
        ON_A_BUSY_MACHINE,
        ONE_LOOP,
        app_settings,
        collection_settings,
        direct_ingress,
        start_service,
        stop_service,
    )
    from indexing.serving.guard.connections import ray_serve_environment
    from indexing.store.endpoint import is_lite, require_archive, serve_milvus

    token = chosen_token(config)
    for name in ("labels", "asked"):
        require_folder(name, getattr(config, name))
    archive = config.located()
    require_archive(archive.milvus_uri)
    for bundle in filter(None, (archive.bundle, config.next_bundle)):
        require_exported(read_card(bundle), bundle)
    settings = app_settings(config, archive, token=token)
    require_free_port(config.host, config.port)
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    is_direct = config.replicas == 1 and not names_cluster()
    os.environ |= ONE_LOOP | ON_A_BUSY_MACHINE
    os.environ |= ray_serve_environment(config.connection_limits)
    os.environ |= direct_ingress(config.port) if is_direct else {}
    with ExitStack() as stack:
        session = stack.enter_context(ray_session())
        if is_lite(archive.milvus_uri) and session.num_nodes > 1:
            raise ValueError(
                f"milvus_uri {archive.milvus_uri!r} is a folder and Ray has {session.num_nodes} nodes; "
                "use a Milvus server (http://HOST:19530)"
            )
        address = stack.enter_context(serve_milvus(archive.milvus_uri))
        settings |= collection_settings(config, archive, address)
        proxy_port = free_port(config.host) if is_direct else config.port
        start_service(settings, host=config.host, proxy_port=proxy_port, replicas=config.replicas)
        ask = f"#token={token}" if token else ""
        sys.stdout.write(f"tfcovr answers at http://{config.host}:{config.port}/{ask}\n")
        sys.stdout.flush()
        ended.wait()
        stop_service(may_answer=has_local_servers if session.started_here else lambda: True)
    return 0
