"""tfcovr index: embed an archive into Milvus."""

import sys

from indexing.pipeline.config import IndexConfig as Config

EXAMPLES = """
  tfcovr index --bundle runs/demo/stage2/bundle --clips runs/demo/archive/clips.parquet \\
      --milvus-uri runs/demo/milvus --run-dir runs/demo/index
  tfcovr index --bundle BUNDLE --clips 'videos/**/*.mp4' --milvus-uri http://HOST:19530 \\
      --collection dives --run-dir runs/dives
  tfcovr index --bundle BUNDLE --clips /videos/cam2 --milvus-uri http://HOST:19530 \\
      --collection dives --run-dir runs/cam2 --archive cam2
  tfcovr index ... --since 36h
  tfcovr index ... --dry-run --price-per-node-h 1.2 --forecast.nodes 8 --forecast.cpus 16
"""


def run(config: Config) -> int:
    """Index and print the summary; progress goes to stderr. Status 1 where clips have no vector, dead or missing, or rows are stale."""
    from rich.console import Console

    from indexing.pipeline.dry_run import dry_run
    from indexing.pipeline.index_archive import index_archive

    console = Console(stderr=True)
    if config.dry_run:
        sys.stdout.write("\n".join(dry_run(config, console=console).lines()) + "\n")
        return 0
    summary = index_archive(config, console=console)
    sys.stdout.write("\n".join(summary.lines()) + "\n")
    return summary.status
