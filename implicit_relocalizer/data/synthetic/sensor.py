# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""What a real camera adds to a picture: exposure, vignetting and noise, all of them mild."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

GAMMA = 2.2
VIGNETTING = 0.16
READ_NOISE, SHOT_NOISE = 0.0025, 0.010


class Sensor:
    """Turns rendered pictures of one size into camera images."""

    def __init__(self, image_size: tuple[int, int], rng: np.random.Generator) -> None:
        width, height = image_size
        y, x = np.mgrid[:height, :width]
        square = (x - (width - 1) / 2) ** 2 + (y - (height - 1) / 2) ** 2
        self._falloff = (1 - VIGNETTING * square / square.max()).astype(np.float32)
        self._to_linear = ((np.arange(256) / 255) ** GAMMA).astype(np.float32)
        levels = np.linspace(0, 1, 4096)
        self._to_srgb = (255 * levels ** (1 / GAMMA) + 0.5).astype(np.uint8)
        self._rng = rng

    def expose(self, picture_hw3: NDArray[np.uint8], gain: float) -> NDArray[np.uint8]:
        """Image of a rendered sRGB picture, exposed `gain` times as long as usual."""
        linear = self._to_linear[picture_hw3] * (gain * self._falloff)[..., None]
        noise = self._rng.standard_normal(linear.shape, dtype=np.float32)
        linear += noise * (READ_NOISE + SHOT_NOISE * np.sqrt(linear))
        return self._to_srgb[(np.clip(linear, 0, 1) * 4095).astype(np.int32)]
