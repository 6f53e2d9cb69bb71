"""What a run has done: planned clips, the ledger, the manifest beside the rows of the collection.

Read in this order: archives, planned_clip, ledger, row_table, manifest, plan_archive, finished, dead_letters, summary, progress,
status, forecast.
"""

__all__ = [
    "archives",
    "dead_letters",
    "finished",
    "forecast",
    "ledger",
    "manifest",
    "plan_archive",
    "planned_clip",
    "progress",
    "row_table",
    "summary",
]
