"""The ledger of earlier versions: JSON lines of outcomes and contents, read once into the database that took their place.

The last line of a key counts. A damaged line is named and passed over, and a truncated last one is ignored: Milvus and the videos
know what they said.
"""

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from encoders.stages.base import ClipError

logger = logging.getLogger(__name__)
T = TypeVar("T")


def earlier_outcomes(folder: Path) -> Iterator[dict[str, Any]]:
    """The fields of `Outcome`, line by line."""
    return _read_lines(folder / "outcomes.jsonl", _outcome)


def earlier_contents(folder: Path) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(URI, hash, fields of `FileStamp`), line by line."""
    return _read_lines(folder / "contents.jsonl", _content)


def _outcome(line: dict[str, Any]) -> dict[str, Any]:
    names = ("clip_key", "clip_id", "video_uri", "row_digest")
    fields: dict[str, Any] = {name: _value(line, name, str) for name in names}
    error = {name: _value(line, name, str) for name in ("stage", "reason", "detail")}
    is_dead = _value(line, "status", str) == "dead"
    return fields | {"error": ClipError(**error) if is_dead else None}


def _content(line: dict[str, Any]) -> tuple[str, str, dict[str, Any]]:
    stamp = {name: _value(line, name, int) for name in ("size_bytes", "mtime_ns")}
    stamp["version"] = _value({"version": "", **line}, "version", str)
    return _value(line, "uri", str), _value(line, "content_hash", str), stamp


def _value(line: dict[str, Any], name: str, kind: type) -> Any:
    if not isinstance(line[name], kind):
        raise ValueError(f"{name} is {line[name]!r}; it must be {kind.__name__}")
    return line[name]


def _read_lines(path: Path, parse: Callable[[dict[str, Any]], T]) -> Iterator[T]:
    if not path.exists():
        return
    problems: list[str] = []
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip() or not line.endswith(b"\n"):  # an end that was never finished
                continue
            try:
                parsed = parse(json.loads(line))
            except (ValueError, TypeError, KeyError, RecursionError) as error:
                problems.append(f"line {number} ({type(error).__name__}: {str(error)[:80]})")
            else:
                yield parsed
    if problems:
        more = f" and {len(problems) - 1} more" if len(problems) > 1 else ""
        logger.warning(
            "%s: %s%s damaged; passed over, `tfcovr index` writes anew what Milvus and the videos tell",
            path,
            problems[0],
            f"{more} are" if more else " is",
        )
