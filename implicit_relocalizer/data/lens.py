# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Lenses: where a camera sees what a pinhole would see, and images resampled to that pinhole."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from implicit_relocalizer.data.frames import Float64Array, Lens, SceneError
from implicit_relocalizer.data.resizing import resized_intrinsics

UInt8Array = NDArray[np.uint8]

# A pinhole image of a fisheye must end somewhere: its corners lie at most so far off the axis.
MAX_CORNER_ANGLE_DEG = 60.0
_ZOOM_RANGE = (0.05, 20.0)
_OPENCV_COUNTS = (0, 4, 5, 8)
_FISHEYE_COUNT = 4
# Maps of one lens serve thousands of images; where each image has its own lens, none is kept long.
_KEPT_MAPS = 4


def checked_lens(lens: Lens, source: object) -> Lens:
    """The same lens, once it is known to be one.

    Raises:
        SceneError: NaN, no focal length, a principal point outside the image, or a wrong number
            of coefficients; the message names `source`.
    """
    K_33, (width, height) = lens.K_33, lens.image_size
    values = [*K_33.ravel().tolist(), *lens.coefficients]
    if not np.isfinite(values).all():
        raise SceneError(f'{source}: the camera holds NaN or infinity: {values}')
    if K_33[0, 0] <= 0 or K_33[1, 1] <= 0 or not np.allclose(K_33[2], [0, 0, 1]):
        raise SceneError(f'{source}: {K_33.tolist()} is no camera matrix; '
                         f'expected [[fx, 0, cx], [0, fy, cy], [0, 0, 1]] with fx, fy > 0')
    if abs(K_33[0, 1]) > 1e-6 * K_33[0, 0] or abs(K_33[1, 0]) > 1e-6 * K_33[1, 1]:
        raise SceneError(f'{source}: the camera matrix {K_33.tolist()} has skew, which is not '
                         f'supported')
    if width <= 0 or height <= 0 or not (0 < K_33[0, 2] < width and 0 < K_33[1, 2] < height):
        raise SceneError(
            f'{source}: the principal point ({K_33[0, 2]:g}, {K_33[1, 2]:g}) lies outside the '
            f'{width}x{height} image; these intrinsics are of another resolution')
    count = len(lens.coefficients)
    if count not in (_OPENCV_COUNTS if lens.model == 'opencv' else (_FISHEYE_COUNT,)):
        raise SceneError(f'{source}: {count} distortion coefficients for the lens model '
                         f'{lens.model!r}')
    return lens


def is_pinhole(lens: Lens) -> bool:
    """Whether the lens does not distort (a fisheye always does)."""
    return lens.model == 'opencv' and not any(lens.coefficients)


def distort(rays_n2: Float64Array, lens: Lens) -> Float64Array:
    """Pixels (N, 2) at which the lens shows the rays (x, y, 1), (N, 2), of its camera."""
    points = np.column_stack([rays_n2, np.ones(len(rays_n2))])[:, None]
    project = cv2.projectPoints if lens.model == 'opencv' else cv2.fisheye.projectPoints
    pixels, _ = project(points, np.zeros(3), np.zeros(3), lens.K_33, _coefficients(lens))
    return np.asarray(pixels, np.float64).reshape(-1, 2)


def pinhole_intrinsics(lens: Lens) -> Float64Array:
    """Intrinsics of the pinhole image that shows as much as the lens saw and nothing else.

    The same size and principal point as the distorted image. The focal lengths are scaled such
    that no pixel is empty and corners stay within `MAX_CORNER_ANGLE_DEG`; a lens that does not
    distort keeps its own.

    Raises:
        SceneError: the lens model folds back within the image (a wrong calibration).
    """
    if is_pinhole(lens):
        return lens.K_33
    return zoomed(lens.K_33, needed_zoom(lens, lens.K_33, lens.image_size))


def zoomed(K_33: Float64Array, zoom: float) -> Float64Array:
    """The intrinsics with their focal lengths multiplied by a factor."""
    K_zoomed = K_33.copy()
    K_zoomed[0, 0] *= zoom
    K_zoomed[1, 1] *= zoom
    return K_zoomed


def needed_zoom(lens: Lens, K_33: Float64Array, size: tuple[int, int],
                tolerance_px: float = 0.0) -> float:
    """The smallest factor on the focal lengths of a pinhole camera that leaves no pixel empty.

    Args:
        lens: The camera whose image is resampled.
        K_33: Of the pinhole camera before zooming.
        size: Width and height in pixels of the pinhole camera's image.
        tolerance_px: How far from the lens's image a pixel may look, in pixels of that image.

    Raises:
        SceneError: no factor will do.
    """
    rays_bn2 = _border_rays(K_33, size)
    corner_radius = float(np.linalg.norm(rays_bn2[-1], axis=1).max())
    low = max(_ZOOM_RANGE[0], corner_radius / np.tan(np.radians(MAX_CORNER_ANGLE_DEG)))
    high = _ZOOM_RANGE[1]
    if _sees_all(lens, rays_bn2 / low, tolerance_px):
        return low
    if not _sees_all(lens, rays_bn2 / high, tolerance_px):
        raise SceneError(f'a lens of the model {lens.model!r} with K {lens.K_33.tolist()} and '
                         f'coefficients {lens.coefficients} shows no pinhole image; check the '
                         f'calibration')
    for _ in range(20):
        middle = float(np.sqrt(low * high))
        if _sees_all(lens, rays_bn2 / middle, tolerance_px):
            high = middle
        else:
            low = middle
    return high


def fills(lens: Lens, K_33: Float64Array, size: tuple[int, int], tolerance_px: float) -> bool:
    """Whether the lens's image leaves no pixel of a pinhole image empty (see `needed_zoom`)."""
    return _sees_all(lens, _border_rays(K_33, size), tolerance_px)


def undistort(image_hw3: UInt8Array, lens: Lens, K_33: Float64Array) -> UInt8Array:
    """Resample a lens's image to the pinhole camera `K_33` of size `lens.pinhole_size`.

    Bilinear; a source much finer than the target is averaged down first, so that nothing
    aliases. Pixels that look past the image's edge repeat it.
    """
    reduced = _reduction(lens, K_33)
    if reduced is not None:
        image_hw3 = np.asarray(cv2.resize(image_hw3, reduced.image_size,
                                          interpolation=cv2.INTER_AREA), np.uint8)
        lens = reduced
    map_x, map_y = _maps(lens.model, tuple(lens.K_33.ravel()), lens.coefficients,
                         tuple(K_33.ravel()), lens.pinhole_size or lens.image_size)
    return np.asarray(cv2.remap(image_hw3, map_x, map_y, interpolation=cv2.INTER_LINEAR,
                                borderMode=cv2.BORDER_REPLICATE), np.uint8)


def _coefficients(lens: Lens) -> Float64Array:
    return np.array(lens.coefficients or (0.0,) * 4, np.float64)


def _border_rays(K_33: Float64Array, size: tuple[int, int], per_side: int = 16,
                 steps: int = 12) -> Float64Array:
    """Rays (steps, N, 2) from the axis outwards to the border of an image."""
    width, height = size
    x, y = np.linspace(0, width - 1, per_side), np.linspace(0, height - 1, per_side)
    border = np.concatenate([
        np.column_stack([x, np.zeros_like(x)]), np.column_stack([x, np.full_like(x, height - 1)]),
        np.column_stack([np.zeros_like(y), y]), np.column_stack([np.full_like(y, width - 1), y])])
    rays_n2 = (border - K_33[:2, 2]) / [K_33[0, 0], K_33[1, 1]]
    return np.asarray(np.linspace(1.0 / steps, 1.0, steps)[:, None, None] * rays_n2)


def _sees_all(lens: Lens, rays_bn2: Float64Array, tolerance_px: float) -> bool:
    """Whether all rays hit the lens's image, and the further out the further from its centre."""
    steps, count, _ = rays_bn2.shape
    pixels = distort(rays_bn2.reshape(-1, 2), lens).reshape(steps, count, 2)
    width, height = lens.image_size
    slack = 0.5 + tolerance_px
    inside = (pixels >= -slack).all() and (pixels <= [width - 1 + slack, height - 1 + slack]).all()
    radii = np.linalg.norm((pixels - lens.K_33[:2, 2]) / [lens.K_33[0, 0], lens.K_33[1, 1]],
                           axis=-1)
    return bool(inside and (np.diff(radii, axis=0) > 0).all())


def _reduction(lens: Lens, K_33: Float64Array) -> Lens | None:
    """The lens of the image at about the target's resolution, where the source is much finer."""
    scale = float(np.sqrt(K_33[0, 0] * K_33[1, 1] / (lens.K_33[0, 0] * lens.K_33[1, 1])))
    if scale > 0.75:
        return None
    width, height = lens.image_size
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return Lens(lens.model, resized_intrinsics(lens.K_33, lens.image_size, size),
                lens.coefficients, size, lens.pinhole_size or lens.image_size)


@lru_cache(maxsize=_KEPT_MAPS)
def _maps(model: str, lens_K_9: tuple[float, ...], coefficients: tuple[float, ...],
          K_9: tuple[float, ...], size: tuple[int, int],
          ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    make = (cv2.initUndistortRectifyMap if model == 'opencv'
            else cv2.fisheye.initUndistortRectifyMap)
    map_x, map_y = make(np.reshape(lens_K_9, (3, 3)), np.array(coefficients or (0.0,) * 4),
                        np.eye(3), np.reshape(K_9, (3, 3)), size, cv2.CV_32FC1)
    return np.asarray(map_x, np.float32), np.asarray(map_y, np.float32)
