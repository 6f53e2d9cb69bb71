"""What one indexing run is told."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from indexing.resources import WorkerOptions


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexConfig:
    """Embed an archive into Milvus. Run the same command again after a kill: it goes on."""

    bundle_dir: Path
    """Bundle whose encoder makes the vectors."""
    clips: str
    """A clips.parquet, or a folder or glob of videos (one clip per file)."""
    milvus_uri: str
    """A folder (Milvus Lite) or http://HOST:19530."""
    run_dir: Path
    """Ledger, dead letters and summary; several nodes must share it."""
    collection: str = "clips"
    backend: Literal["onnx", "torch"] = "onnx"
    """What runs the encoder."""
    batch_size: int = 8
    """Clips that are embedded at once."""
    decode_deadline_s: float = 120.0
    """A video that takes longer becomes a dead letter (decode_timeout)."""
    workers: WorkerOptions = field(default_factory=WorkerOptions)
    retry_dead: bool = False
    """Try clips again that failed for good, with their content unchanged."""
    prune: bool = False
    """Delete rows of clips that the archive does not have any more."""

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size is {self.batch_size}; it must be at least 1")
