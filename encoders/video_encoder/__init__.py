"""Video encoders: uint8 frames [N, T, H, W, C] to unit clip vectors [N, D].

Read in this order: config, base, aim, pose_image, frame_temporal, frozen, registry, compiled, pretrained; moment_head, proposals.
"""

__all__ = [
    "aim",
    "base",
    "compiled",
    "config",
    "frame_temporal",
    "frozen",
    "moment_head",
    "pose_image",
    "proposals",
    "registry",
]
