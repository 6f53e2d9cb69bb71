import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from cluster.processes import (
    DRIVER,
    RunFolderBusyError,
    find_driver,
    own_run_folder,
    read_records,
    reap_orphans,
    record_process,
    track_child_processes,
)

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


@pytest.fixture
def orphan() -> Iterator[psutil.Process]:
    """A process that is not a child of this one any more, as after a SIGKILL of its parent."""
    script = (
        "import subprocess, sys;"
        "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'],"
        " start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL);"
        "print(p.pid)"
    )
    pid = int(
        subprocess.run([sys.executable, "-c", script], capture_output=True, check=True).stdout
    )
    process = psutil.Process(pid)
    yield process
    if process.is_running():
        process.kill()


def test_a_recorded_orphan_is_ended_and_its_record_forgotten(tmp_path: Path, orphan) -> None:
    record_process(tmp_path, "raylet", orphan.pid)
    assert [record.pid for record in reap_orphans(tmp_path)] == [orphan.pid]
    assert not psutil.pid_exists(orphan.pid) or orphan.status() == psutil.STATUS_ZOMBIE
    assert read_records(tmp_path) == []


@pytest.mark.parametrize("field", ["start_ticks", "boot_id"])
def test_another_process_with_the_same_pid_lives(tmp_path: Path, orphan, field: str) -> None:
    record_process(tmp_path, "raylet", orphan.pid)
    path = next(tmp_path.rglob("*.json"))
    record = json.loads(path.read_text())
    record[field] = record[field] - 1 if field == "start_ticks" else "another boot"
    path.write_text(json.dumps(record))
    assert reap_orphans(tmp_path) == []
    assert orphan.is_running()


@pytest.mark.parametrize("content", ["", '{"pid": "x"}', "[]", '{"pid": 1'])
def test_a_damaged_record_is_named_and_passed_over(
    tmp_path: Path, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    damaged = tmp_path / "processes" / "1-1.json"
    damaged.parent.mkdir()
    damaged.write_text(content)
    with own_run_folder(tmp_path):
        assert str(damaged) in caplog.text
        assert find_driver(tmp_path) is not None
    assert not damaged.exists()


def test_own_children_and_other_folders_are_spared(tmp_path: Path, orphan) -> None:
    child = subprocess.Popen(SLEEP)
    try:
        record_process(tmp_path / "mine", "raylet", child.pid)
        record_process(tmp_path / "other", "raylet", orphan.pid)
        assert reap_orphans(tmp_path / "mine") == []
        assert child.poll() is None
        assert orphan.is_running()
    finally:
        child.kill()
        child.wait()


def test_a_driver_that_is_still_running_is_not_an_orphan(tmp_path: Path, orphan) -> None:
    record_process(tmp_path, DRIVER, orphan.pid)
    with pytest.raises(RunFolderBusyError, match=str(orphan.pid)):
        reap_orphans(tmp_path)
    assert orphan.is_running()


@pytest.mark.parametrize("is_alive", [True, False])
def test_a_driver_on_another_machine_is_known_by_its_beat(tmp_path, orphan, monkeypatch, is_alive):
    """Its processes cannot be seen from here, and it may be gone with its machine."""
    monkeypatch.setattr("cluster.processes._BEAT_S", 0.05)
    script = (
        "import sys, time; import cluster.processes as lo; lo._BEAT_S = 0.05;"
        "lo.socket.gethostname = lambda: 'node-2'; lo._boot_id = lambda: 'another boot'\n"
        "with lo.track_child_processes(sys.argv[1], interval_s=0.02): print('on', flush=True); time.sleep(60)"
    )
    driver = subprocess.Popen([sys.executable, "-c", script, tmp_path], stdout=subprocess.PIPE)
    try:
        assert driver.stdout is not None
        assert driver.stdout.readline() == b"on\n"
        if is_alive:
            with pytest.raises(RunFolderBusyError, match=f"process {driver.pid} on node-2"):
                reap_orphans(tmp_path)
            assert len(read_records(tmp_path)) == 1
        else:
            driver.kill()
            driver.wait()
            assert reap_orphans(tmp_path) == read_records(tmp_path) == []
    finally:
        driver.kill()
        driver.wait()


def test_descendants_are_recorded_while_they_live(tmp_path: Path) -> None:
    with track_child_processes(tmp_path, interval_s=0.02):
        child = subprocess.Popen(SLEEP)
        try:
            for _ in range(100):
                if child.pid in {record.pid for record in read_records(tmp_path)}:
                    break
                with pytest.raises(subprocess.TimeoutExpired):
                    child.wait(0.02)
            else:
                pytest.fail("the child was never recorded")
        finally:
            child.kill()
            child.wait()
    assert child.pid not in {record.pid for record in read_records(tmp_path)}


def test_children_from_before_the_run_are_not_recorded(tmp_path: Path) -> None:
    """A Milvus that a notebook started would be ended by the next run of the folder, from another process."""
    grandchild = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])"
    server = subprocess.Popen([sys.executable, "-c", grandchild])
    own = None
    try:
        with track_child_processes(tmp_path, interval_s=0.02):
            own = subprocess.Popen(SLEEP)
            deadline = time.monotonic() + 30
            children = psutil.Process(server.pid).children
            while not children() or own.pid not in {
                record.pid for record in read_records(tmp_path)
            }:
                assert time.monotonic() < deadline
                time.sleep(0.02)
            time.sleep(0.2)
            recorded = {record.pid for record in read_records(tmp_path)}
            assert recorded == {os.getpid(), own.pid}
    finally:
        for process in (server, own):
            if process is not None:
                for child in psutil.Process(process.pid).children():
                    child.kill()
                process.kill()
                process.wait()
