"""What needs a GPU, checked step by step.

Read in this order: encoder, training, backends, index, steps, check.
"""

__all__ = ["backends"]
