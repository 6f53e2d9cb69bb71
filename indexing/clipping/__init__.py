"""Long videos to clips: windows, shots or the table of a user.

Read in this order: shots, cut_video, split_videos.
"""

__all__ = ["split_videos"]
