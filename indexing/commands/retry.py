"""tfcovr retry: decode and embed dead letters again, by reason."""

import sys
from dataclasses import dataclass
from pathlib import Path

EXAMPLES = """
  tfcovr retry --run-dir runs/dives --reason fetch_failed decode_timeout
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """Decode and embed dead letters again, with the settings of the run that made them."""

    run_dir: Path
    """Run folder of the indexing."""
    reason: tuple[str, ...] = ("all",)
    """Reasons as the summary counts them, such as fetch_failed decode_timeout."""
    decode_deadline_s: float | None = None
    """Another deadline for a video than the run had."""
    clips: str = ""
    """Where the run's clips are now, such as a fresh signed URI: a run folder keeps no secrets. "" = as the run had it."""
    milvus_uri: str = ""
    """Where Milvus is now, with its user and password unless MILVUS_TOKEN has them. "" = as the run had it."""


def run(config: Config) -> int:
    """Runs the archive again, clips that are in stay as they are, and prints its summary; status as that of `tfcovr index`."""
    from dataclasses import replace

    from rich.console import Console

    from indexing.ledger.ledger import checked_reasons
    from indexing.pipeline.config import read_config
    from indexing.pipeline.index_archive import index_archive

    reasons = checked_reasons(config.reason)
    earlier = read_config(config.run_dir)
    again = replace(
        earlier,
        retry=reasons,
        decode_deadline_s=config.decode_deadline_s or earlier.decode_deadline_s,
        clips=config.clips or earlier.clips,
        moved=bool(config.clips),
        milvus_uri=config.milvus_uri or earlier.milvus_uri,
    )
    summary = index_archive(again, console=Console(stderr=True))
    sys.stdout.write("\n".join(summary.lines()) + "\n")
    return summary.status
