"""The line of the whole: time left by what is finished, bars of other processes as a count, and the environment afterwards."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.harness.overall import TimeLeft, overall_progress
from cluster.progress import PROGRESS_VARIABLE, progress_bar, read_progress


def test_the_rest_takes_as_much_longer_than_expected_as_what_is_finished() -> None:
    now = [0.0]
    times = TimeLeft([10, 20, 30], now=lambda: now[0])
    assert times.left_s() is None
    times.begin()
    now[0] = 20
    times.finish(20)  # twice as long as expected
    times.begin()
    assert times.left_s() == pytest.approx(100)
    now[0] = 40
    assert times.left_s() == pytest.approx(80)
    assert times.share() == pytest.approx((10 + 10) / 60)
    now[0] = 400  # longer than expected: no negative time, and no more than the part
    assert times.left_s() == pytest.approx(60)
    assert times.share() == pytest.approx(30 / 60)
    times.finish(None)  # skipped: says nothing of the rest
    times.begin()
    assert times.left_s() == pytest.approx(60)


def test_bars_of_this_and_of_other_processes_are_written_and_not_drawn(
    monkeypatch, capfd, tmp_path
) -> None:
    monkeypatch.delenv(PROGRESS_VARIABLE, raising=False)
    with overall_progress(TimeLeft([1.0], now=lambda: 0.0)) as name_part:
        name_part("first")
        path = Path(os.environ[PROGRESS_VARIABLE])
        with progress_bar("here", 4) as update:
            update(4)
        assert read_progress(path) == "here 4/4"
        code = "from cluster.progress import progress_bar\nwith progress_bar('there', 9) as update: update(9)"
        subprocess.run([sys.executable, "-c", code], check=True)
        assert read_progress(path) == "there 9/9"
        name_part("second")
        assert read_progress(path) == ""
    assert PROGRESS_VARIABLE not in os.environ
    assert not path.parent.exists()
    shown = capfd.readouterr()
    assert "here" not in shown.out + shown.err
    assert "there" not in shown.out + shown.err
