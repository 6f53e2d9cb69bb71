"""Checks of the options of a command before it starts: numbers, inputs that must be there, outputs that no other option names."""

import glob
import math
import re
import tempfile
from contextlib import suppress
from dataclasses import fields, is_dataclass
from pathlib import Path

_EXPECTED = {
    "bundle": "a bundle: a folder with card.json, which training writes",
    "other_bundle": "a bundle: a folder with card.json, which training writes",
    "clips": "a Parquet file of clips (columns clip_id, video_uri, start_s, end_s), "
    "which `tfcovr import-annotations` and `tfcovr split` write",
    "triplets": "a Parquet file of triplets, which `tfcovr triplets` writes",
    "vectors": "a Parquet file of vectors, which `tfcovr vectors` writes",
    "stage2": "the run folder of a stage 2 training",
}
_MILVUS_NAME = re.compile("[A-Za-z_][A-Za-z0-9_]{0,254}")
_OUTPUTS = ("out", "gallery", "sheet", "export", "reel", "to", "save")


def require_numbers(config: object, *, within: str = "") -> None:
    """ValueError for NaN, which is neither below nor above any limit and so passes most checks of one, and for what 64 bits do not hold."""
    for field in fields(config) if is_dataclass(config) else ():
        value, name = getattr(config, field.name), f"{within}{field.name.replace('_', '-')}"
        for number in value if isinstance(value, (list, tuple)) else (value,):
            if isinstance(number, float) and math.isnan(number):
                raise ValueError(f"--{name} is nan; it must be a number")
            if isinstance(number, int) and not -(2**63) <= number < 2**63:
                raise ValueError(f"--{name} is {number}; it must fit into 64 bits")
        require_numbers(value, within=f"{name}.")


def require_milvus_name(option: str, name: str) -> None:
    """ValueError for what Milvus takes for no name of a collection or an alias."""
    if not _MILVUS_NAME.fullmatch(name):
        raise ValueError(
            f"--{option} is {name!r}; it must begin with a letter or underscore and hold letters, digits and underscores, at most 255"
        )


def require_inputs(config: object) -> None:
    """ValueError for a path to read that does not exist, before a command imports torch, Ray or Milvus."""
    for name, expected in _EXPECTED.items():
        value = getattr(config, name, None)
        if not isinstance(value, (str, Path)) or not str(value):
            continue
        is_local_path = "://" not in str(value) and not glob.has_magic(str(value))
        if is_local_path and not Path(value).exists():
            option = name.replace("_", "-")
            raise ValueError(
                f"--{option} is {str(value)!r}, which does not exist; expected {expected}"
            )


def require_own_outputs(config: object) -> None:
    """ValueError for a file to write that another option names too: it would replace what is read."""
    named = [
        (field.name, text)
        for field in (fields(config) if is_dataclass(config) else ())
        for text in _texts(getattr(config, field.name))
    ]
    for number, (output, path) in enumerate(named):
        for other, (name, text) in enumerate(named):
            is_other = output in _OUTPUTS and other != number
            # A query clip is FILE@START-END.
            if is_other and any(
                _is_one_file(path, part) for part in (text, text.rpartition("@")[0])
            ):
                raise ValueError(
                    f"--{output} is {path!r}, the file that {name.replace('_', '-')} names too; give another one"
                )


def _texts(value: object) -> list[str]:
    values = value if isinstance(value, (list, tuple)) else [value]
    return [str(v) for v in values if isinstance(v, (str, Path))]


def _is_one_file(path: str, other: str) -> bool:
    with suppress(OSError, ValueError):  # no file, or no name of one
        return Path(path).is_file() and Path(other).samefile(path)
    return False


def require_folder(option: str, path: Path | None) -> None:
    """Make the folder of an option that is written to; ValueError where that is not possible."""
    try:
        if path is not None:
            path.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=path):
                pass
    except OSError as error:
        raise ValueError(
            f"{option} is {str(path)!r}, no folder that can be written to: {error.strerror}"
        ) from None
