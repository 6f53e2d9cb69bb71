"""How many labels composed search needs, with a simulated annotator.

Read in this order: clips, run.
"""

__all__ = ["run"]
