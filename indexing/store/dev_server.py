"""`tfcovr milvus start|stop|status`: the Milvus server of the PyPI package `milvus`, in a folder, for development.

A server is known by its program, FOLDER/bin/milvus, and not by who started it, so it is found again whoever has died meanwhile.
It has no users, and it cannot be told an address to listen on: it runs behind a filter that keeps its sockets on loopback.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import yaml
from filelock import FileLock, Timeout

from cluster.network import free_port, is_loopback, keep_on_loopback
from cluster.storage import write_atomic

STATE = "server.json"
"""Written for other programs: process and URI of the server that was started last."""
_LOG = "server.log"
_HOLDER = "indexing.store.dev_server"
_START_TIMEOUT_S = 90.0
_STOP_TIMEOUT_S = 20.0
_CONFIGURED_S = 10.0
"""A server has its configuration by then."""
# Its parts wait for each other when they stop, half an hour by default; what was written is in its log already.
_GRACE_S = 3
_PARTS = ("rootCoord", "proxy", "queryCoord", "queryNode", "indexNode", "dataCoord", "dataNode")


def start(folder: Path, port: int = 0) -> str:
    """Start a server and return its URI when it answers; one that already runs in this folder is reused."""
    folder = folder.resolve()
    holder = None
    if _server(folder) is None:
        if find_spec("milvus") is None:
            raise ImportError("`tfcovr milvus` needs the server's package: pip install '.[server]'")
        holder = _start_holder(folder, port or free_port())
    give_up = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < give_up:
        server = _server(folder)
        if server is not None and time.time() - server.create_time() > _CONFIGURED_S:
            status(folder)  # names a configuration that cannot be read
        if server is not None and (uri := _uri(folder)) and _answers(uri):
            _require_loopback(folder, server, stop_it=holder is not None)
            write_atomic(folder / STATE, json.dumps({"pid": server.pid, "uri": uri}))
            return uri
        is_over = holder is not None and holder.poll() is not None and not _holders(folder)
        if is_over and _server(folder) is None:
            raise OSError(f"Milvus ended at once: {_last_line(folder / _LOG)}; see {folder / _LOG}")
        time.sleep(0.3)
    if holder is not None:
        stop(folder)
        raise OSError(f"Milvus did not answer in {_START_TIMEOUT_S:g} s; see {folder / _LOG}")
    raise OSError(
        f"the Milvus server of {folder} runs and has not answered for {_START_TIMEOUT_S:g} s; "
        f"end it with: tfcovr milvus stop --folder {folder}"
    )


def stop(folder: Path) -> bool:
    """Stop the server of a folder and all of its processes; False where none runs."""
    return _end(folder, signal.SIGTERM)


def crash(folder: Path) -> bool:
    """Kill the server of a folder without a clean shutdown, as a crash would; False where none runs."""
    return _end(folder, signal.SIGKILL)


def status(folder: Path) -> str | None:
    """The URI of the server that runs in a folder, or None; OSError where one runs whose configuration cannot be read."""
    if _server(folder) is None:
        return None
    if uri := _uri(folder):
        return uri
    raise OSError(
        f"a Milvus server runs in {folder}, but {_config_path(folder)} does not tell its port; "
        f"end it with: tfcovr milvus stop --folder {folder}"
    )


def _end(folder: Path, number: signal.Signals) -> bool:
    processes = [*_holders(folder), *filter(None, [_server(folder)])]
    if not processes:
        return False
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            try:
                process.send_signal(number)
            except psutil.AccessDenied:
                raise _of_another_user(folder, process) from None
    _gone, alive = psutil.wait_procs(processes, timeout=_STOP_TIMEOUT_S)
    for process in alive:
        process.kill()
    _gone, alive = psutil.wait_procs(alive, timeout=_STOP_TIMEOUT_S)
    (folder / STATE).unlink(missing_ok=True)
    if alive:
        pids = ", ".join(str(process.pid) for process in alive)
        raise OSError(f"processes {pids} of the Milvus server of {folder} do not end")
    return True


def _server(folder: Path) -> psutil.Process | None:
    """The server itself, whoever started it."""
    program = str(folder.resolve() / "bin" / "milvus")
    for process in psutil.process_iter(["exe", "status"]):
        is_it = process.info["exe"] == program
        if is_it and process.info["status"] != psutil.STATUS_ZOMBIE:
            return process
    return None


def _holders(folder: Path) -> list[psutil.Process]:
    """The process that started the server of a folder and waits for its end."""
    arguments = [_HOLDER, str(folder.resolve())]
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if (process.info["cmdline"] or [])[-3:-1] == arguments
    ]


def _uri(folder: Path) -> str:
    """The address that the server was told; "" where its configuration is gone or damaged."""
    with suppress(OSError, yaml.YAMLError, KeyError, TypeError, ValueError):
        config = yaml.safe_load(_config_path(folder).read_text())
        if 0 < (port := int(config["proxy"]["port"])) < 2**16:
            return f"http://127.0.0.1:{port}"
    return ""


def _config_path(folder: Path) -> Path:
    return folder / "configs" / "milvus.yaml"


def _of_another_user(folder: Path, process: psutil.Process) -> OSError:
    return OSError(
        f"the Milvus server of {folder} (process {process.pid}) belongs to another user, who must end it; or name another folder"
    )


def _require_loopback(folder: Path, server: psutil.Process, *, stop_it: bool) -> None:
    """OSError for a server that other machines can reach, because it has no users."""
    try:
        connections = server.net_connections("inet")
    except psutil.AccessDenied:
        raise _of_another_user(folder, server) from None
    listening = [c.laddr for c in connections if c.status == psutil.CONN_LISTEN]
    outside = sorted({f"{ip}:{port}" for ip, port in listening if not is_loopback(ip)})
    if not outside:
        return
    if stop_it:
        stop(folder)
    raise OSError(
        f"the Milvus server of {folder} listens beyond loopback, without a password, on {', '.join(outside)}; "
        f"end it with: tfcovr milvus stop --folder {folder}"
    )


def _last_line(path: Path) -> str:
    lines = path.read_text(errors="replace").strip().splitlines() if path.exists() else []
    return lines[-1] if lines else "its log is empty"


def _start_holder(folder: Path, port: int) -> "subprocess.Popen[bytes]":
    folder.mkdir(parents=True, exist_ok=True)
    root = str(Path(__file__).resolve().parent.parent.parent)
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    with (folder / _LOG).open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", _HOLDER, str(folder), str(port)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        )


def _hold(folder: Path, port: int) -> None:
    """Run the only server of a folder until it ends or this process is told to end."""
    lock = FileLock(folder / "server.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise SystemExit(f"another process is starting a server in {folder}") from None
    if _server(folder) is not None:
        raise SystemExit(f"a server runs in {folder}")
    keep_on_loopback()
    from milvus import MilvusServer, MilvusServerConfig

    def end(*_: object) -> None:
        raise SystemExit(0)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    os.environ["ETCD_CONFIG_PATH"] = str(_write_etcd_config(folder))
    config: Any = MilvusServerConfig
    config.try_bind_port = _bound
    server: Any = MilvusServer(wait_for_started=False)
    server.set_base_dir(str(folder))
    # Its own choice, the first free ones of a fixed range, is also that of a server which starts at the same time.
    ports = [key for key in server.config_keys if key.endswith("_port")]
    server.config.update(**{key: free_port() for key in ports} | {"proxy_port": port})
    server.webservice_port = free_port()
    for part in _PARTS:  # where the parts look for each other
        server.config.set(f"{part}.ip", "127.0.0.1")
    server.config.set("common.gracefulStopTimeout", _GRACE_S)
    try:
        server.start()
        status = server.server_proc.wait()
        sys.stderr.write(f"the server ended with status {status}; see {folder / 'logs'}\n")
    finally:
        if server.server_proc is not None:
            server.server_proc.terminate()
            server.server_proc.wait()


def _bound(_config: object, port: int) -> socket.socket | None:
    """The package's own does not take a port on which connections of a dead server linger, and quietly takes the next."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind(("127.0.0.1", port))
        sock.listen()
    except OSError:
        return None
    return sock


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


def _answers(uri: str) -> bool:
    from pymilvus import MilvusClient
    from pymilvus.exceptions import MilvusException

    with socket.socket() as probe:
        probe.settimeout(1)
        if probe.connect_ex(("127.0.0.1", int(uri.rpartition(":")[2]))) != 0:
            return False
    try:
        # Its own connection: a shared one may be that of the server which died on this port, and back off.
        client: Any = MilvusClient(uri=uri, timeout=5, dedicated=True)
    except MilvusException:
        return False
    try:
        client.list_collections(timeout=5)
    except MilvusException:
        return False
    finally:
        client.close()
    return True


if __name__ == "__main__":
    _hold(Path(sys.argv[1]), int(sys.argv[2]))
