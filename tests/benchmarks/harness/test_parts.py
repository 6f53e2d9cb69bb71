"""The part runner: finished parts are skipped, interrupted ones resumed, changed ones run again, orphans ended."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.harness import parts as parts_module
from benchmarks.harness.parts import RECORDS, Part, PartFailedError, PartRunner, hash_code
from benchmarks.harness.record import summarize_samples


class Counted:
    """A part that counts how often it ran."""

    def __init__(self, name: str, **options) -> None:
        self.num_runs = 0
        self.part = Part(name=name, run=self._run, **options)

    def _run(self) -> dict:
        self.num_runs += 1
        return {f"runs_of_{self.part.name}": self.num_runs}


def runner(work_dir: Path, *, say=lambda _line: None, keep_going: bool = False, **settings):
    return PartRunner(work_dir, settings=settings, say=say, keep_going=keep_going)


def rows(work_dir: Path) -> list[dict]:
    return json.loads((work_dir / RECORDS).read_text())


def test_a_second_run_repeats_nothing_and_has_the_same_records(tmp_path: Path) -> None:
    counted = [Counted("a"), Counted("b")]
    parts = [each.part for each in counted]
    first = runner(tmp_path).run(parts)
    content = (tmp_path / RECORDS).read_text()
    later = runner(tmp_path)
    assert later.run(parts) == first
    assert later.figures == {"runs_of_a": 1, "runs_of_b": 1}
    assert (tmp_path / RECORDS).read_text() == content


def test_other_settings_or_another_key_measure_again(tmp_path: Path) -> None:
    a, b = Counted("a"), Counted("b", key={"size": 1})
    runner(tmp_path, scale=1.0).run([a.part, b.part])
    runner(tmp_path, scale=0.5).run([a.part, b.part])
    changed = Part(name="b", run=b.part.run, key={"size": 2})
    runner(tmp_path, scale=0.5).run([a.part, changed])
    assert (a.num_runs, b.num_runs) == (2, 3)


def test_a_lost_output_is_made_again_and_one_never_made_is_an_error(tmp_path: Path) -> None:
    out = tmp_path / "out"
    part = Part(name="a", run=lambda: {"size": out.write_text("x")}, outputs=(out,))
    runner(tmp_path / "work").run([part])
    out.unlink()
    runner(tmp_path / "work").run([part])
    assert out.exists()
    with pytest.raises(PartFailedError, match="part 'b' did not make"):
        runner(tmp_path / "work").run([Part(name="b", run=dict, outputs=(tmp_path / "never",))])


def test_figures_are_the_same_in_the_first_run_and_in_a_resumed_one(tmp_path: Path) -> None:
    part = Part(name="a", run=lambda: {"rate": summarize_samples([1.0, 2.0], warmup=0)})
    first, later = runner(tmp_path), runner(tmp_path)
    first.run([part])
    later.run([part])
    assert first.figures == later.figures
    assert first.figures["rate"]["n"] == 2


@pytest.mark.parametrize("value", [math.nan, math.inf, object()])
def test_what_a_record_cannot_hold_is_not_a_finished_part(tmp_path: Path, value: object) -> None:
    with pytest.raises((ValueError, TypeError)):
        runner(tmp_path).run([Part(name="a", run=lambda: {"rate": value})])
    assert [row["state"] for row in rows(tmp_path)] == ["running"]


def test_names_must_differ(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"parts are \['a', 'a'\]; each name must be there once"):
        runner(tmp_path).run([Counted("a").part, Counted("a").part])


def test_an_error_ends_the_run_or_costs_no_other_part(tmp_path: Path) -> None:
    def fail() -> dict:
        raise RuntimeError("the device is lost")

    bad, good = Part(name="bad", run=fail), Counted("good")
    with pytest.raises(RuntimeError, match="the device is lost"):
        runner(tmp_path / "strict").run([bad, good.part])
    assert good.num_runs == 0
    states = [r.state for r in runner(tmp_path / "kept", keep_going=True).run([bad, good.part])]
    assert states == ["failed", "finished"]
    failed, finished = runner(tmp_path / "kept", keep_going=True).run([bad, good.part])
    assert failed.detail == "failed, RuntimeError: the device is lost"
    assert "in fail" in failed.trace
    assert (finished.state, good.num_runs) == ("finished", 1)  # the failed part alone ran again


def test_what_is_missing_skips_a_part_until_it_is_there(tmp_path: Path) -> None:
    reasons: list[str | None] = ["no GPU", None]
    counted = Counted("a", needs=(lambda: reasons.pop(0), lambda: None))
    (record,) = runner(tmp_path).run([counted.part])
    assert (record.state, record.detail, counted.num_runs) == ("skipped", "no GPU", 0)
    (record,) = runner(tmp_path).run([counted.part])
    assert (record.state, counted.num_runs) == ("finished", 1)


def test_the_lines_say_what_is_done_and_how_long_the_rest_takes(tmp_path, monkeypatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(parts_module.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(parts_module, "reap_orphans", lambda _dir: [])

    def taking(seconds: float):
        def run() -> dict:
            clock[0] += seconds
            return {"rate": 2}

        return run

    parts = [
        Part(name="a", run=taking(20), title="first", describe=lambda f: f"rate {f['rate']}"),
        Part(name="b", run=taking(5), weight=3),
        Part(name="c", run=taking(5)),
    ]
    lines: list[str] = []
    runner(tmp_path, say=lines.append).run(parts)
    assert lines == [
        "[1/3] first ...",
        "[1/3] first: rate 2 (20 s)",
        "[2/3] b ... (about 1 min 20 s left)",
        "[2/3] b: finished (5.0 s)",
        "[3/3] c ... (about 6.2 s left)",
        "[3/3] c: finished (5.0 s)",
    ]
    lines.clear()
    runner(tmp_path, say=lines.append).run(parts)
    assert lines[0] == "[1/3] first: rate 2 (finished before)"


DRIVER = """
import subprocess, sys, time
from pathlib import Path
from benchmarks.harness import parts
parts._SAVE_EVERY_S = 0.1
work_dir = Path(sys.argv[1])

def first():
    with (work_dir / "ran").open("a") as file:
        file.write("first ")
    return {"first": 1}

def second():
    with (work_dir / "ran").open("a") as file:
        file.write("second ")
    if not (work_dir / "child").exists():
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"])
        time.sleep(1.5)  # until the child is recorded
        (work_dir / "child").write_text(str(child.pid))
        time.sleep(100)
    return {"second": 2}

runner = parts.PartRunner(work_dir, settings={}, say=print)
runner.run([parts.Part(name="first", run=first), parts.Part(name="second", run=second)])
print(runner.figures)
"""


def test_a_run_that_is_killed_in_a_part_is_resumed_there(tmp_path: Path) -> None:
    command = [sys.executable, "-c", DRIVER, str(tmp_path)]
    driver = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (tmp_path / "child").exists() or not (tmp_path / "child").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    child = int((tmp_path / "child").read_text())
    time.sleep(0.3)
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    first, second = rows(tmp_path)
    assert (first["state"], second["state"]) == ("finished", "running")
    assert second["seconds"] >= 1.5  # of the interrupted attempt
    assert second["figures"] == {}
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "{'first': 1, 'second': 2}" in shown
    assert (tmp_path / "ran").read_text() == "first second second "
    assert rows(tmp_path)[1]["seconds"] >= second["seconds"]
    with pytest.raises(ProcessLookupError):  # ended by the second run
        os.kill(child, 0)


def test_a_part_that_takes_the_work_folder_for_its_own_ends_nothing_of_the_run(tmp_path) -> None:
    """As a step of the demo does, while the Ray that all steps share is a child of the runner."""
    code = f"""
import time
from cluster.processes import reap_orphans
ended = reap_orphans({str(tmp_path)!r})
raise SystemExit(len(ended))
"""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as before:
        shared: list[subprocess.Popen] = []

        def first() -> dict:
            shared.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]))
            time.sleep(1.2)  # until it is recorded
            return {}

        def second() -> dict:
            return {"status": subprocess.run([sys.executable, "-c", code], check=False).returncode}

        work = runner(tmp_path)
        try:
            work.run([Part(name="first", run=first), Part(name="second", run=second)])
            assert work.figures == {"status": 0}
            assert [process.poll() for process in (before, *shared)] == [None, None]
        finally:
            for process in (before, *shared):
                process.kill()
                process.wait()


def test_ctrl_c_keeps_the_time_of_the_attempt_and_the_parts_before_it(tmp_path: Path) -> None:
    waits = [KeyboardInterrupt()]

    def second() -> dict:
        time.sleep(0.02)
        if waits:
            raise waits.pop()
        return {"second": 2}

    first = Counted("first")
    parts = [first.part, Part(name="second", run=second)]
    with pytest.raises(KeyboardInterrupt):
        runner(tmp_path, keep_going=True).run(parts)
    interrupted = rows(tmp_path)[1]
    assert (interrupted["state"], interrupted["seconds"] >= 0.02) == ("running", True)
    (_, record) = runner(tmp_path).run(parts)
    assert (record.state, record.seconds >= 0.04, first.num_runs) == ("finished", True, 1)


def test_the_hash_of_the_code_changes_with_a_source_file(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(parts_module, "REPOSITORY", tmp_path)
    (tmp_path / "encoders").mkdir()
    source = tmp_path / "encoders" / "a.py"
    source.write_text("x = 1\n")
    before = hash_code()
    assert hash_code() == before
    source.write_text("x = 2\n")
    changed = hash_code()
    source.rename(source.with_name("b.py"))
    assert len({before, changed, hash_code()}) == 3
