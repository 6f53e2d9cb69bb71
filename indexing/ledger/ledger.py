"""The ledger of a run folder: the outcome of each clip by its key, written after Milvus has the row, read back by the next run.

Lines are appended and synced batch by batch; a truncated last line is ignored, because the clip
is then simply done again. The last line of a key counts. Ray Data's own checkpoints do not serve here:
they need one id that a row keeps from reading to writing, and the row of a video becomes rows of clips,
some of them with errors; and they believe their files where Milvus can be asked.
"""

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.storage import write_atomic
from encoders.stages.base import DEAD_LETTER_COLUMNS, ClipError, DeadLetter
from indexing.sources.content import Content, FileStamp

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


class Ledger:
    """The ledger of one run folder; one process at a time writes it."""

    def __init__(self, run_dir: str | Path) -> None:
        self.run_dir = Path(run_dir)
        self._folder = self.run_dir / "ledger"
        self.outcomes = {
            line["clip_key"]: _outcome_of_line(line)
            for line in _read_lines(self._folder / _OUTCOMES)
        }

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
        """One line per key."""
        lines = [json.dumps(_line_of(outcome)) + "\n" for outcome in self.outcomes.values()]
        write_atomic(self._folder / _OUTCOMES, "".join(lines))

    def read_contents(self) -> dict[str, Content]:
        """What the videos contained when they were last read, by URI."""
        return {
            line["uri"]: Content(
                content_hash=line["content_hash"],
                stamp=FileStamp(
                    size_bytes=line["size_bytes"],
                    mtime_ns=line["mtime_ns"],
                    version=line.get("version", ""),
                ),
            )
            for line in _read_lines(self._folder / _CONTENTS)
        }

    def write_contents(self, contents: dict[str, Content]) -> None:
        """Keep the hashes of the files that could be read."""
        lines = [
            json.dumps(
                {
                    "uri": uri,
                    "content_hash": content.content_hash,
                    "size_bytes": content.stamp.size_bytes,
                    "mtime_ns": content.stamp.mtime_ns,
                    "version": content.stamp.version,
                }
            )
            + "\n"
            for uri, content in contents.items()
            if content.stamp is not None and not content.problem
        ]
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
    """As `write_dead_letters` left them."""
    table = pq.ParquetFile(Path(run_dir) / DEAD_LETTERS).read()
    return [DeadLetter.from_columns(row) for row in table.to_pylist()]


def _line_of(outcome: Outcome) -> dict[str, str]:
    """Flat, with empty texts where there is no error: the lines of earlier runs are read too."""
    return {
        "clip_key": outcome.clip_key,
        "clip_id": outcome.clip_id,
        "video_uri": outcome.video_uri,
        "status": "written" if outcome.error is None else "dead",
        "row_digest": outcome.row_digest,
        **asdict(outcome.error or _NO_ERROR),
    }


def _outcome_of_line(line: dict[str, str]) -> Outcome:
    error = {name: line[name] for name in ("stage", "reason", "detail")}
    return Outcome(
        clip_key=line["clip_key"],
        clip_id=line["clip_id"],
        video_uri=line["video_uri"],
        row_digest=line["row_digest"],
        error=ClipError(**error) if line["status"] == "dead" else None,
    )


def _read_lines(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")
    whole = lines[:-1]  # what follows the last newline was never finished
    return [json.loads(line) for line in whole if line]


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
