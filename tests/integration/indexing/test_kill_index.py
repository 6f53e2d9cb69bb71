"""SIGKILL to the indexing driver alone, then to its whole process group; the third run completes the same collection."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil

from encoders.bundle.card import read_card
from indexing.store.collection import open_collection
from tests.support.expected_vectors import expected_vectors
from tests.support.ledgers import num_recorded
from tests.support.small_videos import write_archive
from tfcovr import run_command

NUM_VIDEOS, CLIPS_PER_VIDEO = 60, 4


def start(arguments: list[str], log: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "tfcovr", "index", *arguments]
    with log.open("ab") as file:
        return subprocess.Popen(command, stdout=file, stderr=file, start_new_session=True)


def wait_until_more_is_recorded(driver: subprocess.Popen, run_dir: Path, log: Path) -> None:
    before, deadline = num_recorded(run_dir), time.monotonic() + 120
    while num_recorded(run_dir) <= before:
        assert driver.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.005)


def test_a_killed_run_goes_on_and_ends_with_the_same_collection(tmp_path, tiny_bundle) -> None:
    clips_path, run_dir, log = (
        write_archive(tmp_path / "videos", num_videos=NUM_VIDEOS, clips_per_video=CLIPS_PER_VIDEO),
        tmp_path / "run",
        tmp_path / "log",
    )
    uri = str(tmp_path / "milvus")
    arguments = ["--bundle", str(tiny_bundle), "--clips", str(clips_path)]
    arguments += ["--milvus-uri", uri, "--run-dir", str(run_dir)]
    family: set[psutil.Process] = set()
    counts = []
    drivers = []
    try:
        for kill_group in (False, True):
            driver = start([*arguments, "--batch-size", "1"], log)
            drivers.append(driver)
            wait_until_more_is_recorded(driver, run_dir, log)
            family |= set(psutil.Process(driver.pid).children(recursive=True))
            if kill_group:
                os.killpg(driver.pid, signal.SIGKILL)
            else:
                driver.kill()
            driver.wait()
            counts.append(num_recorded(run_dir))
        assert 0 < counts[0] < counts[1] < NUM_VIDEOS * CLIPS_PER_VIDEO, counts
        last = start(arguments, log)
        drivers.append(last)
        assert last.wait(120) == 0, log.read_text()
    finally:
        for driver in drivers:
            if driver.poll() is None:
                os.killpg(driver.pid, signal.SIGKILL)
    leftovers = [process for process in family if process.is_running()]
    assert not [one for one in leftovers if one.status() != psutil.STATUS_ZOMBIE]
    assert len(family) > 5  # Ray's own processes were among them

    expected = expected_vectors(tiny_bundle, clips_path)
    with open_collection(uri, "clips") as collection:
        collection.check(encoder_id=read_card(tiny_bundle).encoder_id)
        rows = list(collection.rows(("clip_key", "embedding")))
    assert len(rows) == len(expected)
    stored = {row["clip_key"]: np.asarray(row["embedding"]) for row in rows}
    assert stored.keys() == expected.keys()
    worst = max(float(np.abs(stored[key] - expected[key]).max()) for key in expected)
    assert worst < 1e-5
    assert run_command("verify", arguments) == 0
