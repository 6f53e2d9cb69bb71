"""`tfcovr milvus start|stop|status`: the Milvus server of the PyPI package `milvus`, in a folder, for development."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil

from cluster.network import free_port
from cluster.storage import write_atomic

STATE = "server.json"
_START_TIMEOUT_S = 90.0
_STOP_TIMEOUT_S = 20.0
_HOLDER = """
import signal, socket, sys, threading
from milvus import MilvusServer, MilvusServerConfig

def bound(self, port):
    # The package's own does not take a port on which connections of a dead server linger, and quietly takes the next.
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind(("127.0.0.1", port))
        sock.listen()
    except OSError:
        return None
    return sock

MilvusServerConfig.try_bind_port = bound
server = MilvusServer()
server.set_base_dir(sys.argv[1])
server.listen_port = int(sys.argv[2])
ended = threading.Event()
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, lambda *_: ended.set())
server.start()
if server.listen_port != int(sys.argv[2]):
    server.stop()
    sys.exit(f"port {sys.argv[2]} is taken")
ended.wait()
server.stop()
"""


def start(folder: Path, port: int = 0) -> str:
    """Start a server and return its URI when it answers; one that already runs in this folder is reused."""
    running = status(folder)
    if running is not None:
        return running
    if find_spec("milvus") is None:
        raise ImportError("`tfcovr milvus` needs the server's package: pip install '.[server]'")
    folder.mkdir(parents=True, exist_ok=True)
    port = port or free_port()
    with (folder / "server.log").open("ab") as log:
        holder = subprocess.Popen(
            [sys.executable, "-c", _HOLDER, str(folder.resolve()), str(port)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env=os.environ | {"ETCD_CONFIG_PATH": str(_write_etcd_config(folder.resolve()))},
        )
    state = {"pid": holder.pid, "started": psutil.Process(holder.pid).create_time()}
    uri = f"http://127.0.0.1:{port}"
    write_atomic(folder / STATE, json.dumps(state | {"uri": uri}).encode())
    give_up = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < give_up:
        if holder.poll() is not None:
            raise OSError(f"Milvus ended at once; see {folder / 'server.log'}")
        if _answers(port):
            return uri
        time.sleep(0.3)
    stop(folder)
    raise OSError(f"Milvus did not answer in {_START_TIMEOUT_S:g} s; see {folder / 'server.log'}")


def stop(folder: Path) -> bool:
    """Stop the server of a folder and all of its processes; False where none runs."""
    holder = _holder(folder)
    if holder is None:
        return False
    processes = [holder, *holder.children(recursive=True)]
    os.kill(holder.pid, signal.SIGTERM)
    _gone, alive = psutil.wait_procs(processes, timeout=_STOP_TIMEOUT_S)
    for process in alive:
        process.kill()
    psutil.wait_procs(alive, timeout=_STOP_TIMEOUT_S)
    (folder / STATE).unlink(missing_ok=True)
    return True


def crash(folder: Path) -> bool:
    """Kill the server of a folder without a clean shutdown, as a crash would; False where none runs."""
    holder = _holder(folder)
    if holder is None:
        return False
    processes = [holder, *holder.children(recursive=True)]
    for process in processes:
        process.kill()
    psutil.wait_procs(processes, timeout=_STOP_TIMEOUT_S)
    (folder / STATE).unlink(missing_ok=True)
    return True


def status(folder: Path) -> str | None:
    """The URI of the server that runs in a folder, or None."""
    return None if _holder(folder) is None else _state(folder)["uri"]


def _state(folder: Path) -> dict[str, Any]:
    try:
        return json.loads((folder / STATE).read_text())
    except FileNotFoundError:
        return {}


def _holder(folder: Path) -> psutil.Process | None:
    """The process that was started; its start time tells it from another that got the same pid since."""
    state = _state(folder)
    try:
        process = psutil.Process(state["pid"])
        is_it = abs(process.create_time() - state["started"]) < 0.01
        return process if is_it and process.status() != psutil.STATUS_ZOMBIE else None
    except (KeyError, psutil.NoSuchProcess):
        return None


def _write_etcd_config(folder: Path) -> Path:
    """Ports of its own for the etcd inside the server: with its fixed ones, a machine could run only one server."""
    client, peer = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
    lines = {
        "name": "default",
        "listen-client-urls": client,
        "advertise-client-urls": client,
        "listen-peer-urls": peer,
        "initial-advertise-peer-urls": peer,
        "initial-cluster": f"default={peer}",
    }
    path = folder / "etcd.yaml"
    write_atomic(path, "".join(f"{key}: {value}\n" for key, value in lines.items()).encode())
    return path


def _answers(port: int) -> bool:
    from pymilvus import MilvusClient
    from pymilvus.exceptions import MilvusException

    with socket.socket() as probe:
        probe.settimeout(1)
        if probe.connect_ex(("127.0.0.1", port)) != 0:
            return False
    try:
        # Its own connection: a shared one may be that of the server which died on this port, and back off.
        client: Any = MilvusClient(uri=f"http://127.0.0.1:{port}", timeout=5, dedicated=True)
    except MilvusException:
        return False
    try:
        client.list_collections(timeout=5)
    except MilvusException:
        return False
    finally:
        client.close()
    return True
