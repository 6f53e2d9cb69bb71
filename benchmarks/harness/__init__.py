"""What benchmarks share: the record, thresholds, resumable parts, the registry, timing.

Read in this order: figures, record, thresholds, timing, parts, steps, registry, composer.
"""

__all__ = ["composer", "figures", "parts", "record", "registry", "steps", "thresholds", "timing"]
