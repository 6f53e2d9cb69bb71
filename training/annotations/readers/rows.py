"""Strict readers of text files and CSV rows; errors name file, line, column and value."""

import ast
import csv
import json
import re
import reprlib
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

SPLITS = ("train", "val", "test")
_MAX_FIELD_CHARS = 1 << 20
_MAX_LITERAL_CHARS = 100_000
_MAX_LITERAL_BRACKETS = 20
_MAX_DIGITS = 18
_SPLITS = {
    **{name: name for name in SPLITS},
    "training": "train",
    "testing": "test",
    **dict.fromkeys(("validation", "valid", "dev"), "val"),
}
_SEPARATOR_LINE = re.compile(r"\s*sep=(.)\s*", re.IGNORECASE)
_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class Row:
    """One row: its cells by column, and its position in the file (line 1 is the header)."""

    path: Path
    line: int
    cells: dict[str, str]
    unit: str = "line"
    """What `line` counts: lines of a text file, or rows of a table without lines."""

    @property
    def where(self) -> str:
        """The position, for messages."""
        return f"{self.path}: {self.unit} {self.line}"

    def error(self, column: str, allowed: str) -> ValueError:
        """An error with file, line, column, value, and the allowed values."""
        value = reprlib.repr(self.cells.get(column))
        return ValueError(f"{self.where}: {column} is {value}; it must be {allowed}")

    def text(self, column: str) -> str:
        """The stripped text of a cell that must not be empty."""
        value = self.cells[column].strip()
        if not value:
            raise self.error(column, "a non-empty text")
        return value

    def name(self, column: str) -> str:
        """A video name that is not a path, so that no row leads out of the video folder."""
        value = self.text(column)
        if not is_name(value):
            raise self.error(column, "a name without '/', '\\' and null characters")
        return value

    def parsed(self, column: str, parse: Callable[[str], _Value], allowed: str) -> _Value:
        """The cell parsed by `parse`; its ValueError is reported with the position."""
        try:
            return parse(self.text(column))
        except ValueError as error:
            raise self.error(column, f"{allowed} ({error})") from error


def split_name(text: str) -> str | None:
    """A split as tables name it: train, val or test where that is meant; None for an empty cell."""
    plain = text.strip()
    return _SPLITS.get(plain.lower(), plain) or None


class MadeUpIds:
    """Ids of clips whose labels give none, from video and span: what comes before or after a clip does not rename it."""

    def __init__(self) -> None:
        self._taken = Counter[str]()

    def make(self, video: str, start_s: float, end_s: float | None) -> str:
        """VIDEO of a whole video, else VIDEO@START-END in seconds; with #2, #3 where a span is named again."""
        end = "end" if end_s is None else f"{end_s:.3f}"
        clip_id = video if not start_s and end_s is None else f"{video}@{start_s:.3f}-{end}"
        self._taken[clip_id] += 1
        times = self._taken[clip_id]
        return clip_id if times == 1 else f"{clip_id}#{times}"


def is_name(text: str) -> bool:
    """Whether a text is the name of something in a folder, and leads nowhere else."""
    return text not in ("", ".", "..") and not any(char in text for char in "/\\\0")


class _Lines:
    """The lines of a file, of which those of a record that cannot be read may be given again."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines = iter(lines)
        self._again: deque[str] = deque()
        self._record: list[str] = []
        self.number = 0
        """Of the last line that was given."""

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else next(self._lines)
        self._record.append(line)
        self.number += 1
        return line

    def end_record(self, *, is_good: bool) -> int:
        """The next line begins a record: that behind the last one, or behind the first one of a bad record, whose number is returned."""
        rest = [] if is_good else self._record[1:]
        self._again.extendleft(reversed(rest))
        self.number -= len(rest)
        self._record = []
        return self.number


def read_csv_rows(
    path: Path, required: Sequence[str], problems: "Problems", *, delimiters: str = ","
) -> Iterator[Row]:
    """The rows of a CSV with a header that has the required columns; other columns are included, without a name they are not.

    Cells are parted by the one of `delimiters` that the header has most of, or that a line `sep=` above it names. A row that cannot be
    read costs itself, also where its quote is never closed; a row without any cell filled is none.
    """
    old_limit = csv.field_size_limit(_MAX_FIELD_CHARS)
    try:
        # Bytes that are not UTF-8 come as surrogates, so that they cost their row and not the file.
        with path.open(encoding="utf-8-sig", newline="", errors="surrogateescape") as file:
            first = next((line for line in file if line.strip()), "")
            file.seek(0)
            delimiter = max(delimiters, key=first.count)
            lines = _Lines(file)
            if named := _SEPARATOR_LINE.fullmatch(first):  # as Excel writes it
                delimiter = named[1]
                while next(lines) != first:
                    pass
            reader = csv.reader(lines, strict=True, delimiter=delimiter)
            header = _header(path, reader, required, problems)
            while True:
                lines.end_record(is_good=True)
                try:
                    values = next(reader)
                except StopIteration:
                    return
                except csv.Error as error:
                    number = lines.end_record(is_good=False)
                    with problems.of_row():
                        raise ValueError(f"{path}: line {number}: not CSV: {error}") from error
                    reader = csv.reader(lines, strict=True, delimiter=delimiter)
                    continue
                if not any(value.strip() for value in values):
                    continue
                line, row = lines.number, None
                with problems.of_row():
                    row = Row(path, line, _cells(path, line, header, values))
                if row is not None:
                    yield row
    finally:
        csv.field_size_limit(old_limit)


def _cells(path: Path, line: int, header: Sequence[str], values: list[str]) -> dict[str, str]:
    if len(values) < len(header) or any(value.strip() for value in values[len(header) :]):
        raise ValueError(
            f"{path}: line {line}: {len(values)} columns; the header has {len(header)}: {list(header)}"
        )
    _require_utf8(path, line, "".join(values))
    return {name: value for name, value in zip(header, values, strict=False) if name}


def _require_utf8(path: Path, line: int, text: str) -> None:
    if any(0xDC80 <= ord(char) <= 0xDCFF for char in text):
        raise ValueError(f"{path}: line {line}: not UTF-8; save the table as CSV in UTF-8")


def _header(path: Path, reader: Any, required: Sequence[str], problems: "Problems") -> list[str]:
    try:
        rows = ([name.strip() for name in names] for names in reader)
        header = next((names for names in rows if any(names)), [])
    except csv.Error as error:
        raise ValueError(f"{path}: line 1: not CSV: {error}") from error
    if not header:
        raise ValueError(f"{path}: line 1: the file is empty; it must begin with a header")
    _require_utf8(path, 1, "".join(header))
    missing = [name for name in required if name not in header]
    if missing:
        raise ValueError(f"{path}: line 1: column {missing[0]!r} is missing; found {header}")
    twice = sorted({name for name in header if name and header.count(name) > 1})
    if twice:
        raise ValueError(f"{path}: line 1: column {twice[0]!r} occurs twice")
    if "" in header:
        problems.note(f"{path}: a column without a name was passed over")
    return header


def read_lines(path: Path, problems: "Problems") -> Iterator[tuple[int, str]]:
    """(line number from 1, text) of the lines that are not blank."""
    with path.open(encoding="utf-8-sig", errors="surrogateescape") as file:
        for number, line in enumerate(file, 1):
            text = ""
            with problems.of_row():
                _require_utf8(path, number, line)
                text = line.strip()
            if text:
                yield number, text


def read_json(path: Path, problems: "Problems") -> Any:
    """A JSON file; ValueError names the file.

    A number that is none (NaN) or too large for any span or index is read as NaN or infinity, which costs the element that has it; of
    a key that an object has twice the first one counts.
    """

    def whole(text: str) -> int | float:
        return int(text) if len(text) <= _MAX_DIGITS else float(text)

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key, value in pairs:
            with problems.of_row():
                if key in values:
                    raise ValueError(f"{path}: the key {key!r} occurs twice in one JSON object")
            values.setdefault(key, value)
        return values

    try:
        text = path.read_text(encoding="utf-8-sig")
        return json.loads(text, object_pairs_hook=unique, parse_int=whole)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{path}: line {error.lineno}, column {error.colno}: not JSON: {error.msg}"
        ) from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: byte {error.start}: not UTF-8: {error.reason}") from error
    except RecursionError as error:
        raise ValueError(f"{path}: JSON is nested too deeply") from error


def json_list(value: Any, where: str, name: str) -> list[Any]:
    """A list of a JSON object, empty where it is missing or null; ValueError for anything else."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise ValueError(f"{where}: {name} is {reprlib.repr(value)}; it must be a list")
    return value


def json_object(value: Any, where: str, name: str) -> dict[str, Any]:
    """An object of a JSON object, empty where it is missing or null; ValueError for anything else."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ValueError(f"{where}: {name} is {reprlib.repr(value)}; it must be an object")
    return value


_PLAIN_NUMBER = re.compile(r"-?(\d+(\.\d*)?|\.\d+)")


def plain_number(text: str) -> float:
    """A decimal number; ValueError for what only Python takes for one, such as 1_0, 1e1 or digits of other scripts."""
    if not (text.isascii() and _PLAIN_NUMBER.fullmatch(text)):
        raise ValueError(f"{text!r} is not a plain decimal number")
    return float(text)


def parse_literal(text: str) -> object:
    """The value of a Python literal (dict, list, text, number); nothing is evaluated; ValueError for anything else."""
    if len(text) > _MAX_LITERAL_CHARS:
        raise ValueError(f"{len(text)} characters; at most {_MAX_LITERAL_CHARS} are read")
    if (
        max(text.count("["), text.count("{"), text.count("(")) > _MAX_LITERAL_BRACKETS
        and _depth(text) > _MAX_LITERAL_BRACKETS
    ):
        raise ValueError(f"more than {_MAX_LITERAL_BRACKETS} nested brackets")
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError) as error:
        raise ValueError(f"not a Python literal: {type(error).__name__}") from error


def _depth(text: str) -> int:
    """Bracket depth, including brackets inside strings: an upper bound that needs no parser."""
    depth = deepest = 0
    for char in text:
        if char in "([{":
            depth += 1
            deepest = max(deepest, depth)
        elif char in ")]}":
            depth -= 1
    return deepest


@dataclass(slots=True)
class Problems:
    """Bad rows: the first one raises, or with `skip_bad` all are listed and left out."""

    skip_bad: bool = False
    messages: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What was passed over and is no error."""
    _told: set[str] = field(default_factory=set)

    def note(self, text: str, *, of: str = "") -> None:
        """Say something once; of what is `of` one kind, the first."""
        if (of or text) not in self._told:
            self._told.add(of or text)
            self.notes.append(text)

    @contextmanager
    def of_row(self) -> Iterator[None]:
        """Context around the reading of one row."""
        try:
            yield
        except ValueError as error:
            if not self.skip_bad:
                raise ValueError(f"{error} (--skip-bad leaves bad rows out)") from error
            self.messages.append(str(error))
