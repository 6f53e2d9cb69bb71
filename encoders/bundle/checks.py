"""Checks of what a bundle's files hold: every tampering ends in one error that names the file."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

_MAX_DETAIL = 300


class BundleMismatchError(ValueError):
    """A bundle is not what its card says."""


@contextmanager
def naming_file(path: Path) -> Iterator[None]:
    """Raise whatever a library says of a file's content as a BundleMismatchError with the path.

    The libraries behind a bundle have no error in common: safetensors, ONNX Runtime, tokenizers and protobuf raise their own,
    transformers those of Python.
    """
    try:
        yield
    except (BundleMismatchError, ImportError, MemoryError):
        raise
    except BaseException as error:
        is_panic = type(error).__module__ == "pyo3_runtime"  # how a library in Rust crashes
        if not isinstance(error, Exception) and not is_panic:
            raise
        detail = (str(error).strip().splitlines() or [""])[0][:_MAX_DETAIL]
        raise BundleMismatchError(
            f"{path} does not fit what the card describes: {type(error).__name__}: {detail}"
        ) from error


def check_fields(config: Any, name: str) -> None:
    """ValueError for a field of a dataclass, or of one within it, whose value has not the annotated type; lists pass as tuples."""
    for field, kind in get_type_hints(type(config)).items():
        value = getattr(config, field)
        if is_dataclass(value):
            check_fields(value, f"{name}.{field}")
        if not _has_type(value, kind):
            shown = kind.__name__ if isinstance(kind, type) else str(kind)
            raise ValueError(f"{name}.{field} is {str(value)[:80]!r}; it must be of type {shown}")


def _has_type(value: Any, kind: Any) -> bool:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return any(_has_type(value, option) for option in arguments)
    if origin is Literal:
        return value in arguments
    if origin is tuple:
        return isinstance(value, (tuple, list)) and _are_items(value, arguments)
    if origin is Mapping:
        return isinstance(value, Mapping) and _are_items(
            [part for item in value.items() for part in item], arguments * len(value)
        )
    if kind is Any:
        return True
    if isinstance(value, bool) and kind in (int, float):
        return False
    return isinstance(value, (int, float) if kind is float else kind)


def _are_items(values: Sequence[Any], kinds: Sequence[Any]) -> bool:
    if kinds and kinds[-1] is ...:
        kinds = [kinds[0]] * len(values)
    return len(values) == len(kinds) and all(map(_has_type, values, kinds))
