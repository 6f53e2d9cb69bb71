"""tfcovr split: long videos to a table of clips."""

import sys
from collections.abc import Sequence

import tyro
from rich.console import Console

from indexing.clipping.split_videos import SplitConfig, split_videos

_EXAMPLES = """examples:
  tfcovr split --videos broadcasts/ --out clips.parquet                          # windows of 4 s
  tfcovr split --videos broadcasts/ --out clips.parquet --length-s 4 --every-s 2     # that overlap by half
  tfcovr split --videos 's3://bucket/**/*.mp4' --out clips.parquet --by shots --length-s 8
  tfcovr index --bundle-dir BUNDLE --clips clips.parquet --milvus-uri runs/milvus --run-dir runs/index
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Cut, and say how many clips there are; progress goes to stderr."""
    config = tyro.cli(
        SplitConfig,
        args=argv,
        prog="tfcovr split",
        description=f"{SplitConfig.__doc__}\n\n{_EXAMPLES}",
        config=(tyro.conf.OmitArgPrefixes,),
    )
    summary = split_videos(config, console=Console(stderr=True))
    sys.stdout.write(
        f"{config.out}: {summary.num_clips} clips of {summary.num_videos - len(summary.problems)} videos, "
        f"{summary.num_cut_now} of them cut now\n"
    )
    if summary.problems:
        path = config.out.with_suffix(".problems.txt")
        sys.stdout.write(f"  {len(summary.problems)} videos cannot be cut: see {path}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
