"""Long videos to clips: windows, shots, moments or the table of a user.

Read in this order: shots, moments, cut_video, split_videos.
"""

__all__ = ["cut_video", "moments", "split_videos"]
