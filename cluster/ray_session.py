"""Connects a driver to Ray: the cluster that it was submitted to, or a local Ray that ends with it; waits for nodes of a cluster.

A cluster that costs nothing when idle has no nodes: what it has now says nothing about what it can do.
"""

import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import psutil
import ray
from ray._private import ray_constants
from ray.autoscaler.sdk import request_resources
from ray.autoscaler.v2.utils import is_autoscaler_v2
from ray.experimental import internal_kv

from cluster import telemetry
from cluster.network import require_listener
from cluster.processes import reap_orphans, track_child_processes
from cluster.repetition import retry

logger = logging.getLogger(__name__)
_LOCAL_OBJECT_STORE_BYTES = 1 << 30
_SERVERS = frozenset({"raylet", "gcs_server"})
_SHUTDOWN_S = 5.0
_MARK = "TFCOVR_RAY_START"
_PATIENT = {
    "health_check_timeout_ms": 30_000,
    "health_check_failure_threshold": 60,
    "gcs_rpc_server_connect_timeout_s": 120,
    "gcs_rpc_server_reconnect_timeout_s": 600,
    "gcs_server_request_timeout_seconds": 600,
    "worker_register_timeout_seconds": 600,
}
"""Of a local Ray. By default a raylet that gets no processor for a minute is declared dead by the GCS and then ends itself, and so
does everything when the GCS is that slow, or when a worker takes that long to start; on one machine a server that does not answer is
busy, and one that is gone is seen to be."""
NODE_WAIT_VARIABLE = "TFCOVR_NODE_WAIT_S"
"""Environment variable with the longest wait for nodes, in seconds."""
_NODE_WAIT_S = 1800.0  # a machine starts, installs its packages and joins
_POLL_S = 1.0
_TYPE_OF_ONE_NODE = re.compile(r"node_[0-9a-f]{32,}")
_SAY_EVERY_S = 15.0
_AGENTS = (
    "ray::DashboardA",
    "ray::RuntimeEnv",
)  # as the kernel cuts them; when one ends, the raylet ends itself
Bundle = Mapping[str, float]
"""Resource -> amount, of one worker."""
_QUIET: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}


class RayStartError(OSError):
    """A local Ray did not start; on a busy machine the next attempt may succeed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RaySession:
    """The resources of the connected Ray, and whether this driver started it."""

    num_nodes: int
    """Number of machines; several Ray nodes of one address share its disks and count once."""
    num_cpus: float
    num_gpus: float
    started_here: bool
    can_grow: bool = False
    """Whether an autoscaler adds nodes when work waits: there may be more of everything later, and several nodes."""
    address: str
    """Address at which another driver reaches the same Ray, e.g. as RAY_ADDRESS."""


@contextmanager
def ray_session(
    *,
    address: str | None = None,
    num_cpus: int | None = None,
    run_dir: str | Path | None = None,
) -> Iterator[RaySession]:
    """Connect to `address` or RAY_ADDRESS (as inside `ray job submit`); without them start Ray here.

    Ends only what it started. With a run folder, orphans of an interrupted run of the same folder are
    ended first, and the processes of this run are recorded there.
    """
    with ExitStack() as stack:
        if run_dir is not None:
            reap_orphans(run_dir)
            stack.enter_context(track_child_processes(run_dir))
        already_connected = ray.is_initialized()
        started_here = False
        if not already_connected:
            target = address or names_cluster() or "local"
            started_here = target == "local"
            if started_here:
                stack.enter_context(_local_ray(num_cpus))
            else:
                _check_answers(target)
                stack.callback(ray.shutdown)
                with _no_native_stderr(), telemetry.loggers_kept(), _own_sigterm_handler():
                    ray.init(address=target, **_QUIET)
        yield describe_session(started_here=started_here)


def names_cluster() -> str:
    """The address of a cluster that the environment names, or ""; Ray sets it in jobs."""
    return os.environ.get("RAY_ADDRESS", "")


def count_machines() -> int:
    """How many machines the connected Ray has now."""
    return len({node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]})


def describe_session(*, started_here: bool) -> RaySession:
    """What the connected Ray has now."""
    resources = ray.cluster_resources()
    return RaySession(
        num_nodes=count_machines(),
        num_cpus=resources.get("CPU", 0.0),
        num_gpus=resources.get("GPU", 0.0),
        started_here=started_here,
        can_grow=not started_here and has_autoscaler(),
        address=ray.get_runtime_context().gcs_address,
    )


def session_with(session: RaySession, bundles: Sequence[Bundle]) -> RaySession:
    """The session once its nodes have room for all bundles; unchanged where they have not and none will come."""
    if not session.can_grow or not wait_for_resources(bundles):
        return session
    return describe_session(started_here=session.started_here)


def _check_answers(address: str) -> None:
    """ConnectionError if no server listens: Ray itself retries an unreachable address for many minutes."""
    try:
        require_listener(address)
    except OSError as error:
        raise ConnectionError(
            f"no Ray answers at {address!r} ({error}); correct or unset RAY_ADDRESS"
        ) from error


@contextmanager
def _local_ray(num_cpus: int | None) -> Iterator[None]:
    """Ray on this machine; all of its processes have ended when the block ends."""
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # keeps C++ log lines off the terminal
    # For Ray's agents, which are told nothing, and with whose end the raylet ends itself.
    for name, value in _PATIENT.items():
        os.environ.setdefault(f"RAY_{name}", str(value))
    _listen_on_loopback()
    earlier = set(psutil.Process().children())
    servers: set[psutil.Process] = set()
    try:
        retry(lambda: _start_local(num_cpus), on=(RayStartError,), first_wait_s=2.0)
        servers = set(psutil.Process().children()) - earlier
        with _watched(servers):
            yield
    finally:
        _end_local(servers)


def _end_local(servers: set[psutil.Process]) -> None:
    processes = set(servers)
    for server in servers:
        with suppress(psutil.NoSuchProcess):
            processes |= set(server.children(recursive=True))
    ray.shutdown()
    _gone, running = psutil.wait_procs(list(processes), timeout=_SHUTDOWN_S)
    for process in running:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(running, timeout=_SHUTDOWN_S)


def _listen_on_loopback() -> None:
    """Keep a local Ray off the network. By default its processes listen on every address, and its metrics ask for no token.

    Ray has a switch for it, meant for laptops with a firewall that asks; it has been read already where Ray was imported.
    """
    os.environ[ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR] = "0"  # for the processes that Ray starts
    ray_constants.ENABLE_RAY_CLUSTER = False


def has_local_servers() -> bool:
    """Whether the servers of the Ray that this process has started are running, both of them."""
    running = set()
    for child in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):
            if child.status() != psutil.STATUS_ZOMBIE:
                running.add(child.name())
    return running >= _SERVERS


@contextmanager
def _watched(servers: set[psutil.Process]) -> Iterator[None]:
    """While the block runs, a process says so where one of the servers dies on which the driver's life depends."""
    watcher = _start_watcher(servers)
    try:
        with _told_of_sigterm(watcher):
            yield
    finally:
        watcher.communicate(b".")  # what ends now ends on purpose


def _start_watcher(servers: set[psutil.Process]) -> "subprocess.Popen[bytes]":
    pids: list[str] = []
    for server in servers:
        with suppress(psutil.NoSuchProcess):
            if server.name() in _SERVERS:
                agents = [c for c in server.children() if c.name().startswith(_AGENTS)]
                pids += [str(process.pid) for process in (*agents, server)]
    return subprocess.Popen(
        [
            sys.executable,
            "-S",
            str(Path(__file__).with_name("ray_watch.py")),
            str(os.getpid()),
            *pids,
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is for the driver
    )


@contextmanager
def _told_of_sigterm(watcher: "subprocess.Popen[bytes]") -> Iterator[None]:
    """A SIGTERM of the whole process group or service (`timeout`, systemd) ends Ray too, which then did not die."""
    before = signal.getsignal(signal.SIGTERM)
    if not callable(before) or threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: FrameType | None) -> None:
        assert watcher.stdin is not None
        with suppress(OSError, ValueError):
            watcher.stdin.write(b".")
            watcher.stdin.flush()
        before(number, frame)

    signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _own_sigterm_handler() -> Iterator[None]:
    """Keep the handler of SIGTERM that the program has set: Ray's own drains for minutes, and its C++ part dumps a stack."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if callable(before) and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def _start_local(num_cpus: int | None) -> None:
    """Whatever ends the start, a signal too, none of its processes is left; RayStartError where another attempt may succeed."""
    os.environ[_MARK] = mark = f"{os.getpid()}-{time.monotonic_ns()}"
    try:
        with _no_native_stderr(), telemetry.loggers_kept(), _own_sigterm_handler():
            ray.init(
                address="local",
                num_cpus=num_cpus,
                include_dashboard=False,
                object_store_memory=_LOCAL_OBJECT_STORE_BYTES,
                _system_config=_PATIENT,
                **_QUIET,
            )
    except BaseException as error:
        ray.shutdown()  # before its servers are gone: it asks them
        _kill_marked(mark)
        # Ray raises a bare Exception for a node that is slow to start.
        if type(error) in (Exception, RuntimeError, TimeoutError):
            raise RayStartError(f"Ray did not start on this machine: {error}") from error
        raise
    finally:
        del os.environ[_MARK]


def _kill_marked(mark: str) -> None:
    """End every process that inherited the mark: a raylet that ends still starts agents, which outlive it and are no child's child."""
    marked: list[psutil.Process] = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get(_MARK) == mark:
                process.kill()
                marked.append(process)
    psutil.wait_procs(marked, timeout=_SHUTDOWN_S)


@contextmanager
def _no_native_stderr() -> Iterator[None]:
    """Hide stderr of Ray's C++ part, which announces there that it will be quiet; Python's errors are exceptions anyway."""
    stderr = os.dup(2)
    nothing = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, 2)
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nothing)


def has_autoscaler() -> bool:
    """Whether something adds nodes to the connected cluster when work waits."""
    if is_autoscaler_v2():
        return True
    status = internal_kv._internal_kv_get(ray_constants.DEBUG_AUTOSCALING_STATUS)
    report = json.loads(status).get("autoscaler_report", {}) if status else {}
    # Every head reports. One that can add nodes counts them by type; one that cannot has a type "node_ID" for each of its nodes.
    types = [*report.get("active_nodes", {}), *report.get("pending_launches", {})]
    return any(not _TYPE_OF_ONE_NODE.fullmatch(name) for name in types)


def missing_resources(bundles: Sequence[Bundle]) -> dict[str, tuple[float, float]]:
    """Resource -> (needed, there is) of each that the nodes together do not have."""
    need: Counter[str] = Counter()
    for bundle in bundles:
        need.update(bundle)
    have = ray.cluster_resources()
    return {
        name: (amount, have.get(name, 0.0))
        for name, amount in need.items()
        if amount > have.get(name, 0.0) + 1e-9
    }


def wait_for_resources(
    bundles: Sequence[Bundle], *, say: Callable[[str], object] | None = None
) -> bool:
    """Wait until the nodes have room for all bundles, after asking the autoscaler; False at once where none would come.

    TimeoutError after half an hour, or what TFCOVR_NODE_WAIT_S says. `say` gets the progress lines, stderr by default.
    """
    missing = missing_resources(bundles)
    if not missing:
        return True
    if not has_autoscaler():
        return False
    say = say or telemetry.say
    limit_s, started = _limit_s(), time.monotonic()
    last_said_s = -_SAY_EVERY_S
    request_resources(bundles=[dict(bundle) for bundle in bundles])
    try:
        while missing := missing_resources(bundles):
            waited_s = time.monotonic() - started
            if waited_s >= limit_s:
                raise TimeoutError(
                    f"no node came within {limit_s:g} s: {_words(missing)}; see `ray status` for why, or set {NODE_WAIT_VARIABLE}"
                )
            if waited_s - last_said_s >= _SAY_EVERY_S:
                last_said_s = waited_s
                say(f"waiting for nodes: {_words(missing)} ({waited_s:.0f} s, at most {limit_s:g})")
            time.sleep(_POLL_S)
    finally:
        request_resources(
            num_cpus=0
        )  # it would hold for ever; from here on the work itself holds the nodes
    say(f"the nodes are there after {time.monotonic() - started:.0f} s")
    return True


def _words(missing: Mapping[str, tuple[float, float]]) -> str:
    return ", ".join(f"{have:g} of {need:g} {name}" for name, (need, have) in missing.items())


def _limit_s() -> float:
    text = os.environ.get(NODE_WAIT_VARIABLE, "")
    try:
        limit_s = float(text or _NODE_WAIT_S)
    except ValueError:
        limit_s = -1.0
    if not limit_s > 0:
        raise ValueError(
            f"{NODE_WAIT_VARIABLE} is {text!r}; it must be a number of seconds above 0"
        )
    return limit_s
