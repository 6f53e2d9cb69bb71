"""SIGTERM to a command that runs Ray, and the death of Ray under one: one line, and no process left."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]
COMMAND = """
import ray, signal, time, tfcovr
from cluster.ray_session import ray_session

signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored by what a shell starts in the background

def run(name, arguments):
    with ray_session(num_cpus=1):
        waiting = ray.remote(lambda: time.sleep(300)).remote()
        print("ready", flush=True)
        ray.get(waiting)

tfcovr.run_command = run
raise SystemExit(tfcovr.main(["index"]))
"""


@pytest.fixture
def command(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    with (tmp_path / "stderr").open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-c", COMMAND],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
        )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    yield process
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def wait_for_all(command: subprocess.Popen[str], family: list[psutil.Process]) -> None:
    command.wait(timeout=60)
    _gone, alive = psutil.wait_procs(family, timeout=20)
    assert [p.name() for p in alive if p.is_running() and p.status() != psutil.STATUS_ZOMBIE] == []


@pytest.mark.parametrize(
    ("number", "to_group"),
    [(signal.SIGTERM, False), (signal.SIGTERM, True), (signal.SIGINT, False)],
)
def test_a_signal_ends_the_command_and_its_ray(
    command, tmp_path: Path, number: int, to_group: bool
) -> None:
    """To the command alone, or with it to all that it started, as systemd and batch systems send it."""
    family = psutil.Process(command.pid).children(recursive=True)
    assert {"raylet", "gcs_server"} <= {process.name() for process in family}
    (os.killpg if to_group else os.kill)(command.pid, number)
    wait_for_all(command, family)
    assert command.returncode == 128 + number
    *before, line = (tmp_path / "stderr").read_text().splitlines()
    assert line.endswith("rerun the same command to resume")
    assert all("attempt" in said for said in before)  # a busy machine may have made Ray start again


@pytest.mark.parametrize(("server", "number"), [("gcs_server", signal.SIGTERM), ("raylet", signal.SIGTERM), ("raylet", signal.SIGINT)])  # fmt: skip
def test_a_signal_while_ray_starts_leaves_none_of_it(
    tmp_path: Path, server: str, number: int
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND],
        cwd=ROOT,
        env=os.environ | {"TFCOVR_TEST": str(tmp_path)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    while server not in {child.name() for child in psutil.Process(process.pid).children()}:
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(number)
    assert process.wait(60) == 128 + number
    _gone, alive = psutil.wait_procs(_marked(str(tmp_path)), timeout=20)
    for left in alive:
        left.kill()
    assert [left.name() for left in alive] == []


def _marked(mark: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get("TFCOVR_TEST") == mark:
                found.append(process)
    return found


@pytest.mark.long
@pytest.mark.parametrize("name", ["raylet", "gcs_server", "ray::DashboardAgent"])
def test_the_death_of_ray_is_told(command, tmp_path: Path, name: str) -> None:
    family = psutil.Process(command.pid).children(recursive=True)
    (server,) = [process for process in family if process.name() == name]
    server.kill()
    wait_for_all(command, family)
    assert command.returncode != 0
    told = f"error: Ray died ({name[:15]}, process {server.pid});"  # after what a busy machine made it try again
    assert [line for line in (tmp_path / "stderr").read_text().splitlines() if told in line]


STARVED = """
import psutil, sys, time, ray
from cluster.ray_session import ray_session

with ray_session(num_cpus=1):
    seven = ray.remote(lambda: 7)
    ray.get(seven.remote())
    (server,) = [child for child in psutil.Process().children() if child.name() == sys.argv[1]]
    server.suspend()
    time.sleep(90)
    server.resume()
    time.sleep(20)  # a raylet that was declared dead ends itself, and then this process
    print(ray.get(seven.remote(), timeout=120))
"""


@pytest.mark.long
@pytest.mark.parametrize("name", ["raylet", "gcs_server"])
def test_a_server_that_gets_no_processor_is_not_dead(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", STARVED, name],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "7\n"), done.stderr[-2000:]
