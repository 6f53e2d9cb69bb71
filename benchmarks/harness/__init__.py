"""What benchmarks share: the record, thresholds, resumable parts, the registry, timing.

Read in this order: figures, record, thresholds, timing, overall, parts, steps, registry, composer.
"""

__all__ = [
    "composer",
    "figures",
    "overall",
    "parts",
    "record",
    "registry",
    "steps",
    "thresholds",
    "timing",
]
