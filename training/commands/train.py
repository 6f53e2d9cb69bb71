"""tfcovr train: stage 1 or stage 2 by recipe, as `python training/run.py` does.

The options depend on the recipe, whose values are their defaults, and `python training/run.py` reads the same ones on machines
where only `training` and what it imports are at hand. So this command brings the parser of that script along.
"""

from training.run import EXAMPLES, parse, run
from training.run import AnyRun as Config

__all__ = ["EXAMPLES", "Config", "parse", "run"]
