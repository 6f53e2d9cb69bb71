"""tfcovr train: stage 1 or stage 2 by recipe, as `python training/run.py` does.

The options depend on the recipe, which `parse` reads first.
"""

from training.run import EXAMPLES, parse, run
from training.run import AnyRun as Config

__all__ = ["EXAMPLES", "Config", "parse", "run"]
