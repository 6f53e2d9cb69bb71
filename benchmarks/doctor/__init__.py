"""`tfcovr doctor`: what this machine has and lacks.

Read in this order: packages, codecs, network, report.
"""

__all__ = ["report"]
