"""Clips and a bundle to a table of vectors, resumable.

Read in this order: tables, outcomes, stage_runner, compute.
"""

__all__ = ["compute", "outcomes", "stage_runner", "tables"]
