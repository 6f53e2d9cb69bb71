"""Video encoders: uint8 frames [N, T, H, W, C] to unit clip vectors [N, D].

Read in this order: config, base, aim, frame_temporal, pose_image, registry, pretrained; moment_head, proposals.
"""

__all__ = [
    "aim",
    "base",
    "config",
    "frame_temporal",
    "moment_head",
    "pose_image",
    "proposals",
    "registry",
]
