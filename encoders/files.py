"""Files: Parquet tables, dataclasses from JSON, atomic writes and hashes; errors name the file or the field."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq

T = TypeVar("T")
_MAX_SHOWN = 80


def read_table(path: str | Path, columns: Sequence[str] | None = None) -> pa.Table:
    """All columns, or these in this order. ValueError for a file that is not Parquet, is truncated or lacks a column; OSError where there is none."""
    with open_table(path, columns or ()) as file:
        return file.read(columns=list(columns) if columns is not None else None)


@contextmanager
def open_table(path: str | Path, columns: Sequence[str] = ()) -> Iterator[pq.ParquetFile]:
    """A Parquet file with these columns, to be read while the block runs; errors as those of `read_table`."""
    try:
        # Read ahead, the bytes of all row groups would stay in memory until the last one is read.
        with pq.ParquetFile(path, pre_buffer=False) as file:
            stored_columns = file.schema_arrow.names
            for name in columns:
                if name not in stored_columns:
                    raise ValueError(f"{path}: column {name!r} is missing; it has {stored_columns}")
            twice = sorted({name for name in stored_columns if stored_columns.count(name) > 1})
            if twice:
                raise ValueError(f"{path}: column {twice[0]!r} occurs twice")
            yield file
    except FileNotFoundError as error:  # pyarrow's names neither the file nor what it should be
        wanted = f" with columns {', '.join(columns)}" if columns else ""
        raise FileNotFoundError(
            f"{path} does not exist; expected a Parquet file{wanted}"
        ) from error
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # the system's, not pyarrow's
            raise
        raise ValueError(
            f"{path} is not a Parquet file, or is truncated or damaged: {error}"
        ) from error


def is_file(path: str | Path) -> bool:
    """Whether there is such a file: False for what is longer than a name can be, or lies in a folder that may not be read."""
    try:
        return Path(path).is_file()
    except OSError:
        return False


def parse_json(text: str | bytes) -> Any:
    """Of any depth: ValueError where Python's parser would end in a RecursionError."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def read_json(path: str | Path, kind: type[T] = dict) -> T:
    """What a file holds, an object unless `kind` is another type. ValueError names a file that is damaged; OSError where there is none."""
    try:
        value = parse_json(Path(path).read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is damaged: it is not JSON ({error})") from error
    if not isinstance(value, kind):
        raise ValueError(
            f"{path} is damaged: it holds a {type(value).__name__}, no {kind.__name__}"
        )
    return value


def hash_file(path: Path) -> str:
    """sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary file beside `path`; after a success it is synced and renamed to `path`, else removed."""
    temporary = path.with_name(f".{path.name}.{uuid4().hex[:8]}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(
                file.fileno()
            )  # else the name could survive a crash of the machine, and the content not
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def from_dict(kind: type[T], values: Any, name: str, *, is_complete: bool = False) -> T:
    """A dataclass from what JSON has of it (the inverse of `asdict`), with all dataclasses within it.

    ValueError for an unknown or missing key and for a value of another type, with `name` and the field. `is_complete` also misses
    keys whose field has a default.
    """
    known = {field.name: field for field in fields(kind)}  # pyright: ignore[reportArgumentType]
    if not isinstance(values, Mapping):
        raise ValueError(f"{name} is {_shown(values)}; it must be an object with {sorted(known)}")
    required = {
        key
        for key, field in known.items()
        if is_complete or (field.default is MISSING and field.default_factory is MISSING)
    }
    if (unknown := sorted(set(values) - set(known))) or not required <= set(values):
        missing = sorted(required - set(values))
        raise ValueError(f"{name} has unknown keys {unknown} and lacks {missing}")
    hints = _type_hints(kind)
    given = {key: read_value(hints[key], value, f"{name}.{key}") for key, value in values.items()}
    try:
        return kind(**given)
    except ValueError as error:  # of values that the class does not take
        raise ValueError(f"{name}: {error}") from error


@cache
def _type_hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def read_value(hint: Any, value: Any, name: str) -> Any:
    """A value of a type annotation from what JSON has of it; see `from_dict`."""
    if get_origin(hint) in (Union, UnionType):
        return _read_union(get_args(hint), value, name)
    if get_origin(hint) is Literal:
        options = get_args(hint)
        if any(value == option and type(value) is type(option) for option in options):
            return value
        allowed = ", ".join(map(repr, options))
        raise ValueError(f"{name} is {_shown(value)}; it must be one of {allowed}")
    if is_dataclass(hint):
        return from_dict(hint, value, name)  # pyright: ignore[reportArgumentType]
    if get_origin(hint) in (tuple, Mapping):
        return _read_items(hint, value, name)
    if hint is Path and isinstance(value, str):
        return Path(value)
    if hint is Any or (hint in (int, float, str, bool) and _is_scalar(value, hint)):
        return value
    raise _wrong_type(hint, value, name)


def _read_items(hint: Any, value: Any, name: str) -> Any:
    arguments = get_args(hint)
    if get_origin(hint) is Mapping:
        if not isinstance(value, Mapping):
            raise _wrong_type(hint, value, name)
        key_hint, item_hint = arguments
        return {
            read_value(key_hint, key, name): read_value(item_hint, item, f"{name}.{key}")
            for key, item in value.items()
        }
    hints = arguments
    if isinstance(value, (list, tuple)) and arguments[-1] is ...:
        hints = arguments[:1] * len(value)
    if not isinstance(value, (list, tuple)) or len(hints) != len(value):
        raise _wrong_type(hint, value, name)
    return tuple(
        read_value(item_hint, item, f"{name}[{i}]")
        for i, (item_hint, item) in enumerate(zip(hints, value, strict=True))
    )


def _read_union(options: Sequence[Any], value: Any, name: str) -> Any:
    """The option that fits. Dataclasses that have a field `kind` are told apart by it."""
    if value is None and NoneType in options:
        return None
    options = [option for option in options if option is not NoneType]
    if len(options) > 1 and all(is_dataclass(option) for option in options):
        kinds = {_kind_of(option): option for option in options}
        kind = value.get("kind") if isinstance(value, Mapping) else None
        if not isinstance(kind, str) or kind not in kinds:
            allowed = ", ".join(map(repr, sorted(kinds)))
            raise ValueError(f"{name} has the kind {_shown(kind)}; it must be one of {allowed}")
        return read_value(kinds[kind], value, name)
    for option in options[:-1]:
        try:
            return read_value(option, value, name)
        except ValueError:
            continue
    return read_value(options[-1], value, name)


def _kind_of(option: Any) -> Any:
    return next(field.default for field in fields(option) if field.name == "kind")


def _is_scalar(value: Any, hint: type) -> bool:
    if isinstance(value, bool):
        return hint is bool
    return isinstance(value, (int, float) if hint is float else hint)


def _wrong_type(hint: Any, value: Any, name: str) -> ValueError:
    shown = hint.__name__ if isinstance(hint, type) and not get_args(hint) else str(hint)
    return ValueError(f"{name} is {_shown(value)}; it must be of type {shown}")


def _shown(value: Any) -> str:
    return repr(value)[:_MAX_SHOWN]
