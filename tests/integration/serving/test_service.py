"""`tfcovr serve` as a user starts it: a process on Ray Serve, one replica that listens itself or several behind a proxy."""

import http.client
import socket
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from benchmarks.search.service import Service, running_service

BACK_WITHIN_S = 90


def first_hits(service: Service) -> list[str]:
    client = service.client()
    reply = client.ask({"clip": "clip/4", "limit": 3})
    client.close()
    return [hit["clip_id"] for hit in reply.body["hits"]] if reply.status == 200 else []


def listeners(service: Service) -> list[str]:
    """Command lines of the processes that listen on the service's port."""
    found = []
    for process in service.process.children(recursive=True):
        for connection in process.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == service.port:
                found.append(" ".join(process.cmdline()))
    return found


def beyond_loopback(service: Service) -> list[str]:
    """What the processes of the service listen on that other machines reach."""
    return [
        f"{process.name()} {connection.laddr.ip}:{connection.laddr.port}"
        for process in service.process.children(recursive=True)
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
        and connection.laddr.ip.removeprefix("::ffff:") not in ("127.0.0.1", "::1")
    ]


def status_of(service: Service, path: str, **headers: str) -> tuple[int, str]:
    """Status and media type of a GET with these headers and no others."""
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=20)
    connection.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})  # fmt: skip
    reply = connection.getresponse()
    reply.read()
    connection.close()
    return reply.status, reply.headers["content-type"]


@pytest.mark.parametrize(("replicas", "listener"), [(1, "ServeReplica"), (2, "ProxyActor")])
def test_the_service_answers_and_outlives_a_killed_replica(
    archive, tiny_bundle, tmp_path: Path, replicas: int, listener: str
) -> None:
    folder, vectors = archive
    options = ["--bundle", str(tiny_bundle), "--milvus-uri", str(folder / "milvus"), "--replicas", str(replicas)]  # fmt: skip
    cosines = vectors @ vectors[4]
    wanted = [f"clip/{i}" for i in np.argsort(-cosines) if i != 4][:3]
    with running_service(options, log_path=tmp_path / "service.log") as service:
        assert first_hits(service) == wanted
        (listening,) = listeners(service)
        assert listener in listening
        assert beyond_loopback(service) == []
        problem = "application/problem+json"
        for path in ("/-/routes", "/-/healthz"):
            assert status_of(service, path) == (404, problem)
        assert status_of(service, "/v1/quality") == (401, problem)
        assert status_of(service, "/v1/quality", x_request_id="\xff") == (401, problem)
        with socket.create_connection(("127.0.0.1", service.port), 30) as half:
            half.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n")
            assert half.recv(100).startswith(b"HTTP/1.1 408 ")
        killed = service.replicas()
        assert len(killed) == replicas
        for replica in killed:
            replica.kill()
        give_up_s = time.monotonic() + BACK_WITHIN_S
        while not (found := first_hits(service)) and time.monotonic() < give_up_s:
            time.sleep(0.5)
        assert found == wanted
