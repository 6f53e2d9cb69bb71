"""Studies behind decisions: composition, counts, the dive archive, released and synthetic data.

Read in this order: synthetic_data, composition, counts, dives, released_data.
"""

__all__ = ["synthetic_data"]
