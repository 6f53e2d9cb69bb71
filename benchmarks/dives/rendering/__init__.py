"""A dive to pixels: scene, camera, backdrop, props, the rasteriser, and the pose of each frame.

Read in this order: colors, backdrop, props, camera, scene, render, pose, overlay.
"""

__all__ = ["overlay", "pose", "render", "scene"]
