"""Try dead letters again, by reason: those that a new codec, a mended network or a longer deadline can bring back."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from inspect import getdoc
from pathlib import Path

import tyro
from rich.console import Console

from indexing.ledger.outcomes import ALL_REASONS, checked_reasons
from indexing.ledger.summary import IndexSummary
from indexing.pipeline.config import read_config
from indexing.pipeline.index_archive import index_archive


@dataclass(frozen=True, kw_only=True, slots=True)
class RetryConfig:
    """Decode and embed dead letters again, with the settings of the run that made them.

    Example: tfcovr retry --run-dir runs/dives --reason fetch_failed decode_timeout
    """

    run_dir: Path
    """Run folder of the indexing."""
    reason: tuple[str, ...] = (ALL_REASONS,)
    """Reasons as the summary counts them, such as fetch_failed decode_timeout."""
    decode_deadline_s: float | None = None
    """Another deadline for a video than the run had."""
    clips: str = ""
    """Where the run's clips are now, such as a fresh signed URI: a run folder keeps no secrets. "" = as the run had it."""
    milvus_uri: str = ""
    """Where Milvus is now, with its user and password unless MILVUS_TOKEN has them. "" = as the run had it."""


def retry_dead_letters(config: RetryConfig, *, console: Console | None = None) -> IndexSummary:
    """Runs the archive again; clips that are in stay as they are."""
    reasons = checked_reasons(config.reason)
    earlier = read_config(config.run_dir)
    again = replace(
        earlier,
        retry=reasons,
        decode_deadline_s=config.decode_deadline_s or earlier.decode_deadline_s,
        clips=config.clips or earlier.clips,
        milvus_uri=config.milvus_uri or earlier.milvus_uri,
    )
    return index_archive(again, console=console)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the summary of the run; status as that of `tfcovr index`."""
    config = tyro.cli(RetryConfig, args=argv, prog="tfcovr retry", description=getdoc(RetryConfig))
    summary = retry_dead_letters(config, console=Console(stderr=True))
    sys.stdout.write("\n".join(summary.lines()) + "\n")
    return 1 if summary.missing else 0


if __name__ == "__main__":
    raise SystemExit(main())
