"""tfcovr vectors: clip vectors of a bundle to a table, for stage 2 and evaluation."""

import sys

from training.vectors.compute import VectorsConfig as Config
from training.vectors.compute import compute_vectors

EXAMPLES = """
  tfcovr vectors --clips clips.parquet --bundle runs/stage1/bundle --out vectors.parquet
"""


def run(config: Config) -> int:
    """Compute what is missing, and say how many vectors there are."""
    from training.trainer.session import connected

    with connected(config.launch, config.out.parent):
        summary = compute_vectors(config)
    sys.stdout.write(
        f"{config.out}: {summary.num_vectors} vectors of {summary.num_clips} clips, "
        f"{summary.num_dead} dead, {summary.num_computed} computed now\n"
    )
    return 0
