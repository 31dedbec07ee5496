# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Measured depth: the ground truth that learned geometry is held against, never learned from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, UnidentifiedImageError
from scipy.ndimage import map_coordinates

from implicit_relocalizer.data.frames import Frame, SceneError
from implicit_relocalizer.evaluation.metrics import Float64Array

_MILLIMETRES_PER_METRE = 1000.0
# Four neighbouring depths that differ by more lie on both sides of an edge: nobody knows which
# side a pixel between them shows.
_MAX_EDGE_RATIO = 1.05


@dataclass(frozen=True)
class DepthImage:
    """Depth along the optical axis.

    Attributes:
        depth_m_hw: Metres, 0 where unknown.
        step: Its pixel (x, y) is image pixel (step x, step y).
    """

    depth_m_hw: Float64Array
    step: int

    def at(self, pixels_n2: Float64Array) -> Float64Array:
        """Depth (n,) at image pixels x, y in metres; NaN where unknown, outside or at an edge.

        Inverse depth is interpolated linearly, which is exact on planes.
        """
        coordinates = np.asarray(pixels_n2, np.float64)[:, ::-1].T / self.step
        with np.errstate(divide='ignore'):
            inverse_hw = np.where(self.depth_m_hw > 0, 1.0 / self.depth_m_hw, np.nan)
        last = np.array(inverse_hw.shape)[:, None] - 1
        corner = np.clip(np.floor(coordinates).astype(int), 0, np.maximum(last - 1, 0))
        next_corner = np.minimum(corner + 1, last)
        neighbours_4n = np.stack([inverse_hw[y, x] for y in (corner[0], next_corner[0])
                                  for x in (corner[1], next_corner[1])])
        smooth_n = neighbours_4n.max(axis=0) <= _MAX_EDGE_RATIO * neighbours_4n.min(axis=0)
        inside_n = ((coordinates >= 0) & (coordinates <= last)).all(axis=0)
        inverse_n = map_coordinates(np.nan_to_num(inverse_hw), coordinates, order=1,
                                    mode='nearest')
        known_n = smooth_n & inside_n
        return np.where(known_n, 1.0 / np.where(known_n, inverse_n, 1.0), np.nan)


def read_depth(frame: Frame, image_size: tuple[int, int]) -> DepthImage | None:
    """The frame's depth image, or None where it has none.

    Args:
        frame: With or without depth.
        image_size: Width and height of its colour image.

    Raises:
        SceneError: it cannot be read, or is no whole fraction of the colour image.
    """
    path = frame.depth_path
    if path is None:
        return None
    try:
        with Image.open(path) as file:
            depth_m_hw: Float64Array = np.array(file, np.float64) / _MILLIMETRES_PER_METRE
    except FileNotFoundError:
        raise SceneError(f'{path}: no such depth image') from None
    except (UnidentifiedImageError, OSError) as error:
        raise SceneError(f'{path}: cannot be decoded ({error}); replace or remove it') from None
    width, height = image_size
    step = max(1, round(width / depth_m_hw.shape[1])) if depth_m_hw.ndim == 2 else 1
    if depth_m_hw.shape != (-(-height // step), -(-width // step)):
        size = 'x'.join(str(side) for side in depth_m_hw.shape[::-1])
        raise SceneError(f'{path}: {size} is no whole fraction of the {width}x{height} image; '
                         f'expected one channel of uint16 millimetres')
    return DepthImage(depth_m_hw, step)


def back_project(frame: Frame, pixels_n2: Float64Array, depth_m_n: Float64Array,
                 ) -> tuple[Float64Array, Float64Array]:
    """The points that pixels (n, 2) at depths (n,) show, in metres.

    Pixel (u, v) with depth d is d K^-1 [u, v, 1] in the camera frame, and T_world_camera takes
    that to the world.

    Returns:
        (points_camera_n3, points_world_n3).
    """
    rays_n3 = np.column_stack([pixels_n2, np.ones(len(pixels_n2))]) @ np.linalg.inv(frame.K_33).T
    points_camera_n3 = rays_n3 * depth_m_n[:, None]
    T_world_camera = frame.T_world_camera
    return points_camera_n3, points_camera_n3 @ T_world_camera[:3, :3].T + T_world_camera[:3, 3]
