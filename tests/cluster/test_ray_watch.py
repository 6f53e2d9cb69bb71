"""The watcher against processes that stand for Ray's servers and for the driver."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from cluster import ray_watch

SLEEP = [sys.executable, "-S", "-c", "import time; time.sleep(60)"]
# Starts two servers and the watcher, says their pids, and does what it is told.
DRIVER = f"""
import os, signal, subprocess, sys, time
servers = [subprocess.Popen({SLEEP!r}) for _ in range(2)]
watcher = subprocess.Popen(
    [sys.executable, "-S", {ray_watch.__file__!r}, str(os.getpid()), *(str(s.pid) for s in servers)], stdin=subprocess.PIPE
)
if sys.argv[1:] == ["fork"] and os.fork() == 0:
    time.sleep(60)  # holds the pipe to the watcher
print(watcher.pid, *(server.pid for server in servers), flush=True)
if sys.stdin.readline() == "end\\n":
    watcher.communicate(b".")
    for server in servers:
        server.kill()
"""


@contextmanager
def driver(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], list[psutil.Process]]]:
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        [sys.executable, "-S", "-c", DRIVER, *arguments],
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
        text=True,
    )
    assert process.stdout is not None
    family = [psutil.Process(int(pid)) for pid in process.stdout.readline().split()]
    time.sleep(0.3)  # until the watcher watches
    try:
        yield process, family
    finally:
        for one in (process, *family):
            if one.is_running() if isinstance(one, psutil.Process) else one.poll() is None:
                one.kill()
        process.wait()


def test_the_death_of_a_server_is_one_line() -> None:
    with driver() as (process, (watcher, first, second)):
        second.kill()
        assert process.stderr is not None
        line = process.stderr.readline()
        assert line.startswith("error: Ray died (")
        assert f"process {second.pid}" in line
        assert "rerun the same command" in line
        process.kill()
        watcher.wait(10)
        first.kill()
        assert process.stderr.read() == ""


def test_a_driver_that_ray_does_not_end_is_told_to_end() -> None:
    with driver() as (process, (_watcher, server, _other)):
        server.kill()
        assert process.wait(30) == -signal.SIGTERM


def test_a_driver_that_ends_its_servers_is_told_nothing() -> None:
    with driver() as (process, (watcher, *_servers)):
        _out, errors = process.communicate("end\n", timeout=20)
        assert errors == ""
        assert not watcher.is_running()


@pytest.mark.parametrize("arguments", [(), ("fork",)])
def test_a_driver_that_is_killed_is_not_the_death_of_ray(arguments: tuple[str, ...]) -> None:
    """Also where a process that it forked holds the pipe to the watcher."""
    with driver(*arguments) as (process, (watcher, *servers)):
        forked = [p for p in psutil.Process(process.pid).children() if p not in (watcher, *servers)]
        assert len(forked) == len(arguments)
        process.kill()
        watcher.wait(10)
        for child in forked:
            child.kill()
        for server in servers:
            server.kill()
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_the_watcher_needs_no_package() -> None:
    lines = Path(ray_watch.__file__).read_text().splitlines()
    imported = {line.split()[1] for line in lines if line.startswith(("import ", "from "))}
    assert imported <= sys.stdlib_module_names  # it starts within 30 ms
