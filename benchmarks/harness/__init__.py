"""What every benchmark shares: the record, thresholds, resumable parts, timing.

Read in this order: figures, record, thresholds, timing, parts, steps, registry.
"""

__all__ = ["figures", "parts", "record", "registry", "steps", "thresholds", "timing"]
