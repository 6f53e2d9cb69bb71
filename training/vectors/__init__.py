"""Clips and a bundle to a table of vectors, resumable.

Read in this order: tables, stage_runner, compute.
"""

__all__ = ["compute", "stage_runner", "tables"]
