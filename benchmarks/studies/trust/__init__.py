"""Seeded kills of long commands, and two drivers at once: what a rerun ends with, beside runs that nothing disturbed.

Read in this order: jobs, kills, two_drivers, run.
"""

__all__ = ["run"]
