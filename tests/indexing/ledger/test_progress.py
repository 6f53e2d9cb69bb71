"""Progress of a run: the file that another process reads, and the metrics, against a run that is acted out on a clock."""

import os
import subprocess
import sys
import time
from dataclasses import asdict

import numpy as np
import pytest

from cluster.processes import own_run_folder
from encoders.stages.base import ClipError
from indexing.ledger import progress as progress_module
from indexing.ledger.progress import PROGRESS, RunProgress, read_progress
from indexing.ledger.summary import Tally
from tests.indexing.ledger.test_summary import batch
from tfcovr import main


@pytest.fixture
def clock(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: now[0])
    return now


def failed(num_clips: int) -> dict[str, np.ndarray]:
    error = ClipError(stage="decode", reason="decode_timeout", detail="120 s")
    return batch(num_clips) | {"error": np.array([asdict(error)] * num_clips)}


def test_rate_time_left_cost_and_bottleneck(tmp_path, clock):
    progress = RunProgress(tmp_path, price_per_node_h=3.0)
    progress.publish()
    assert read_progress(tmp_path).phase == "planning"
    tally = Tally()
    progress.begin(tally, total=100, num_workers={"decode": 2, "embed": 1, "write": 1})
    with progress.attached(count_nodes=lambda: 4, export=lambda: None):
        for clock[0], rows in ((1010.0, batch(10)), (1020.0, batch(18)), (1030.0, failed(2))):
            tally.add(rows)
            progress.publish()
        now = read_progress(tmp_path)
    assert (now.phase, now.total, now.written, now.dead) == ("indexing", 100, 28, {"decode/decode_timeout": 2})  # fmt: skip
    assert now.clips_per_s == pytest.approx(1.0)  # 30 clips in 30 s
    assert now.remaining_s == pytest.approx(70.0)
    assert now.stages["decode"].busy == pytest.approx(30 / (2 * 30))
    assert now.bottleneck == "embed"  # each worker says 1 clip/s, and decode has two
    # The machines of an interval are those that were counted at its start: 1 for 10 s, 4 for 20.
    assert now.node_hours == pytest.approx((10 + 2 * 40) / 3600)
    assert now.cost == pytest.approx(3.0 * now.node_hours, abs=1e-4)


def test_the_rate_is_that_of_the_last_minutes(tmp_path, clock):
    progress = RunProgress(tmp_path)
    tally = Tally()
    progress.begin(tally, total=1000, num_workers={"decode": 1})
    for second in range(0, 300, 10):
        clock[0] = 1000.0 + second
        tally.written += 100 if second < 100 else 10  # nine nodes of ten went
        progress.publish()
    assert read_progress(tmp_path).clips_per_s == pytest.approx(1.0, rel=0.01)


def test_metrics_have_the_outcomes_by_stage(tmp_path, clock):
    progress = RunProgress(tmp_path / "night")
    tally = Tally()
    progress.begin(tally, total=9, num_workers={"decode": 1})
    tally.add(batch(3))
    tally.add(failed(2))
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for metric in progress.collect()
        for sample in metric.samples
    }
    assert samples["tfcovr_index_clips", "night", "write", "written"] == 3
    assert samples["tfcovr_index_clips", "night", "decode", "decode_timeout"] == 2
    assert samples["tfcovr_index_clips_planned", "night"] == 9
    assert samples["tfcovr_index_stage_workers", "night", "decode"] == 1


DRIVER = """
import sys, time
from pathlib import Path
from cluster.processes import own_run_folder
from indexing.ledger.progress import RunProgress
run_dir = Path(sys.argv[1])
with own_run_folder(run_dir), RunProgress(run_dir).published():
    print("up", flush=True)
    sys.stdin.readline()
"""


def test_status_tells_a_run_that_goes_on_from_one_that_was_killed_and_one_that_finished(
    tmp_path, capsys
):
    arguments = ["status", "--run-dir", str(tmp_path)]
    assert main(arguments) == 2
    assert "is not there; give the --run-dir of a `tfcovr index`" in capsys.readouterr().err

    def driver() -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", DRIVER, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        return process

    killed = driver()
    assert main(arguments) == 0
    assert f"running, process {killed.pid} on {os.uname().nodename}\n" in capsys.readouterr().out
    killed.kill()
    killed.communicate()
    assert main(arguments) == 1
    assert capsys.readouterr().out.startswith("interrupted\nplanning: 0 of 0 clips")
    finished = driver()
    finished.communicate("\n")
    assert main([*arguments, "--json"]) == 0
    assert '"state": "finished"' in capsys.readouterr().out


def test_a_folder_that_cannot_be_written_does_not_end_a_run(tmp_path, caplog):
    (tmp_path / PROGRESS).mkdir()  # as a full disk: the file cannot be replaced
    with own_run_folder(tmp_path), RunProgress(tmp_path).published():
        time.sleep(0.01)
    assert "progress.json was not written" in caplog.text
