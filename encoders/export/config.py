"""Options of an export; without torch, so that `tfcovr export --help` is quick."""

from dataclasses import dataclass
from pathlib import Path

MIN_COSINE = 0.9999
NUM_CLIPS = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportConfig:
    """Add ONNX files and canaries to a bundle."""

    bundle: Path
    """The bundle that gets the files."""
    clips: Path | None = None
    """Check on clips of this clips.parquet; none = on drawn clips."""
    num_clips: int = NUM_CLIPS
    """Clips to check on."""
    min_cosine: float = MIN_COSINE
    """Nothing is added when any vector's cosine with torch's is lower."""
    again: bool = False
    """Export also where the bundle has its files already."""

    def __post_init__(self) -> None:
        if self.num_clips < 1:
            raise ValueError(f"num_clips is {self.num_clips}; it must be at least 1")
        if not 0 < self.min_cosine <= 1:
            raise ValueError(f"min_cosine is {self.min_cosine}; it must lie in (0, 1]")
