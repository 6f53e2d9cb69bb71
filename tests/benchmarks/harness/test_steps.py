"""Steps as parts: finished ones are not repeated, failed ones are resumed, changed ones run again with all after them."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.harness import steps as steps_module
from benchmarks.harness.parts import RECORDS, PartFailedError, PartRunner
from benchmarks.harness.steps import Step, command_parts

COUNT = "import pathlib,sys; p=pathlib.Path(sys.argv[1]); p.write_text(p.read_text()+'x' if p.exists() else 'x')"


def counting_step(name: str, out: Path, *extra: str) -> Step:
    return Step(
        name=name,
        title=name,
        command=(sys.executable, "-c", COUNT, str(out), *extra),
        outputs=(out,),
        made=lambda: f"{len(out.read_text())} runs",
    )


def run(steps: list[Step], run_dir: Path) -> list:
    runner = PartRunner(run_dir, settings={}, say=lambda _line: None)
    return runner.run(command_parts(steps, run_dir))


def test_a_second_run_repeats_nothing_and_keeps_the_times(tmp_path: Path) -> None:
    steps = [counting_step("a", tmp_path / "a"), counting_step("b", tmp_path / "b")]
    first = run(steps, tmp_path / "run")
    assert run(steps, tmp_path / "run") == first
    assert [(tmp_path / name).read_text() for name in "ab"] == ["x", "x"]


def test_a_changed_step_runs_again_with_all_after_it(tmp_path: Path) -> None:
    names = ("a", "b", "c")
    run([counting_step(name, tmp_path / name) for name in names], tmp_path / "run")
    changed = [
        counting_step(name, tmp_path / name, *(["changed"] if name == "b" else []))
        for name in names
    ]
    run(changed, tmp_path / "run")
    assert [(tmp_path / name).read_text() for name in names] == ["x", "xx", "xx"]


def test_a_lost_output_is_made_again(tmp_path: Path) -> None:
    steps = [counting_step("a", tmp_path / "a")]
    run(steps, tmp_path / "run")
    (tmp_path / "a").unlink()
    run(steps, tmp_path / "run")
    assert (tmp_path / "a").read_text() == "x"


def test_variables_are_asked_for_when_the_step_starts_and_reach_its_command(tmp_path: Path) -> None:
    asked: list[str] = []

    def variables() -> dict[str, str]:
        asked.append("yes")
        os.environ["SET_ON_THE_WAY"] = "too"
        return {"WHERE": "there"}

    out = tmp_path / "out"
    write = f"import os,pathlib; pathlib.Path({str(out)!r}).write_text(os.environ['WHERE'] + os.environ['SET_ON_THE_WAY'])"
    step = Step(
        name="a",
        title="a",
        command=(sys.executable, "-c", write),
        outputs=(out,),
        made=lambda: "",
        variables=variables,
    )
    try:
        for _ in range(2):
            run([step], tmp_path / "run")
    finally:
        os.environ.pop("SET_ON_THE_WAY", None)
    assert out.read_text() == "theretoo"
    assert asked == ["yes"]  # the second run had nothing to do


def test_a_failure_names_the_command_and_shows_its_last_words(tmp_path: Path) -> None:
    step = Step(
        name="bad",
        title="bad",
        command=(sys.executable, "-c", "print('no such bundle'); raise SystemExit(3)"),
        outputs=(),
        made=str,
    )
    with pytest.raises(PartFailedError, match=r"(?s)'bad' ended with status 3.*no such bundle"):
        run([step], tmp_path / "run")
    (row,) = json.loads((tmp_path / "run" / RECORDS).read_text())
    assert row["state"] == "running"


def test_a_step_without_its_output_is_not_done(tmp_path: Path) -> None:
    step = Step(
        name="empty",
        title="empty",
        command=(sys.executable, "-c", ""),
        outputs=(tmp_path / "never",),
        made=str,
    )
    with pytest.raises(PartFailedError, match="did not make"):
        run([step], tmp_path / "run")


def test_a_killed_flow_leaves_its_step_to_be_ended_by_the_next(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    driver_code = (
        "import sys; from pathlib import Path\n"
        "from benchmarks.harness.parts import PartRunner\n"
        "from benchmarks.harness.steps import Step, command_parts\n"
        f"run_dir = Path({str(run_dir)!r})\n"
        "step = Step(name='s', title='s', command=(sys.executable, '-c', 'import time; time.sleep(60)'), outputs=(), made=str)\n"
        "PartRunner(run_dir, settings={}, say=print).run(command_parts([step], run_dir))\n"
    )
    driver = subprocess.Popen([sys.executable, "-c", driver_code])
    child = None
    for _ in range(100):
        time.sleep(0.1)
        children = subprocess.run(
            ["pgrep", "-P", str(driver.pid)], capture_output=True, text=True, check=False
        ).stdout.split()
        if children and (run_dir / "logs" / "s.log").exists():
            child = int(children[0])
            break
    assert child is not None
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    run([], run_dir)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and Path(f"/proc/{child}").exists():
        time.sleep(0.1)
    assert not Path(f"/proc/{child}").exists()


def test_a_step_is_told_at_once_when_its_flow_is_told_to_end(tmp_path: Path, monkeypatch) -> None:
    def told(_process: object) -> int:
        raise KeyboardInterrupt  # SIGTERM to the flow alone; no terminal has told the step

    step = Step(name="s", title="s", command=("sleep", "60"), outputs=(), made=str)
    monkeypatch.setattr(steps_module, "tree_memory_bytes", told)
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run([step], tmp_path / "run")
    assert time.monotonic() - started < steps_module._GRACE_S / 2


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_a_step_ends_with_its_flow_even_if_it_does_not_listen(
    tmp_path: Path, monkeypatch, error: BaseException
) -> None:
    pid_path = tmp_path / "pid"
    shell = f"trap '' TERM INT; echo $$ > {pid_path}; exec sleep 60"
    step = Step(
        name="deaf", title="deaf", command=("sh", "-c", shell), outputs=(), made=lambda: "nothing"
    )

    def fail(_process: object) -> int:
        while not (pid_path.exists() and pid_path.read_text().strip()):
            time.sleep(0.01)
        raise error

    monkeypatch.setattr(steps_module, "tree_memory_bytes", fail)
    monkeypatch.setattr(steps_module, "_GRACE_S", 0.1)
    with pytest.raises(type(error)):
        run([step], tmp_path / "run")
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid_path.read_text()), 0)
