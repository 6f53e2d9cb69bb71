"""Steps of a linear flow of commands, as parts that each depend on the commands before them.

The standard output of a step goes to a log of its own; the memory of the whole process tree is sampled while it runs.
"""

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil

from benchmarks.harness.parts import RUNNER, Part, PartFailedError
from cluster.processes import record_process

_SAMPLE_S = 5.0  # reading the memory of a dozen processes costs 0.06 s
_GRACE_S = 30.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One command of the flow."""

    name: str
    title: str
    command: tuple[str, ...]
    outputs: tuple[Path, ...]
    """Files that the command makes."""
    made: Callable[[], str]
    """Reads the outputs; one short line of what the step made."""
    variables: Callable[[], Mapping[str, str]] = dict
    """Called when the step starts: environment variables that its command gets beside ours."""
    weight: float = 1.0
    """Expected seconds beside those of the other steps."""
    key: object = None
    """What the outputs depend on beside the commands up to this one; as JSON."""
    statuses: tuple[int, ...] = (0,)
    """Exit statuses of a success. With another one than 0 the outputs must be newer than the start of the step."""


def command_parts(steps: Sequence[Step], run_dir: Path) -> list[Part]:
    """A part for each step; when a command changes, its step and all after it run again."""
    return [
        Part(
            name=step.name,
            title=step.title,
            run=partial(_run_step, step, run_dir),
            key=[[earlier.command, earlier.key] for earlier in steps[: number + 1]],
            outputs=step.outputs,
            describe=lambda _figures, made=step.made: made(),
            weight=step.weight,
        )
        for number, step in enumerate(steps)
    ]


def _run_step(step: Step, run_dir: Path) -> dict[str, float]:
    log_path = run_dir / "logs" / f"{step.name}.log"
    log_path.parent.mkdir(exist_ok=True)
    variables = step.variables()  # first: what it starts may set variables here (Ray its token's)
    peak_bytes, started, cpu_s = 0, time.time(), tree_cpu_s(os.getpid())
    with log_path.open("ab") as log:
        # stderr stays on the terminal (progress bars); stdout is the step's own report.
        process = subprocess.Popen(
            step.command,
            stdout=log,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **variables},
        )
        record_process(run_dir / RUNNER, step.name, process.pid)
        try:
            while process.poll() is None:
                peak_bytes = max(peak_bytes, tree_memory_bytes(os.getpid()))
                try:
                    process.wait(timeout=_SAMPLE_S)
                except subprocess.TimeoutExpired:
                    continue
        except BaseException:
            process.terminate()  # a child that a terminal has told too is not disturbed by it
            _end(process)
            raise
    if not _has_succeeded(step, process.returncode, started):
        tail = "\n".join(log_path.read_text(errors="replace").splitlines()[-15:])
        raise PartFailedError(
            f"step {step.name!r} ended with status {process.returncode}: "
            f"{shlex.join(step.command)}\n{tail}\n(whole log: {log_path})"
        )
    cpu_s = tree_cpu_s(os.getpid()) - cpu_s
    return {"peak_memory_gb": round(peak_bytes / 1e9, 3), "cpu_s": round(cpu_s, 1)}


def _has_succeeded(step: Step, status: int, started: float) -> bool:
    """A command that ends with an error may leave the outputs of an earlier run behind."""
    if status == 0 or status not in step.statuses:
        return status == 0
    return all(path.exists() and path.stat().st_mtime >= started for path in step.outputs)


def _end(process: subprocess.Popen) -> None:
    """Wait for a child that was told to end; not for ever."""
    try:
        process.wait(timeout=_GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def tree_memory_bytes(pid: int) -> int:
    """Proportional set size of a process and all below it: shared pages, the object store too, count once in the sum."""
    total = 0
    with suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        for process in (root, *root.children(recursive=True)):
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                total += process.memory_full_info().pss
    return total


def tree_cpu_s(pid: int) -> float:
    """Processor seconds of a process, all that run below it and all of theirs that have ended."""
    total = 0.0
    with suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        for process in (root, *root.children(recursive=True)):
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                total += sum(process.cpu_times()[:4])
    return total


def index_command(bundle_dir: Path, clips: Path, place: Path, *options: str) -> tuple[str, ...]:
    """`tfcovr index` into Milvus Lite below `place`. Run it in a process of its own: Ray forks, which is not safe where Milvus has run."""
    where = ("--milvus-uri", place / "milvus", "--run-dir", place / "run")
    return tfcovr_command("index", "--bundle", bundle_dir, "--clips", clips, *where, *options)


def tfcovr_command(*arguments: str | Path) -> tuple[str, ...]:
    """The command line of `tfcovr ...` under this very interpreter."""
    return (sys.executable, "-m", "tfcovr", *map(str, arguments))
