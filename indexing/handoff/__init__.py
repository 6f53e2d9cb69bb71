"""Hand-off: spans of videos as the files that editing programs read.

Read in this order: cuts, edl, timelines, premiere_xml, in_seconds, export, reel, basket.
"""

__all__ = ["basket", "cuts", "export", "reel"]
