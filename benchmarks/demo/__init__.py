"""`tfcovr demo`: the whole flow on rendered video.

Read in this order: steps, step_notes, questions, time_evidence, summary, run.
"""

__all__ = ["run", "steps", "time_evidence"]
