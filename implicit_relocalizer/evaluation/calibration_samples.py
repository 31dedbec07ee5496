# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Answers of a model to views it did not learn, to spoilt ones, and to images of elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from implicit_relocalizer.data.augmentation import ViewRange, draw_views
from implicit_relocalizer.data.frames import Frame
from implicit_relocalizer.data.images import as_float_images, read_frame_image
from implicit_relocalizer.evaluation.calibration_fit import Sample
from implicit_relocalizer.evaluation.elsewhere import fit_to_camera
from implicit_relocalizer.evaluation.locating import Module, is_pose
from implicit_relocalizer.network.model_file import ModelMetadata

# Turned and zoomed a little, as the same camera might see the place: labels stay exact.
_VIEWS = ViewRange(roll_deg=4.0, tilt_deg=3.0, zoom=1.1, shift=0.04, brightness=0.1, contrast=0.1)
SPOILERS = ('blurred', 'dark', 'covered', 'noisy')


class CalibrationSampler:
    """Asks one model and notes features and errors of its answers."""

    def __init__(self, module: Module, metadata: ModelMetadata,
                 device: torch.device | str = 'cpu', seed: int = 0) -> None:
        """
        Args:
            module: The model.
            metadata: Of its file.
            device: Where the module lives.
            seed: Of everything that is drawn.
        """
        self._module = module
        self._size = metadata.image_size
        self._K_33 = torch.tensor(metadata.K_33)
        self._device = device
        self._generator = torch.Generator().manual_seed(seed)

    def views(self, frames: Iterable[Frame], virtual_each: int) -> Iterator[Sample]:
        """Every frame as it is, and from `virtual_each` slightly turned and zoomed cameras."""
        for frame in frames:
            image_13hw, K_133, T_144 = _read(frame)
            yield from self._ask(image_13hw, K_133, T_144, 'view')
            for _ in range(virtual_each):
                R_133, t_13 = T_144[:, :3, :3].float(), T_144[:, :3, 3].float()
                view = draw_views(image_13hw, K_133, R_133, t_13, _VIEWS,
                                  (image_13hw.shape[3], image_13hw.shape[2]), self._generator)
                T_view = T_144.clone()
                T_view[:, :3, :3] = view.R_world_camera_b33.double()
                yield from self._ask(view.images_b3hw, view.K_b33, T_view, 'virtual')

    def spoilt(self, frames: Iterable[Frame]) -> Iterator[Sample]:
        """Every frame blurred, darkened, partly covered, and with noise, by drawn strengths."""
        for frame in frames:
            image_13hw, K_133, T_144 = _read(frame)
            for kind in SPOILERS:
                strength = float(torch.rand(1, generator=self._generator))
                yield from self._ask(spoil(image_13hw, kind, strength, self._generator), K_133,
                                     T_144, kind)

    def elsewhere(self, frames: Iterable[Frame]) -> Iterator[Sample]:
        """Images of another place, in the size and with the intrinsics of this model's."""
        for frame in frames:
            image_hw3 = fit_to_camera(read_frame_image(frame), self._size)
            yield from self._ask(as_float_images(image_hw3.unsqueeze(0)), self._K_33.unsqueeze(0),
                                 None, 'elsewhere')

    def nowhere(self, frames: Sequence[Frame], count: int) -> Iterator[Sample]:
        """Frames cut into tiles that are laid out anew (local features without a place), noise."""
        for index in range(count):
            tiles = (3, 4, 6)[index % 3]
            image_13hw, K_133, _ = _read(frames[index % len(frames)])
            yield from self._ask(_shuffle_tiles(image_13hw, tiles, self._generator), K_133, None,
                                 'shuffled')
            if index % 4 == 0:
                coarse = torch.rand((1, 3, 4 * tiles, 5 * tiles), generator=self._generator)
                noise = interpolate(coarse, size=image_13hw.shape[2:], mode='bilinear')
                yield from self._ask(noise, K_133, None, 'noise')

    @torch.inference_mode()
    def _ask(self, image_13hw: Tensor, K_133: Tensor, T_144: Tensor | None,
             kind: str) -> Iterator[Sample]:
        image_hw3 = (255.0 * image_13hw[0].permute(1, 2, 0)).round().to(torch.uint8).contiguous()
        answer = self._module(image_hw3.to(self._device), K_133[0].float().to(self._device))
        R, t, features, covariance = (answer[name].double().cpu().numpy() for name in (
            'R_world_camera', 't_world_camera', 'features', 'raw_covariance'))
        T_44 = np.eye(4)
        T_44[:3, :3], T_44[:3, 3] = R, t
        if not (is_pose(T_44) and np.isfinite(covariance).all()):
            return  # the node refuses it whatever its confidence
        translation = rotation = None
        if T_144 is not None:
            T_true = T_144[0].double().numpy()
            translation = t - T_true[:3, 3]
            rotation = Rotation.from_matrix(R @ T_true[:3, :3].T).as_rotvec()
        yield Sample(features, covariance, translation, rotation, kind)


def spoil(image_13hw: Tensor, kind: str, strength: float, generator: torch.Generator) -> Tensor:
    """An image from 0 to 1 as it would be in one of `SPOILERS`, the more the stronger (0 to 1)."""
    return _SPOIL[kind](image_13hw, strength, generator).clamp(0.0, 1.0)


def _read(frame: Frame) -> tuple[Tensor, Tensor, Tensor]:
    image_13hw = as_float_images(read_frame_image(frame).unsqueeze(0))
    return (image_13hw, torch.from_numpy(frame.K_33).unsqueeze(0).float(),
            torch.from_numpy(frame.T_world_camera).unsqueeze(0))


def _blur(image_13hw: Tensor, strength: float, _: torch.Generator) -> Tensor:
    size = 1 + 2 * round(0.02 * (0.2 + strength) * image_13hw.shape[3])
    return avg_pool2d(image_13hw, (1, size), stride=1, padding=(0, size // 2),
                      count_include_pad=False)


def _darken(image_13hw: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    dark = image_13hw * (0.25 - 0.23 * strength)
    return dark + 0.008 * torch.randn(image_13hw.shape, generator=generator)


def _cover(image_13hw: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    covered = image_13hw.clone()
    columns = round((0.3 + 0.65 * strength) * image_13hw.shape[3])
    left = int(torch.randint(0, image_13hw.shape[3] - columns + 1, (1,), generator=generator))
    covered[..., left:left + columns] = 0.1
    return covered


def _add_noise(image_13hw: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    return image_13hw + (0.05 + 0.3 * strength) * torch.randn(image_13hw.shape,
                                                              generator=generator)


_SPOIL: dict[str, Callable[[Tensor, float, torch.Generator], Tensor]] = {
    'blurred': _blur, 'dark': _darken, 'covered': _cover, 'noisy': _add_noise}


def _shuffle_tiles(image_13hw: Tensor, tiles: int, generator: torch.Generator) -> Tensor:
    """The image cut into tiles x tiles that change places."""
    rows, columns = image_13hw.shape[2] // tiles, image_13hw.shape[3] // tiles
    shuffled = image_13hw.clone()
    for place, source in enumerate(torch.randperm(tiles * tiles, generator=generator).tolist()):
        y, x, v, u = place // tiles, place % tiles, source // tiles, source % tiles
        shuffled[..., y * rows:(y + 1) * rows, x * columns:(x + 1) * columns] = image_13hw[
            ..., v * rows:(v + 1) * rows, u * columns:(u + 1) * columns]
    return shuffled
