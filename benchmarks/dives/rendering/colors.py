"""Colours as the renderer uses them: float RGB, 0 to 255."""

import cv2
import numpy as np


def hsv(hue: float, saturation: float, value: float) -> np.ndarray:
    """Hue, saturation and value in 0 to 1 -> float32 RGB [3]."""
    pixel = np.array([[[hue * 360, saturation, value]]], dtype=np.float32)
    return cv2.cvtColor(pixel, cv2.COLOR_HSV2RGB)[0, 0] * 255
