"""Hand-off: spans of videos as the files that editing programs read.

Read in this order: cuts, edl, timelines, premiere_xml, in_seconds, export.
"""

__all__ = ["cuts", "export"]
