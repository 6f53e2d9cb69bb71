"""Watching an archive that grows: what changed, which files are whole, and a collection that follows.

Read in this order: config, whole_files, places, follower, watcher, run, watch (the command).
"""

__all__ = ["config", "follower", "places", "run", "watch", "watcher", "whole_files"]
