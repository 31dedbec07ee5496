# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The one interface of all image encoders: image in, feature grid out."""

from typing import Callable, Dict, List, Optional, Tuple

import torch
from torch import Tensor, nn

from implicit_relocalizer.network.image_input import unit_range


class Encoder(nn.Module):
    """Image -> feature grid.

    `forward(images_b3hw)` takes RGB in [0, 1] with height and width multiples of `stride` and
    returns features_bchw on the grid whose cell (i, j) is centred on the pixel
    `cell_centres(...)` gives.

    Attributes:
        channels: Numbers per grid cell.
        stride: Pixels between neighbouring cells.
    """

    def __init__(self) -> None:
        super().__init__()
        self.channels = 0
        self.stride = 8

    def forward(self, images_b3hw: Tensor) -> Tensor:
        """Encode images; subclasses implement it."""
        raise NotImplementedError

    def sample(self, images_b3hw: Tensor) -> Tuple[Tensor, Tensor]:
        """Features of the points that the head sees, and where in the image they are.

        Args:
            images_b3hw: RGB in [0, 1], or bytes; `forward` has the former always.

        Returns:
            features_bnc and pixels_bn2: every cell of the grid at its centre, unless a subclass
            chooses other points (always the same number of them for images of one size).
        """
        features_bnc = self.forward(unit_range(images_b3hw)).flatten(2).transpose(1, 2)
        pixels_n2 = cell_centres(images_b3hw.shape[2], images_b3hw.shape[3], self.stride,
                                 features_bnc.device)
        return features_bnc, pixels_n2.unsqueeze(0).expand(images_b3hw.shape[0], -1, -1)


def cell_centres(height_px: int, width_px: int, stride: int,
                 device: Optional[torch.device] = None) -> Tensor:
    """Pixel positions (x, y) of the grid's cell centres, row by row: (N, 2) float32.

    Pixel centres are at integers, so the first cell of stride 8 covers pixels 0..7 and is
    centred at 3.5.
    """
    offset = 0.5 * (stride - 1)
    y = torch.arange(height_px // stride, dtype=torch.float32, device=device) * stride + offset
    x = torch.arange(width_px // stride, dtype=torch.float32, device=device) * stride + offset
    grid_y = y.unsqueeze(1).expand(-1, x.shape[0])
    grid_x = x.unsqueeze(0).expand(y.shape[0], -1)
    return torch.stack([grid_x, grid_y], dim=-1).reshape(-1, 2)


_BUILDERS: Dict[str, Callable[[bool], Encoder]] = {}


def register_encoder(name: str) -> Callable[[Callable[[bool], Encoder]],
                                            Callable[[bool], Encoder]]:
    """Make an encoder available under a name; the builder takes `pretrained`."""
    def register(builder: Callable[[bool], Encoder]) -> Callable[[bool], Encoder]:
        _BUILDERS[name] = builder
        return builder
    return register


def encoder_names() -> List[str]:
    """Names that `build_encoder` knows."""
    _import_builtin_encoders()
    return sorted(_BUILDERS)


def build_encoder(name: str, pretrained: bool = False) -> Encoder:
    """Build an encoder by name.

    Args:
        name: One of `encoder_names()`.
        pretrained: Load the ImageNet weights of torchvision (downloaded once).

    Raises:
        ValueError: unknown name, or `pretrained` for an encoder without weights.
        PretrainedWeightsError: neither a download nor a file in the cache; with the remedy.
    """
    if name not in _BUILDERS:
        from implicit_relocalizer.network import descriptor  # noqa: F401 (without torchvision)
    if name not in _BUILDERS:
        _import_builtin_encoders()
    if name not in _BUILDERS:
        raise ValueError(f'encoder {name!r} is unknown; choose one of {encoder_names()}')
    return _BUILDERS[name](pretrained)


def _import_builtin_encoders() -> None:
    """Load the modules that register the encoders we ship; those of torchvision take seconds."""
    from implicit_relocalizer.network import cnn, descriptor, transformer  # noqa: F401
