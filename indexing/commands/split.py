"""tfcovr split: long videos to a table of clips."""

import sys

from indexing.clipping.split_videos import SplitConfig as Config
from indexing.clipping.split_videos import split_videos

EXAMPLES = """
  tfcovr split --videos broadcasts/ --out clips.parquet                          # windows of 4 s
  tfcovr split --videos broadcasts/ --out clips.parquet --length-s 4 --every-s 2     # that overlap by half
  tfcovr split --videos 's3://bucket/**/*.mp4' --out clips.parquet --by shots --length-s 8
  tfcovr split --videos broadcasts/ --out clips.parquet --by moments --bundle BUNDLE
  tfcovr index --bundle BUNDLE --clips clips.parquet --milvus-uri runs/milvus --run-dir runs/index
"""


def run(config: Config) -> int:
    """Cut, and say how many clips there are; progress goes to stderr. Status 1 where videos were left out."""
    from rich.console import Console

    summary = split_videos(config, console=Console(stderr=True))
    sys.stdout.write(
        f"{config.out}: {summary.num_clips} clips of {summary.num_videos - len(summary.problems)} videos, "
        f"{summary.num_cut_now} of them cut now\n"
    )
    if summary.problems:
        path = config.out.with_suffix(".problems.txt")
        sys.stdout.write(f"  {len(summary.problems)} videos cannot be cut: see {path}\n")
    return 1 if summary.problems else 0
