"""The interface of a label format: its options, its `read` function and an example of its command.

A new format is one module with a `READER`, and one line in `import_clips.READERS`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from encoders.clips import Clip
from training.annotations.readers.rows import Problems
from training.annotations.triplets.table import Triplet


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportOptions:
    """Options that every label format has; the config of a format derives from it."""

    out: Path
    """The clips.parquet to write."""
    skip_bad: bool = False
    """Leave bad rows out and list them, instead of stopping at the first one."""
    only_present: bool = False
    """Leave out clips whose video is missing; missing videos are listed in either case."""


@dataclass(kw_only=True, slots=True)
class ReadLabels:
    """Everything that a reader took from the label files."""

    clips: list[Clip]
    missing: Mapping[str, list[str]]
    """Name or path of a missing video -> ids of the clips that need it."""
    triplets: list[Triplet] = field(default_factory=list)
    num_in_several_splits: int = 0
    num_packed: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelReader:
    """One label format. `read` takes the options, an instance of `config`, and where to report bad rows."""

    config: type[ImportOptions]
    read: Callable[[Any, Problems], ReadLabels]
    example: str
    """The arguments of an example command after `tfcovr import-annotations NAME`."""
