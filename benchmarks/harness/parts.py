"""Runs the named parts of a long job one after the other; resumable: rerun the same command after an interruption.

`work_dir/parts.json` holds a record per part: its figures, and its seconds over all attempts. A part is finished while its record
has the key of today (a hash of what the figures depend on) and its outputs exist; figures are written last, and the file whole.
"""

import hashlib
import json
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from benchmarks.harness.overall import TimeLeft, overall_progress
from benchmarks.harness.record import REPOSITORY, plain_value
from benchmarks.harness.thresholds import format_duration
from cluster.processes import reap_orphans, track_child_processes
from cluster.repetition import repeated
from cluster.storage import write_atomic
from encoders.files import from_dict

RECORDS = "parts.json"
RUNNER = "runner"
"""Folder below the work folder for the records of processes. A part may take the work folder itself for its run folder, and would then
end what is recorded there, such as a Ray that all parts share."""
Requirement = Callable[[], str | None]
"""Answers with what is missing, or None."""
_SAVE_EVERY_S = 5.0
_PACKAGES = ("cluster", "encoders", "training", "indexing", "benchmarks")


class PartFailedError(RuntimeError):
    """A part came to its end and its result is not acceptable; the message says why."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """A piece of work whose figures are kept once it has finished."""

    name: str
    run: Callable[[], Mapping[str, Any]]
    """Does the work and returns its figures, in what JSON can hold."""
    title: str = ""
    key: object = None
    """What the figures depend on besides the settings of the runner; as JSON."""
    outputs: tuple[Path, ...] = ()
    """Files that the part makes; where one is missing, the part runs again."""
    needs: tuple[Requirement, ...] = ()
    """Where something is missing, the part is skipped with the reason."""
    describe: Callable[[Mapping[str, Any]], str] = lambda _figures: ""
    """A short line about the figures, for the terminal."""
    weight: float = 1.0
    """Expected length beside that of the other parts, for the time left."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PartRecord:
    """What is remembered of a part."""

    name: str
    key: str
    state: Literal["running", "finished", "failed", "skipped"]
    seconds: float = 0.0
    """Of all attempts with this key."""
    figures: Mapping[str, Any] = field(default_factory=dict)
    detail: str = ""
    """Why the part failed or was skipped; else its line."""
    trace: str = field(default="", repr=False)


class PartRunner:
    """Runs parts in a work folder that no other run uses meanwhile; `figures` are those of all parts so far."""

    def __init__(
        self,
        work_dir: Path,
        *,
        settings: Mapping[str, object],
        say: Callable[[str], object],
        keep_going: bool = False,
    ) -> None:
        """With `keep_going` an error is recorded and costs no other part; else it ends the run."""
        self._path = work_dir / RECORDS
        self._settings = settings
        self._say = say
        self._keep_going = keep_going
        self.figures: dict[str, Any] = {}

    def run(self, parts: Sequence[Part]) -> list[PartRecord]:
        """Run what has not finished yet, in order, after ending what an interrupted run left running."""
        names = [part.name for part in parts]
        if len(set(names)) < len(names):
            raise ValueError(f"parts are {names}; each name must be there once")
        work_dir = self._path.parent
        work_dir.mkdir(parents=True, exist_ok=True)
        reap_orphans(work_dir / RUNNER)
        with track_child_processes(work_dir / RUNNER):
            records: list[PartRecord] = []
            times = TimeLeft([part.weight for part in parts], now=time.monotonic)
            with overall_progress(times) as name_part:
                for part in parts:
                    head = f"[{len(records) + 1}/{len(parts)}] {part.title or part.name}"
                    times.begin()
                    name_part(head)
                    records.append(self._take(part, head, times.left_s()))
                    is_finished = records[-1].state == "finished"
                    times.finish(records[-1].seconds if is_finished else None)
                    self.figures |= records[-1].figures
        return records

    def _take(self, part: Part, head: str, left_s: float | None) -> PartRecord:
        key = self._key(part)
        before = self._read().get(part.name)
        if before is not None and before.key == key and _is_finished(part, before):
            self._say(f"{head}: {before.detail or 'finished'} (finished before)")
            return before
        missing = [reason for need in part.needs if (reason := need()) is not None]
        if missing:
            record = PartRecord(name=part.name, key=key, state="skipped", detail="; ".join(missing))
            self._say(f"{head}: skipped, {record.detail}")
            return record
        left = "" if left_s is None else f" (about {format_duration(left_s)} left)"
        self._say(f"{head} ...{left}")
        carried_s = before.seconds if before and before.key == key and before.state != "finished" else 0.0  # fmt: skip
        record = self._run(part, key, carried_s)
        self._say(f"{head}: {record.detail or record.state} ({format_duration(record.seconds)})")
        if record.trace:
            self._say(record.trace)
        return record

    def _run(self, part: Part, key: str, carried_s: float) -> PartRecord:
        started = time.monotonic()

        def record(state: Literal["running", "finished", "failed"], **rest: Any) -> PartRecord:
            seconds = round(carried_s + time.monotonic() - started, 2)
            return PartRecord(name=part.name, key=key, state=state, seconds=seconds, **rest)

        try:
            with _saved(lambda: self._write(record("running"))):
                text = json.dumps(dict(part.run()), default=plain_value, allow_nan=False)
                if missing := [str(path) for path in part.outputs if not path.exists()]:
                    raise PartFailedError(f"part {part.name!r} did not make {', '.join(missing)}")
            figures = json.loads(text)  # as a later run will read them
            result = record("finished", figures=figures, detail=part.describe(figures))
        except PartFailedError as error:
            if not self._keep_going:
                raise
            result = record("failed", detail=str(error))
        except Exception as error:
            if not self._keep_going:
                raise
            detail = f"failed, {type(error).__name__}: {error}"
            result = record("failed", detail=detail, trace=traceback.format_exc())
        self._write(result)
        return result

    def _key(self, part: Part) -> str:
        text = json.dumps([dict(self._settings), part.key], default=str, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def _read(self) -> dict[str, PartRecord]:
        if not self._path.exists():
            return {}
        return {
            row["name"]: from_dict(PartRecord, row, str(self._path))
            for row in json.loads(self._path.read_text())
        }

    def _write(self, record: PartRecord) -> None:
        rows = [asdict(row) for row in (self._read() | {record.name: record}).values()]
        write_atomic(self._path, json.dumps(rows, indent=1))


def _is_finished(part: Part, record: PartRecord) -> bool:
    return record.state == "finished" and all(path.exists() for path in part.outputs)


@contextmanager
def _saved(save: Callable[[], None]) -> Iterator[None]:
    """Call `save` now, every few seconds and at the end, so that an interrupted attempt keeps the time that it took."""

    def save_if_possible() -> None:
        # The part itself, or the end, meets a full disk where it matters.
        with suppress(OSError):
            save()

    save()
    try:
        with repeated(save_if_possible, every_s=_SAVE_EVERY_S, name="save-part-time"):
            yield
    finally:
        save()


def hash_code() -> str:
    """A hash of the source of all packages, for figures that a change of the code must measure again."""
    digest = hashlib.sha256()
    for path in sorted(path for name in _PACKAGES for path in (REPOSITORY / name).rglob("*.py")):
        digest.update(f"{path.relative_to(REPOSITORY)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]
