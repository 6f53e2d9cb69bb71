"""The shipped image part, trained on rendered poses.

Read in this order: frames, pose_image, vit.
"""
