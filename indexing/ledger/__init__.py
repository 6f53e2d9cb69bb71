"""What a run has done: planned clips, outcomes, the ledger, the comparison with the collection.

Read in this order: archives, planned_clip, outcomes, ledger, reconcile, summary, progress, status, forecast.
"""

__all__ = [
    "archives",
    "forecast",
    "ledger",
    "outcomes",
    "planned_clip",
    "progress",
    "reconcile",
    "summary",
]
