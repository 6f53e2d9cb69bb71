"""Options of an export; without torch, so that `tfcovr export --help` is quick."""

from dataclasses import dataclass
from pathlib import Path

MIN_COSINE = 0.9999
NUM_CLIPS = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportConfig:
    """Add ONNX files and canaries to a bundle."""

    bundle: Path
    """Folder of the bundle that the files are added to."""
    clips: Path | None = None
    """Parity is checked on clips of this clips.parquet; without it, on synthetic clips."""
    num_clips: int = NUM_CLIPS
    """Number of clips that parity is checked on."""
    min_cosine: float = MIN_COSINE
    """Lowest allowed cosine of any vector with that of torch; nothing is added below it."""
    again: bool = False
    """Export again where the bundle has its files already."""

    def __post_init__(self) -> None:
        if self.num_clips < 1:
            raise ValueError(f"num_clips is {self.num_clips}; it must be at least 1")
        if not 0 < self.min_cosine <= 1:
            raise ValueError(f"min_cosine is {self.min_cosine}; it must lie in (0, 1]")
