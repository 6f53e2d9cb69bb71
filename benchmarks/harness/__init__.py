"""What every benchmark shares: the record, thresholds, resumable steps, timing.

Read in this order: figures, record, thresholds, timing, steps.
"""

__all__ = ["figures", "record", "steps", "thresholds", "timing"]
