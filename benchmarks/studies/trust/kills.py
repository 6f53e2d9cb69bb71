"""One seeded kill: of a command or of its Milvus server, at a random moment; then the same command again, and what it ends with."""

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, get_args

import psutil

from benchmarks.studies.trust.jobs import (
    COLLECTION,
    Archive,
    Difference,
    Target,
    difference,
    job_command,
    of_vectors,
    stored_vectors,
)
from indexing.store import dev_server

TARGETS: tuple[Target, ...] = get_args(Target)
_RUN_LIMIT_S = 600.0
_END_LIMIT_S = 60.0
"""A command that was told to end should within 10 s; a machine that has much else to do is given more."""
_MOST_RUNS = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Kill:
    """What happens to one command, by its seed alone."""

    seed: int
    target: Target
    signal: str
    moment: float
    """Share of the seconds that an undisturbed run takes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class KillResult:
    """What the rerun could not mend is in lost, doubled and wrong."""

    kill: Kill
    has_hit: bool
    """The process was there when it was killed."""
    statuses: tuple[int, ...]
    """Of all runs, the killed one first."""
    end_s: float
    """From the signal to the end of the command."""
    left: int
    """Processes of the killed command that were there ten seconds after a SIGTERM had ended it."""
    is_hung: bool
    difference: Difference

    def figures(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def kill_of_seed(seed: int) -> Kill:
    """Each target in turn; everything else at random."""
    draw = random.Random(f"kill {seed}")
    return Kill(
        seed=seed,
        target=TARGETS[seed % len(TARGETS)],
        signal=draw.choice(("SIGKILL", "SIGTERM")),
        moment=draw.uniform(0.05, 0.95),
    )


def run_undisturbed(target: Target, archive: Archive, place: Path) -> float:
    """Seconds of the command; its results are what killed ones are compared with."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    started = time.monotonic()
    with _started(job_command(target, archive, place), place) as process:
        status = process.wait(_RUN_LIMIT_S)
    if status:
        raise RuntimeError(f"undisturbed {target} ended with status {status}: {place / 'log'}")
    return time.monotonic() - started


def run_kill(
    kill: Kill, archive: Archive, place: Path, *, reference: Path, seconds: float
) -> KillResult:
    """Kill the command in its run, run it again until it ends well, and compare."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    command = job_command(kill.target, archive, place)
    if kill.target != "milvus":
        return _killed(
            kill,
            command,
            place,
            wait_s=kill.moment * seconds,
            strike=partial(_signal, name=kill.signal),
            compare=partial(difference, kill.target, archive, place, reference),
        )
    expected = dict(stored_vectors(str(reference / "milvus"), COLLECTION, archive.bundle))
    server = place / "server"
    try:
        uri = dev_server.start(server)
        return _killed(
            kill,
            tuple(uri if word == str(place / "milvus") else word for word in command),
            place,
            wait_s=kill.moment * seconds,
            strike=lambda _process: _crash(server, uri, kill.signal),
            compare=lambda: of_vectors(stored_vectors(uri, COLLECTION, archive.bundle), expected),
        )
    finally:
        dev_server.stop(server)


def _killed(
    kill: Kill,
    command: tuple[str, ...],
    place: Path,
    *,
    wait_s: float,
    strike: Callable[[subprocess.Popen], bool],
    compare: Callable[[], Difference],
) -> KillResult:
    statuses: list[int] = []
    with _started(command, place) as process:
        with suppress(subprocess.TimeoutExpired):
            process.wait(wait_s)
        family = _family(process)
        has_hit = strike(process)
        struck = time.monotonic()
        is_driver = kill.target != "milvus"
        is_hung = not _ends(process, _END_LIMIT_S if is_driver else _RUN_LIMIT_S, statuses)
        end_s = time.monotonic() - struck
        left = []
        if kill.signal == "SIGTERM" and is_driver:
            _gone, left = psutil.wait_procs(family, timeout=10)
    while not is_hung and statuses[-1] != 0 and len(statuses) < _MOST_RUNS:
        with _started(command, place) as process:
            is_hung = not _ends(process, _RUN_LIMIT_S, statuses)
    is_right = not is_hung and statuses[-1] == 0
    return KillResult(
        kill=kill,
        has_hit=has_hit,
        statuses=tuple(statuses),
        end_s=round(end_s, 2),
        left=len(left),
        is_hung=not is_right,
        difference=compare() if is_right else Difference(lost=0, doubled=0, wrong=0),
    )


def _signal(process: subprocess.Popen, name: str) -> bool:
    if process.poll() is not None:
        return False
    process.send_signal(signal.Signals[name])
    return True


def _crash(server: Path, uri: str, name: str) -> bool:
    """End the server, and start it again on its port two seconds later."""
    has_hit = dev_server.crash(server) if name == "SIGKILL" else dev_server.stop(server)
    time.sleep(2)
    dev_server.start(server, int(uri.rpartition(":")[2]))
    return has_hit


def _family(process: subprocess.Popen) -> list[psutil.Process]:
    try:
        return psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _ends(process: subprocess.Popen, limit_s: float, statuses: list[int]) -> bool:
    try:
        statuses.append(process.wait(limit_s))
    except subprocess.TimeoutExpired:
        return False
    return True


@contextmanager
def _started(command: tuple[str, ...], place: Path) -> Iterator[subprocess.Popen]:
    """The command in a process group of its own, which ends with the block; its words go to `place/log`."""
    with (place / "log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        yield process
    finally:
        # What a killed driver leaves running is there for its rerun to end.
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
