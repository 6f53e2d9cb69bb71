"""How a driver reaches Ray: the cluster it was submitted to, or a local one that ends with it."""

import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import ray

from cluster.leftovers import end_leftovers, recorded_descendants
from cluster.retry import retry

logger = logging.getLogger(__name__)
_LOCAL_OBJECT_STORE_BYTES = 1 << 30


class RayStartError(OSError):
    """A local Ray did not come up; on a busy machine the next attempt may succeed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RaySession:
    """What the run can use, and whether this driver started it."""

    num_nodes: int
    num_cpus: float
    num_gpus: float
    started_here: bool


@contextmanager
def ray_session(
    *,
    address: str | None = None,
    num_cpus: int | None = None,
    run_dir: str | Path | None = None,
) -> Iterator[RaySession]:
    """Connect to `address` or RAY_ADDRESS (as inside `ray job submit`); without them start Ray here.

    Ends only what it started. With a run folder, leftovers of a killed run of the same folder are
    ended first, and the processes of this one are recorded there.
    """
    with ExitStack() as stack:
        if run_dir is not None:
            end_leftovers(run_dir)
            stack.enter_context(recorded_descendants(run_dir))
        already_connected = ray.is_initialized()
        started_here = False
        if not already_connected:
            target = address or os.environ.get("RAY_ADDRESS") or "local"
            started_here = target == "local"
            stack.callback(ray.shutdown)
            _connect(target, num_cpus=num_cpus if started_here else None)
        resources = ray.cluster_resources()
        yield RaySession(
            num_nodes=sum(bool(node["Alive"]) for node in ray.nodes()),
            num_cpus=resources.get("CPU", 0.0),
            num_gpus=resources.get("GPU", 0.0),
            started_here=started_here,
        )


def _connect(target: str, *, num_cpus: int | None) -> None:
    quiet = {"logging_level": logging.ERROR, "log_to_driver": False}
    if target != "local":
        ray.init(address=target, **quiet)
        return
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # C++ lines on the terminal

    def start() -> None:
        earlier = set(psutil.Process().children())
        try:
            with _no_native_stderr():
                ray.init(
                    address="local",
                    num_cpus=num_cpus,
                    include_dashboard=False,
                    object_store_memory=_LOCAL_OBJECT_STORE_BYTES,
                    **quiet,
                )
        except (RuntimeError, TimeoutError) as error:
            ray.shutdown()
            for half_started in set(psutil.Process().children()) - earlier:
                half_started.kill()
            raise RayStartError(f"Ray did not start on this machine: {error}") from error

    retry(start, on=(RayStartError,), attempts=3)


@contextmanager
def _no_native_stderr() -> Iterator[None]:
    """The C++ part says on stderr that it will be quiet; Python's errors are exceptions anyway."""
    kept = os.dup(2)
    nothing = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)
