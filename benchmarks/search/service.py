"""`tfcovr serve` as a process of its own, and clients that ask it over kept connections."""

import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from benchmarks.harness.record import REPOSITORY
from cluster.network import free_port

TOKEN = "benchmark"
START_TIMEOUT_S = 300.0
_STOP_TIMEOUT_S = 40.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """Status 0 = no answer came; `seconds` as the client saw them."""

    status: int
    body: Mapping[str, Any]
    seconds: float


class HttpClient:
    """One client of the service: one connection, opened again where it broke. Not for several threads."""

    def __init__(self, port: int, *, timeout_s: float = 30.0) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)

    def ask(self, query: Mapping[str, Any]) -> Reply:
        """One query."""
        headers = {"content-type": "application/json", "authorization": f"Bearer {TOKEN}"}
        body = json.dumps(query).encode()
        start_s = time.perf_counter()
        try:
            self._connection.request("POST", "/v1/search", body, headers)
            answer = self._connection.getresponse()
            status, text = answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()
            return Reply(status=0, body={}, seconds=time.perf_counter() - start_s)
        seconds = time.perf_counter() - start_s
        return Reply(status=status, body=json.loads(text), seconds=seconds)

    def get_status(self, path: str) -> int:
        """Of a GET; 0 = no answer came."""
        try:
            self._connection.request("GET", path, headers={"authorization": f"Bearer {TOKEN}"})
            answer = self._connection.getresponse()
            answer.read()
            return answer.status
        except (OSError, http.client.HTTPException):
            self._connection.close()
            return 0

    def close(self) -> None:
        """Let the connection go."""
        self._connection.close()


@dataclass(frozen=True, kw_only=True, slots=True)
class Service:
    """A service that runs."""

    port: int
    process: psutil.Process

    def client(self) -> HttpClient:
        """A new one."""
        return HttpClient(self.port)

    def replicas(self) -> list[psutil.Process]:
        """The processes that answer."""
        replicas = []
        for process in self.process.children(recursive=True):
            with suppress(psutil.Error):
                if "ServeReplica" in " ".join(process.cmdline()):
                    replicas.append(process)
        return replicas

    def memory_mib(self) -> float:
        """Resident, of the replicas."""
        return sum(process.memory_info().rss for process in self.replicas()) / 2**20


@contextmanager
def running_service(
    options: Sequence[str], *, log_path: Path, requests_per_s: float | str = "1e6"
) -> Iterator[Service]:
    """`tfcovr serve` with these options, once it is ready; ended with all of its processes."""
    port = free_port()
    command = [sys.executable, "-m", "tfcovr", "serve", "--port", str(port), "--token", TOKEN, "--requests-per-s", str(requests_per_s), *options]  # fmt: skip
    paths = [str(REPOSITORY), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    with log_path.open("ab") as log:
        started = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment
        )
    process = psutil.Process(started.pid)
    service = Service(port=port, process=process)
    try:
        _wait_ready(service, started, log_path)
        yield service
    finally:
        family = [process, *process.children(recursive=True)] if started.poll() is None else []
        if family:
            started.terminate()
        _gone, alive = psutil.wait_procs(family, timeout=_STOP_TIMEOUT_S)
        for process in alive:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        started.wait()


def _wait_ready(service: Service, started: subprocess.Popen, log_path: Path) -> None:
    give_up_s = time.monotonic() + START_TIMEOUT_S
    client = service.client()
    while client.get_status("/readyz") != 200:
        if started.poll() is not None or time.monotonic() > give_up_s:
            raise OSError(f"the service did not start; see {log_path}")
        time.sleep(0.25)
    client.close()
