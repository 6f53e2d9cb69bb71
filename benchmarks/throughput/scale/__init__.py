"""Archives that are large or grow: the forecast of a run beside the run, and a folder that is watched.

Read in this order: forecast, watch_histories, watch.
"""

__all__ = ["watch_histories"]
