"""Labels by clicking: a durable journal of clicks, heads fitted on stored vectors, and which clip to ask about next.

Read in this order: clicks, journal, heads, choice, pool, desk, import_labels, export.
"""

__all__ = ["choice", "clicks", "desk", "export", "heads", "import_labels", "journal", "pool"]
