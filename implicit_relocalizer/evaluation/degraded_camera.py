# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""A model whose camera is spoilt now and then, so that its answers are not equally good."""

from __future__ import annotations

from torch import Generator, Tensor, rand, randint, uint8
from torch.nn.functional import interpolate

from implicit_relocalizer.data.images import as_float_images
from implicit_relocalizer.evaluation.calibration_samples import SPOILERS, spoil
from implicit_relocalizer.evaluation.locating import Module

# As seen from farther away, or by a worse camera: no calibration is fitted to such images.
COARSE = 'coarse'
DEGRADATIONS = (*SPOILERS, COARSE)
_COARSEST = 5.0


class DegradedCamera:
    """Stands before a model and spoils a share of its images, by a drawn kind and strength."""

    def __init__(self, module: Module, share: float, seed: int) -> None:
        """
        Args:
            module: The model.
            share: Of the images that are spoilt.
            seed: Of what is drawn.
        """
        self._module = module
        self._share = share
        self._generator = Generator().manual_seed(seed)

    def __call__(self, image_hw3: Tensor, K_33: Tensor) -> dict[str, Tensor]:
        """The model's outputs for the image, or for what is left of it."""
        if self._draw() < self._share:
            kind = DEGRADATIONS[int(randint(len(DEGRADATIONS), (1,), generator=self._generator))]
            image_hw3 = degrade(image_hw3, kind, self._draw(), self._generator)
        return self._module(image_hw3, K_33)

    def _draw(self) -> float:
        return float(rand(1, generator=self._generator))


def degrade(image_hw3: Tensor, kind: str, strength: float, generator: Generator) -> Tensor:
    """A uint8 image (H, W, 3), spoilt the more the greater the strength, 0 to 1.

    Args:
        image_hw3: As the model takes it.
        kind: One of `DEGRADATIONS`.
        strength: 0 is little, 1 a lot.
        generator: On the CPU.
    """
    image_13hw = as_float_images(image_hw3.cpu().unsqueeze(0))
    if kind == COARSE:
        small = interpolate(image_13hw, scale_factor=1.0 / (1.5 + (_COARSEST - 1.5) * strength),
                            mode='bilinear', antialias=True)
        spoilt = interpolate(small, size=image_13hw.shape[2:], mode='bilinear')
    else:
        spoilt = spoil(image_13hw, kind, strength, generator)
    pixels = (255.0 * spoilt[0].permute(1, 2, 0)).round().clamp(0.0, 255.0).to(uint8)
    return pixels.contiguous().to(image_hw3.device)
