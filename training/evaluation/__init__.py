"""Evaluation of composed retrieval: problem, scores, intervals, tables, zero-shot baselines.

Read in this order: problem, scores, intervals, rows, release_protocol, tables, evaluate, evaluate_run, paper_table,
clip_baseline, zero_shot.
"""

__all__ = [
    "evaluate",
    "evaluate_run",
    "intervals",
    "paper_table",
    "problem",
    "release_protocol",
    "rows",
    "scores",
    "tables",
]
