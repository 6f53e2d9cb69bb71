"""How a linear flow of commands is run so that running it again goes on where it stopped.

A step is done when its record in `steps.json` carries the fingerprint of its command and of its
inputs and all of its outputs exist; the record is written last. While a step runs, the time that it
has used so far is kept in its record, so that a killed flow does not lose time from its total.
"""

import hashlib
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import psutil
from rich.console import Console

from cluster.processes import reap_orphans, record_process
from cluster.storage import write_atomic

_SAMPLE_S = 2.0
_GRACE_S = 30.0


class StepError(RuntimeError):
    """A step's command failed; the message names the command and the end of its log."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One command of the flow, the files that it reads and makes, and what to say of them."""

    name: str
    title: str
    command: tuple[str, ...]
    inputs: tuple[Path, ...] = ()
    outputs: tuple[Path, ...]
    made: Callable[[], str]
    """Reads the outputs; one short line of what the step made."""
    variables: Callable[[], Mapping[str, str]] = dict
    """Called when the step starts: environment variables that its command gets beside ours."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StepRecord:
    """What is remembered of a step: its time over all attempts and its memory's high-water mark."""

    name: str
    made: str
    seconds: float
    peak_memory_gb: float
    fingerprint: str
    is_done: bool


def run_steps(steps: Sequence[Step], run_dir: Path, console: Console) -> list[StepRecord]:
    """Run what is not done yet, in order; raises StepError at the first failure."""
    say = partial(console.print, highlight=False, soft_wrap=True)
    run_dir.mkdir(parents=True, exist_ok=True)
    reap_orphans(run_dir)
    records = _read_records(run_dir)
    done: list[StepRecord] = []
    for number, step in enumerate(steps, start=1):
        place = f"[{number}/{len(steps)}]"
        before = records.get(step.name)
        fingerprint = _fingerprint(step, [record.fingerprint for record in done])
        if before is not None and _is_done(step, before, fingerprint):
            say(f"{place} {step.title}: {before.made} (done before)")
            done.append(before)
            continue
        say(f"{place} {step.title} ...")
        carried_s = before.seconds if before and before.fingerprint == fingerprint else 0.0
        record = _run_step(step, run_dir, fingerprint, carried_s)
        say(f"{place} {step.title}: {record.made}  ({format_seconds(record.seconds)})")
        done.append(record)
    return done


def format_seconds(seconds: float) -> str:
    """`75.2` -> `1 min 15 s`."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _is_done(step: Step, before: StepRecord, fingerprint: str) -> bool:
    return (
        before.is_done
        and before.fingerprint == fingerprint
        and all(path.exists() for path in step.outputs)
    )


def _fingerprint(step: Step, earlier: Sequence[str]) -> str:
    """Command, steps before it and outside inputs: when any changes, the step runs again."""
    seen = [step.command, list(earlier)]
    seen.append([hashlib.sha256(path.read_bytes()).hexdigest() for path in step.inputs])
    return hashlib.sha256(json.dumps(seen).encode()).hexdigest()[:16]


def _run_step(step: Step, run_dir: Path, fingerprint: str, carried_s: float) -> StepRecord:
    log_path = run_dir / "logs" / f"{step.name}.log"
    log_path.parent.mkdir(exist_ok=True)
    started = time.monotonic()
    variables = step.variables()  # first: what it starts may set variables here (Ray its token's)
    peak_bytes = 0

    def record(*, made: str = "", is_done: bool = False) -> StepRecord:
        return StepRecord(
            name=step.name,
            made=made,
            seconds=round(carried_s + time.monotonic() - started, 2),
            peak_memory_gb=round(peak_bytes / 1e9, 3),
            fingerprint=fingerprint,
            is_done=is_done,
        )

    with log_path.open("ab") as log:
        # stderr stays on the terminal (progress bars); stdout is the step's own report.
        process = subprocess.Popen(
            step.command,
            stdout=log,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **variables},
        )
        record_process(run_dir, step.name, process.pid)
        try:
            while process.poll() is None:
                peak_bytes = max(peak_bytes, tree_memory_bytes(psutil.Process()))
                _write_record(run_dir, record())
                try:
                    process.wait(timeout=_SAMPLE_S)
                except subprocess.TimeoutExpired:
                    continue
        except BaseException as error:
            if not isinstance(error, KeyboardInterrupt):  # that the terminal sends to the child too
                process.terminate()
            _end(process)
            raise
    if process.returncode != 0:
        tail = "\n".join(log_path.read_text(errors="replace").splitlines()[-15:])
        raise StepError(
            f"step {step.name!r} ended with status {process.returncode}: "
            f"{shlex.join(step.command)}\n{tail}\n(whole log: {log_path})"
        )
    missing = [str(path) for path in step.outputs if not path.exists()]
    if missing:
        raise StepError(f"step {step.name!r} ended well but did not make {', '.join(missing)}")
    finished = record(made=step.made(), is_done=True)
    _write_record(run_dir, finished)
    return finished


def _end(process: subprocess.Popen) -> None:
    """Wait for a child that was told to end; not for ever."""
    try:
        process.wait(timeout=_GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def tree_memory_bytes(root: psutil.Process) -> int:
    """Proportional set size of a process and all below it: shared pages count once in the sum."""
    total = 0
    for process in [root, *root.children(recursive=True)]:
        try:
            total += process.memory_full_info().pss
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return total


def _read_records(run_dir: Path) -> dict[str, StepRecord]:
    path = run_dir / "steps.json"
    if not path.exists():
        return {}
    return {row["name"]: StepRecord(**row) for row in json.loads(path.read_text())}


def _write_record(run_dir: Path, record: StepRecord) -> None:
    records = {**_read_records(run_dir), record.name: record}
    rows = [asdict(row) for row in records.values()]
    write_atomic(run_dir / "steps.json", json.dumps(rows, indent=1).encode())


def tfcovr_command(*arguments: str | Path) -> tuple[str, ...]:
    """The command line of `tfcovr ...` under this very interpreter."""
    return (sys.executable, "-m", "tfcovr", *map(str, arguments))
