"""Checks of what a bundle's files hold: every tampering ends in one error that names the file."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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
