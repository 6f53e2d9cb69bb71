"""The journal of clicks: one line of JSON each, appended and synced to the disk before a click is acknowledged.

What a kill or a full disk leaves behind the last whole line was never acknowledged; it is cut off when the folder is opened again, and
whoever sent it sends it again under the same id.
"""

import json
import os
import threading
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock, Timeout

from encoders.files import parse_json
from indexing.labelling.clicks import Click, Clicks, Record, record_of

JOURNAL_NAME = "clicks.jsonl"
_LOCK_NAME = "clicks.lock"
MAX_BYTES = 64 << 20
"""Maximum size of a journal: some 300,000 clicks."""
MAX_LINE_BYTES = 16 << 10


class JournalError(OSError):
    """A click could not be stored."""


class Journal:
    """The clicks of a folder, which one process at a time has open. Thread-safe."""

    def __init__(self, folder: Path, *, max_bytes: int = MAX_BYTES) -> None:
        """Make the folder where it is missing. ValueError where another process has it open, or where the journal is damaged."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self._max_bytes = folder, max_bytes
        self._lock = threading.Lock()
        self._is_broken = False
        self._file_lock = FileLock(folder / _LOCK_NAME)
        try:
            self._file_lock.acquire(timeout=0)
        except Timeout:
            raise ValueError(
                f"labels in {folder} are being written by another process; end it, or name another folder"
            ) from None
        try:
            path = folder / JOURNAL_NAME
            self.clicks, self._num_bytes = read_journal(path)
            flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            self._descriptor = os.open(path, flags, 0o644)
            os.ftruncate(self._descriptor, self._num_bytes)
            os.lseek(self._descriptor, self._num_bytes, os.SEEK_SET)
            os.fsync(self._descriptor)
            _sync_folder(folder)  # the name of a new file
        except BaseException:
            self._file_lock.release()
            raise

    def append(self, records: Sequence[Record]) -> None:
        """Store them all, or none; returns when they are on the disk. Those that are there already are not stored again.

        ValueError for a click that cannot be, JournalError where it cannot be stored.
        """
        with self._lock:
            before: dict[str, Click] = {}
            fresh = []
            for record in records:
                click = record.click
                self.clicks.check(click, before)
                if click.click_id not in before and self.clicks.find(click.click_id) is None:
                    fresh.append(record)
                before[click.click_id] = click
            if fresh:
                self._write(b"".join(map(_line, fresh)))
            for record in fresh:
                self.clicks.add(record)

    def close(self) -> None:
        """Let another process open the folder."""
        with self._lock:
            if self._file_lock.is_locked:
                os.close(self._descriptor)
                self._file_lock.release()
            self._is_broken = True

    def _write(self, data: bytes) -> None:
        if self._is_broken:
            raise JournalError(f"labels in {self.folder} cannot be stored any more; restart the service")  # fmt: skip
        if self._num_bytes + len(data) > self._max_bytes:
            raise JournalError(
                f"labels in {self.folder} have reached {self._max_bytes >> 20} MiB; name another folder"
            )
        self._is_broken = (
            True  # until it is known what is on the disk: after a failed sync nothing is
        )
        try:
            self._write_whole(data)
            os.fsync(self._descriptor)
        except OSError as error:
            raise JournalError(f"labels cannot be stored in {self.folder}: {error.strerror}") from error  # fmt: skip
        self._is_broken = False
        self._num_bytes += len(data)

    def _write_whole(self, data: bytes) -> None:
        written = 0
        try:
            while written < len(data):
                written += os.write(self._descriptor, data[written:])
        except (
            OSError
        ):  # a full disk: what was written of it is not acknowledged, and later ones may fit again
            os.ftruncate(self._descriptor, self._num_bytes)
            os.lseek(self._descriptor, self._num_bytes, os.SEEK_SET)
            self._is_broken = False
            raise


def read_journal(path: Path) -> tuple[Clicks, int]:
    """All whole lines, and where the last one ends; an unfinished last line is left out. ValueError names a damaged one."""
    clicks = Clicks()
    end = 0
    if not path.exists():
        return clicks, end
    if path.is_symlink():
        raise ValueError(f"{path} is a link; labels are written to a file only")
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                break
            try:
                record = record_of(parse_json(line), f"{path}: line {number}")
                clicks.check(record.click, {})
            except (ValueError, TypeError) as error:
                raise ValueError(f"{path}: line {number} is damaged: {error}") from error
            clicks.add(record)
            end += len(line)
    return clicks, end


def _line(record: Record) -> bytes:
    line = json.dumps(record.to_dict(), ensure_ascii=True, allow_nan=False).encode() + b"\n"
    if len(line) > MAX_LINE_BYTES:
        raise ValueError(f"a click has {len(line)} bytes; at most {MAX_LINE_BYTES} are stored")
    return line


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
