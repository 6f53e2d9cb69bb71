"""Studies behind decisions: composition, the dive archive, released and synthetic data, hand-off to editing programs.

Read in this order: synthetic_data, composition, dives, released_data, numbered_video, handoff.
"""

__all__ = ["numbered_video", "synthetic_data"]
