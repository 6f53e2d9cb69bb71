"""The ledger of a run folder: the outcome of each clip by its key, written after Milvus has the row, read back by the next run.

Lines are appended and synced batch by batch; a truncated last line is ignored, because the clip
is then simply done again. The last line of a key counts. A damaged line or file is named and passed over: Milvus and the
videos know what it said, so that the next `tfcovr index` writes it anew. Ray Data's own checkpoints do not serve here:
they need one id that a row keeps from reading to writing, and the row of a video becomes rows of clips,
some of them with errors; and they believe their files where Milvus can be asked.
"""

import json
import logging
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.storage import atomic_path, write_atomic
from encoders.files import read_table
from encoders.stages.base import DEAD_LETTER_COLUMNS, ClipError, DeadLetter
from indexing.sources.content import Content, FileStamp

logger = logging.getLogger(__name__)
T = TypeVar("T")
_OUTCOMES = "outcomes.jsonl"
_CONTENTS = "contents.jsonl"
DEAD_LETTERS = "dead_letters.parquet"
DEAD_LETTERS_SCHEMA = pa.schema([(name, pa.string()) for name in DEAD_LETTER_COLUMNS])
_NO_ERROR = ClipError(stage="", reason="", detail="")


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """The end of one clip: written into the collection, or failed for good with an error."""

    clip_key: str
    clip_id: str
    video_uri: str
    row_digest: str = ""
    """Of what Milvus stores beside the vector; "" when that is not known."""
    error: ClipError | None = None


_OUTCOME_NAMES = (
    *("clip_key", "clip_id", "video_uri", "status", "row_digest"),
    *("stage", "reason", "detail"),
)


class Ledger:
    """The ledger of one run folder; one process at a time writes it."""

    def __init__(self, run_dir: str | Path) -> None:
        self.run_dir = Path(run_dir)
        self._folder = self.run_dir / "ledger"
        outcomes, self.num_damaged = _read_lines(self._folder / _OUTCOMES, _outcome_of_line)
        self.outcomes = {outcome.clip_key: outcome for outcome in outcomes}

    def record(self, outcomes: Sequence[Outcome]) -> None:
        """Durable when this returns."""
        _append_lines(self._folder / _OUTCOMES, [_line_of(outcome) for outcome in outcomes])
        self.outcomes |= {outcome.clip_key: outcome for outcome in outcomes}

    def dead_keys(self) -> set[str]:
        """Keys of clips that failed for good."""
        return {key for key, outcome in self.outcomes.items() if outcome.error is not None}

    def dead_letter(self, clip_key: str) -> DeadLetter:
        """Of one of `dead_keys`."""
        outcome = self.outcomes[clip_key]
        if outcome.error is None:
            raise KeyError(f"clip_key {clip_key!r} has no error in {self._folder / _OUTCOMES}")
        return DeadLetter(clip_id=outcome.clip_id, video_uri=outcome.video_uri, error=outcome.error)

    def forget(self, clip_keys: Iterable[str]) -> None:
        """For keys whose rows were deleted; durable with the next `compact`."""
        for clip_key in clip_keys:
            self.outcomes.pop(clip_key, None)

    def compact(self) -> None:
        """One line per key, and none that is damaged."""
        with atomic_path(self._folder / _OUTCOMES) as path, path.open("w") as file:
            file.writelines(json.dumps(_line_of(one)) + "\n" for one in self.outcomes.values())
        self.num_damaged = 0

    def read_contents(self) -> dict[str, Content]:
        """What the videos contained when they were last read, by URI."""
        contents, _num_damaged = _read_lines(self._folder / _CONTENTS, _content_of_line)
        return dict(contents)

    def keep_contents(self, contents: Mapping[str, Content]) -> None:
        """Add the hashes of these files to what is kept, durably: they were read while a run goes on."""
        _append_lines(self._folder / _CONTENTS, _content_lines(contents))

    def write_contents(self, contents: Mapping[str, Content]) -> None:
        """Keep the hashes of the files that could be read, and of no others."""
        lines = [json.dumps(line) + "\n" for line in _content_lines(contents)]
        write_atomic(self._folder / _CONTENTS, "".join(lines))


def write_dead_letters(run_dir: str | Path, letters: Sequence[DeadLetter]) -> Path:
    """All dead letters of the archive as it stands, not only those of the last run."""
    rows = [letter.to_columns() for letter in sorted(letters, key=lambda letter: letter.clip_id)]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows, schema=DEAD_LETTERS_SCHEMA), sink)
    path = Path(run_dir) / DEAD_LETTERS
    write_atomic(path, sink.getvalue().to_pybytes())
    return path


def read_dead_letters(run_dir: str | Path) -> list[DeadLetter]:
    """As `write_dead_letters` left them; none where there is no such file, or a damaged one."""
    path = Path(run_dir) / DEAD_LETTERS
    if not path.exists():
        return []
    try:
        table = read_table(path, DEAD_LETTERS_SCHEMA.names)
    except ValueError as error:
        logger.warning("%s; passed over, `tfcovr index` writes it anew", error)
        return []
    return [DeadLetter.from_columns(row) for row in table.to_pylist()]


def _line_of(outcome: Outcome) -> dict[str, str]:
    """Flat, with empty texts where there is no error: the lines of earlier runs are read too."""
    error = outcome.error or _NO_ERROR
    return {
        "clip_key": outcome.clip_key,
        "clip_id": outcome.clip_id,
        "video_uri": outcome.video_uri,
        "status": "written" if outcome.error is None else "dead",
        "row_digest": outcome.row_digest,
        "stage": error.stage,
        "reason": error.reason,
        "detail": error.detail,
    }


def _outcome_of_line(line: dict[str, Any]) -> Outcome:
    key, clip_id, video_uri, status, digest, *error = [_text(line, name) for name in _OUTCOME_NAMES]
    stage, reason, detail = error
    return Outcome(
        clip_key=key,
        clip_id=clip_id,
        video_uri=sys.intern(video_uri),  # of many clips
        row_digest=digest,
        error=ClipError(stage=stage, reason=reason, detail=detail) if status == "dead" else None,
    )


def _content_lines(contents: Mapping[str, Content]) -> list[dict[str, Any]]:
    return [
        {
            "uri": uri,
            "content_hash": content.content_hash,
            "size_bytes": content.stamp.size_bytes,
            "mtime_ns": content.stamp.mtime_ns,
            "version": content.stamp.version,
        }
        for uri, content in contents.items()
        if content.stamp is not None and not content.problem
    ]


def _content_of_line(line: dict[str, Any]) -> tuple[str, Content]:
    stamp = FileStamp(
        size_bytes=_number(line, "size_bytes"),
        mtime_ns=_number(line, "mtime_ns"),
        version=_text({"version": "", **line}, "version"),
    )
    content = Content(content_hash=_text(line, "content_hash"), stamp=stamp)
    return _text(line, "uri"), content


def _text(line: dict[str, Any], name: str) -> str:
    if not isinstance(line[name], str):
        raise ValueError(f"{name} is {line[name]!r}; it must be a text")
    return line[name]


def _number(line: dict[str, Any], name: str) -> int:
    if not isinstance(line[name], int):
        raise ValueError(f"{name} is {line[name]!r}; it must be a whole number")
    return line[name]


def _read_lines(path: Path, parse: Callable[[dict[str, Any]], T]) -> tuple[list[T], int]:
    """What each line says, and the number of damaged ones, which are named and passed over."""
    if not path.exists():
        return [], 0
    parsed: list[T] = []
    problems: list[str] = []
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip() or not line.endswith(b"\n"):  # an end that was never finished
                continue
            try:
                parsed.append(parse(json.loads(line)))
            except (ValueError, TypeError, KeyError, RecursionError) as error:
                problems.append(f"line {number} ({type(error).__name__}: {str(error)[:80]})")
    if problems:
        more = f" and {len(problems) - 1} more" if len(problems) > 1 else ""
        logger.warning(
            "%s: %s%s damaged; passed over, `tfcovr index` writes anew what Milvus and the videos tell",
            path,
            problems[0],
            f"{more} are" if more else " is",
        )
    return parsed, len(problems)


def _append_lines(path: Path, lines: Sequence[dict[str, Any]]) -> None:
    if not lines:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+") as file:
        _drop_truncated_line(file)
        file.write("".join(json.dumps(line) + "\n" for line in lines).encode())
        file.flush()
        os.fsync(file.fileno())


def _drop_truncated_line(file: Any) -> None:
    """A truncated last line must not swallow the one that follows it."""
    end = file.seek(0, os.SEEK_END)
    if end == 0:
        return
    file.seek(end - 1)
    if file.read(1) == b"\n":
        return
    file.seek(0)
    file.truncate(file.read().rfind(b"\n") + 1)
    file.seek(0, os.SEEK_END)
