"""tfcovr moments: spans of long videos -> a head that finds such spans where nobody gave any."""

import sys
from pathlib import Path

from training.stage1.moment_settings import MomentTraining as Config

EXAMPLES = """
  tfcovr moments --bundle runs/stage2/bundle --clips clips.parquet
  tfcovr split --videos broadcasts/ --out moments.parquet --by moments --bundle runs/stage2/bundle
"""


def run(config: Config) -> int:
    """Train, put the head into the bundle, and say how well it does on the validation videos."""
    from training.stage1.moments import train_moment_head  # and torch

    scores = train_moment_head(config, show_progress=True)
    sys.stdout.write(
        f"{Path(config.bundle)}: finds {scores.recall:.0%} of {scores.num_true} spans of the validation videos, "
        f"{scores.precision:.0%} of {scores.num_found} moments are such spans; median end error {scores.end_error_s:.2f} s\n"
    )
    return 0
