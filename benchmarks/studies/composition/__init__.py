"""Edits that training did not show: what is shown and asked, the archives, and every fusion on them.

Read in this order: conditions, archives, run.
"""

__all__ = ["archives", "conditions", "run"]
