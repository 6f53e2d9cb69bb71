"""Strict readers of text files and CSV rows; errors name file, line, column and value."""

import ast
import csv
import json
import re
import reprlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

_MAX_FIELD_CHARS = 1 << 20
_MAX_LITERAL_CHARS = 100_000
_MAX_LITERAL_BRACKETS = 20
_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class Row:
    """One row: its cells by column, and its position in the file (line 1 is the header)."""

    path: Path
    line: int
    cells: dict[str, str]

    def error(self, column: str, allowed: str) -> ValueError:
        """An error with file, line, column, value, and the allowed values."""
        value = reprlib.repr(self.cells.get(column))
        return ValueError(
            f"{self.path}: line {self.line}: {column} is {value}; it must be {allowed}"
        )

    def text(self, column: str) -> str:
        """The stripped text of a cell that must not be empty."""
        value = self.cells[column].strip()
        if not value:
            raise self.error(column, "a non-empty text")
        return value

    def name(self, column: str) -> str:
        """A video name that is not a path, so that no row leads out of the video folder."""
        value = self.text(column)
        if value in (".", "..") or any(char in value for char in "/\\\0"):
            raise self.error(column, "a name without '/', '\\' and null characters")
        return value

    def parsed(self, column: str, parse: Callable[[str], _Value], allowed: str) -> _Value:
        """The cell parsed by `parse`; its ValueError is reported with the position."""
        try:
            return parse(self.text(column))
        except ValueError as error:
            raise self.error(column, f"{allowed} ({error})") from error


def read_csv_rows(
    path: Path, required: Sequence[str], problems: "Problems", *, delimiters: str = ","
) -> Iterator[Row]:
    """The rows of a CSV with a header that has the required columns; other columns are included, without a name they are not.

    Cells are parted by the one of `delimiters` that the header has most of.
    A row that cannot be read costs itself, and a row without any cell filled is none.
    """
    old_limit = csv.field_size_limit(_MAX_FIELD_CHARS)
    try:
        # Bytes that are not UTF-8 come as surrogates, so that they cost their row and not the file.
        with path.open(encoding="utf-8-sig", newline="", errors="surrogateescape") as file:
            first = file.readline()
            file.seek(0)
            delimiter = max(delimiters, key=first.count)
            reader = csv.reader(file, strict=True, delimiter=delimiter)
            header = _header(path, reader, required)
            while True:
                try:
                    values = next(reader)
                except StopIteration:
                    return
                except csv.Error as error:
                    with problems.of_row():
                        raise ValueError(
                            f"{path}: line {reader.line_num}: not CSV: {error}"
                        ) from error
                    continue
                if not any(value.strip() for value in values):
                    continue
                line, row = reader.line_num, None
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


def _header(path: Path, reader: Any, required: Sequence[str]) -> list[str]:
    try:
        header = [name.strip() for name in next(reader, [])]
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


def read_json(path: Path) -> Any:
    """A JSON file, without NaN and infinity; ValueError names the file."""

    def refuse(text: str) -> Any:
        raise ValueError(f"{text} is not JSON")

    try:
        return json.loads(path.read_text(encoding="utf-8-sig"), parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not JSON: {error}") from error


_PLAIN_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")


def plain_number(text: str) -> float:
    """A decimal number; ValueError for what only Python takes for one, such as 1_0 or digits of other scripts."""
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

    @contextmanager
    def of_row(self) -> Iterator[None]:
        """Context around the reading of one row."""
        try:
            yield
        except ValueError as error:
            if not self.skip_bad:
                raise ValueError(f"{error} (--skip-bad leaves bad rows out)") from error
            self.messages.append(str(error))
