"""How the processes of a command end: by a signal with all that they hold, or as orphans that the next run ends.

A run folder has a record of each process, identified by its pid and its start time: a pid alone may by now belong to another.
"""

import atexit
import json
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import NoReturn

import psutil
from filelock import FileLock, Timeout

from cluster.repetition import repeated
from cluster.storage import write_atomic
from cluster.telemetry import say

logger = logging.getLogger(__name__)
_FOLDER = "processes"
_LOCK = "run.lock"
DRIVER = "driver"
RESUME = "rerun the same command to resume"
# How often a driver touches its record: other machines that share the folder cannot see its process, only the file's time.
_BEAT_S = 2.0
_TRACK_S = 0.5
_SAME_S = 1.0


class RunFolderBusyError(OSError):
    """Another driver is running in this run folder."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ProcessRecord:
    """One process of one boot of one machine; `start_ticks` counts from boot, as the kernel does."""

    pid: int
    start_ticks: int
    boot_id: str
    name: str
    host: str = ""


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _start_ticks(pid: int) -> int | None:
    """Field 22 of /proc/PID/stat; None where the process does not exist or is a zombie."""
    # Not psutil's create_time: that is wall-clock time, which a clock adjustment after the record was written changes.
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in ("Z", "X") else int(fields[19])


def record_process(run_dir: str | Path, name: str, pid: int | None = None) -> None:
    """Record a process (this one by default) as belonging to the run folder."""
    pid = os.getpid() if pid is None else pid
    _write_record(Path(run_dir), name, pid)


def _write_record(run_dir: Path, name: str, pid: int) -> Path | None:
    start_ticks = _start_ticks(pid)
    if start_ticks is None:
        return None
    record = ProcessRecord(
        pid=pid, start_ticks=start_ticks, boot_id=_boot_id(), name=name, host=socket.gethostname()
    )
    path = _path_of(run_dir, record)
    if not path.exists():
        write_atomic(path, json.dumps(asdict(record)))
    return path


def _path_of(run_dir: Path, record: ProcessRecord) -> Path:
    return run_dir / _FOLDER / f"{record.pid}-{record.start_ticks}.json"


def read_records(run_dir: str | Path) -> list[ProcessRecord]:
    """Every recorded process of the run folder, running or not."""
    paths = sorted((Path(run_dir) / _FOLDER).glob("*.json"))
    return [record for path in paths if (record := _read_record(path)) is not None]


def _read_record(path: Path) -> ProcessRecord | None:
    """None for one that is gone by now, or damaged: its process is left alone."""
    try:
        return ProcessRecord(**json.loads(path.read_text()))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        logger.warning("%s is damaged and passed over: %s", path, error)
        return None


def is_running(record: ProcessRecord) -> bool:
    """Whether the recorded process, not another one with its pid, is still running."""
    return record.boot_id == _boot_id() and _start_ticks(record.pid) == record.start_ticks


def _is_beating(path: Path, wait_s: float) -> bool:
    """Whether a driver on another machine touches its record within `wait_s`; its process cannot be seen from here."""
    give_up = time.monotonic() + wait_s
    before = None
    while True:
        try:
            # Opened each time: a network file system answers a bare stat() from its attribute cache.
            with path.open("rb") as file:
                touched_ns = os.fstat(file.fileno()).st_mtime_ns
        except FileNotFoundError:
            return False
        before = before or touched_ns
        if touched_ns != before or time.monotonic() > give_up:
            return touched_ns != before
        time.sleep(_BEAT_S / 4)


def find_driver(run_dir: str | Path) -> ProcessRecord | None:
    """The driver that is running in the run folder, here or on another machine that shares it; None without one.

    A look at a driver elsewhere takes a few seconds.
    """
    for record in read_records(run_dir):
        if record.name != DRIVER:
            continue
        if record.host in ("", socket.gethostname()):
            if is_running(record):
                return record
        elif _is_beating(_path_of(Path(run_dir), record), 4 * _BEAT_S):
            return record
    return None


def _require_no_driver_elsewhere(run_dir: str | Path) -> None:
    driver = find_driver(run_dir)
    if driver is not None and driver.host not in ("", socket.gethostname()):
        raise _busy(run_dir, f"process {driver.pid} on {driver.host}")


def _own_family() -> set[int]:
    me = psutil.Process()
    family = [me, *me.parents(), *me.children(recursive=True)]
    return {process.pid for process in family}


def reap_orphans(run_dir: str | Path, *, grace_s: float = 5.0) -> list[ProcessRecord]:
    """End the recorded processes that are still running, with their children; return what was ended.

    This process, its ancestors and its descendants are never touched. RunFolderBusyError if a driver is still running,
    here or on another machine that shares the folder.
    """
    _require_no_driver_elsewhere(run_dir)
    spared = _own_family()
    ended: list[ProcessRecord] = []
    orphans: dict[int, psutil.Process] = {}
    for record in read_records(run_dir):
        if record.pid in spared or not is_running(record):
            continue
        if record.name == DRIVER:
            raise _busy(run_dir, f"process {record.pid}")
        ended.append(record)
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(record.pid)
            if not is_running(record):
                continue
            children = process.children(recursive=True)
            orphans |= {p.pid: p for p in [process, *children] if p.pid not in spared}
    for process in orphans.values():
        with suppress(psutil.NoSuchProcess):
            process.terminate()  # psutil compares the creation time before it signals
    _gone, stubborn = psutil.wait_procs(list(orphans.values()), timeout=grace_s)
    for process in stubborn:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(stubborn, timeout=grace_s)
    if ended:
        logger.warning("ended %d orphaned processes of an earlier run", len(orphans))
    for path in (Path(run_dir) / _FOLDER).glob("*.json"):
        record = _read_record(path)
        if record is None or not is_running(record):
            path.unlink(missing_ok=True)
    return ended


def _busy(run_dir: str | Path, who: str) -> RunFolderBusyError:
    return RunFolderBusyError(
        f"run folder {str(run_dir)!r} is in use by {who}; "
        "wait until it has finished, or end it, and run the same command again"
    )


def _not_below(
    roots: Sequence[psutil.Process], processes: Sequence[psutil.Process]
) -> list[psutil.Process]:
    """The processes (parents before their children) that are neither a root nor a descendant of one."""
    others = {root.pid for root in roots if root.is_running()}
    outside = []
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            if process.pid in others or process.ppid() in others:
                others.add(process.pid)
            else:
                outside.append(process)
    return outside


@contextmanager
def track_child_processes(run_dir: str | Path, *, interval_s: float = _TRACK_S) -> Iterator[None]:
    """Record this process and, while the block runs, every new descendant; forget the ended ones at exit.

    Children from before, such as a server that a notebook started, do not belong to the run and are not recorded.
    """
    run_dir = Path(run_dir)
    own = _write_record(run_dir, DRIVER, os.getpid())
    before = psutil.Process().children(recursive=True)
    seen: set[psutil.Process] = set()
    beaten_s = 0.0

    def record_new_children() -> None:
        nonlocal seen, beaten_s
        if own is not None and time.monotonic() - beaten_s > _BEAT_S:
            beaten_s = time.monotonic()
            with suppress(OSError):
                os.utime(own)
        running = psutil.Process().children(recursive=True)
        for process in _not_below(before, running):
            if process not in seen:
                with suppress(psutil.NoSuchProcess):
                    _write_record(run_dir, process.name(), process.pid)
        seen = set(running)

    try:
        with repeated(record_new_children, every_s=interval_s, name="track-child-processes"):
            yield
    finally:
        for path in (run_dir / _FOLDER).glob("*.json"):
            record = _read_record(path)
            if record is None or record.pid == os.getpid() or not is_running(record):
                path.unlink(missing_ok=True)


@contextmanager
def own_run_folder(run_dir: str | Path, *, track_s: float = _TRACK_S) -> Iterator[None]:
    """Be the only driver of the run folder while the block runs: end what an earlier run left, and record what this one starts.

    New processes are looked for every `track_s` seconds, which takes a percent of a core at half a second.

    RunFolderBusyError where another driver is there. Of two that start together the lock lets one in; it goes with its process.
    """
    run_dir = Path(run_dir)
    run_dir.mkdir(parents=True, exist_ok=True)
    lock = FileLock(run_dir / _LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        drivers = [record for record in read_records(run_dir) if record.name == DRIVER]
        who = " or ".join(f"process {record.pid} on {record.host}" for record in drivers)
        raise _busy(run_dir, who or "another process") from None
    try:
        reap_orphans(
            run_dir
        )  # a driver on another machine, where its file system does not share locks, is found by its heartbeat
        with track_child_processes(run_dir, interval_s=track_s):
            yield
    finally:
        lock.release()


def run_until_signal(command: Callable[[], int]) -> int:
    """Run a command; SIGTERM unwinds the stack as Ctrl-C does, so that locks, servers and child processes are cleaned up.

    Returns the command's status, or that of the signal (130, 143) once it has said so. What is told to end already is not told again
    by SIGTERM, nor within a second by Ctrl-C: a terminal and whoever started the process may both tell it.
    """
    told = _Told()
    try:
        with told.listening():
            return command()
    except KeyboardInterrupt:
        number = told.first or signal.SIGINT
    except SystemExit as error:
        # Ray has a handler of its own while it starts, which exits with the number of the signal.
        if error.code not in (signal.SIGTERM, 128 + signal.SIGTERM):
            raise
        number = signal.SIGTERM
    word = "terminated" if number == signal.SIGTERM else "interrupted"
    say(f"{word}; {RESUME}", level=logging.ERROR)
    return 128 + number


def leave(status: int) -> NoReturn:
    """End this process. After a signal only Python's part of it is taken down: work that was cut short holds threads of native code.

    Native code that aborts while its libraries are unloaded would make the status that of the abort (134 was seen on a busy machine).
    """
    if status in (128 + signal.SIGTERM, 128 + signal.SIGINT):
        atexit._run_exitfuncs()
        with suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


class _Told:
    """Which signal told this process to end."""

    def __init__(self) -> None:
        self.first = 0
        self._pid, self._at_s = os.getpid(), 0.0

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Listen while the block runs; only the main thread may, and not for a Ctrl-C that this process was started to ignore."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        hears_both = signal.getsignal(signal.SIGINT) is signal.default_int_handler
        numbers = (signal.SIGTERM, signal.SIGINT) if hears_both else (signal.SIGTERM,)
        before = [signal.signal(number, self._handle) for number in numbers]
        try:
            yield
        finally:
            for number, handler in zip(numbers, before, strict=True):
                signal.signal(number, handler)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if os.getpid() != self._pid:
            signal.signal(number, signal.SIG_DFL)  # a forked child ends as it would without us
            os.kill(os.getpid(), number)
            return
        now_s = time.monotonic()
        if self.first and (number == signal.SIGTERM or now_s - self._at_s < _SAME_S):
            return
        self.first, self._at_s = self.first or number, now_s
        raise KeyboardInterrupt  # not SystemExit, of which Ray's blocking calls change the status
