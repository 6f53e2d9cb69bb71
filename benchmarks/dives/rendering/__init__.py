"""A dive to pixels: scene, camera, backdrop, props, the rasteriser, and the pose of each frame.

Read in this order: colors, backdrop, props, camera, scene, render, pose.
"""

__all__ = ["pose", "render", "scene"]
