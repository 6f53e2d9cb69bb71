"""`tfcovr doctor`: what this machine has and lacks.

Read in this order: packages, codecs, network, report, supply_chain.
"""

__all__ = ["report"]
