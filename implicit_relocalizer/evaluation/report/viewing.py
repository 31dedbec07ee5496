# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""What a model sees in an image: small pictures with its points, and the place they make up."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from implicit_relocalizer.data.frames import Frame
from implicit_relocalizer.data.images import read_frame_image
from implicit_relocalizer.evaluation.locating import Module, is_pose
from implicit_relocalizer.evaluation.metrics import Float64Array
from implicit_relocalizer.evaluation.report.contents import FramePicture, MapCloud, PointsInView

POINT_OUTPUTS = ('points_world', 'weights', 'pixels', 'reprojection_error_px')
MAX_MAP_POINTS = 30_000
MAX_MAP_FRAMES = 100
_PICTURE_WIDTH, _JPEG_QUALITY = 400, 78
_POINTS_IN_PICTURE = 240
# Points of one image that go into the map: of the trusted ones, those that agree with the pose.
_POINTS_FROM_FRAME, _MAP_RESIDUAL_PX = 600, 3.0
# Few far points must not shrink the place to a dot.
_KEPT_PERCENTILES, _KEPT_MARGIN = (1.0, 99.0), 0.5


def make_picture(image_hw3: NDArray[np.uint8], points: PointsInView | None = None,
                 ) -> FramePicture:
    """A small JPEG of an RGB image."""
    height, width = image_hw3.shape[:2]
    image = Image.fromarray(image_hw3)
    image.thumbnail((_PICTURE_WIDTH, _PICTURE_WIDTH))
    file = io.BytesIO()
    image.save(file, 'JPEG', quality=_JPEG_QUALITY, optimize=True)
    return FramePicture(file.getvalue(), (width, height), points)


@torch.inference_mode()
def picture_with_points(module: Module, frame: Frame,
                        device: torch.device | str = 'cpu') -> FramePicture:
    """The picture of a frame with the points that count most for the model's pose."""
    image_hw3 = read_frame_image(frame)
    outputs = _ask(module, image_hw3, frame, device)
    if not all(name in outputs for name in POINT_OUTPUTS):
        return make_picture(image_hw3.numpy())
    points_n3, weights_n, pixels_n2, residual_n = (
        outputs[name].double().cpu().numpy() for name in POINT_OUTPUTS)
    weights_n = np.nan_to_num(weights_n)
    chosen = np.argsort(-weights_n, kind='stable')[:_POINTS_IN_PICTURE]
    chosen = chosen[np.isfinite(points_n3[chosen]).all(axis=1)]
    weights = weights_n[chosen]
    points = PointsInView(
        pixels_n2[chosen], _project(points_n3[chosen], frame.K_33, outputs),
        residual_n[chosen], weights / max(float(weights.max(initial=0.0)), np.finfo(float).tiny),
        points_n3[chosen], _colours_at(image_hw3.numpy(), pixels_n2[chosen]))
    return make_picture(image_hw3.numpy(), points)


@torch.inference_mode()
def learned_cloud(module: Module, frames: Iterable[Frame],
                  device: torch.device | str = 'cpu') -> MapCloud | None:
    """The trusted points of some frames together; None where the model gives no points."""
    points: list[Float64Array] = []
    colours: list[NDArray[np.uint8]] = []
    for frame in frames:
        image_hw3 = read_frame_image(frame)
        outputs = _ask(module, image_hw3, frame, device)
        if not all(name in outputs for name in POINT_OUTPUTS):
            return None
        points_n3, weights_n, pixels_n2, residual_n = (
            outputs[name].double().cpu().numpy() for name in POINT_OUTPUTS)
        agree = np.flatnonzero((residual_n < _MAP_RESIDUAL_PX)
                               & np.isfinite(points_n3).all(axis=1))
        chosen = agree[np.argsort(-weights_n[agree], kind='stable')[:_POINTS_FROM_FRAME]]
        points.append(points_n3[chosen])
        colours.append(_colours_at(image_hw3.numpy(), pixels_n2[chosen]))
    if not points or not sum(map(len, points)):
        return None
    return thin_cloud(np.concatenate(points), np.concatenate(colours))


def thin_cloud(points_n3: Float64Array, colours_n3: NDArray[np.uint8],
               count: int = MAX_MAP_POINTS) -> MapCloud:
    """At most `count` of the points, without those far off the others."""
    low, high = np.percentile(points_n3, _KEPT_PERCENTILES, axis=0)
    margin = _KEPT_MARGIN * (high - low).max() + 1e-6
    near = np.flatnonzero(((points_n3 >= low - margin) & (points_n3 <= high + margin)).all(axis=1))
    if len(near) > count:
        near = np.sort(np.random.default_rng(0).choice(near, count, replace=False))
    return MapCloud(points_n3[near], colours_n3[near])


def spread_evenly(items: Sequence[Frame], count: int) -> list[Frame]:
    """At most `count` of the items."""
    chosen = np.unique(np.linspace(0, len(items) - 1, min(count, len(items))).astype(int))
    return [items[i] for i in chosen]


def _ask(module: Module, image_hw3: Tensor, frame: Frame,
         device: torch.device | str) -> Mapping[str, Tensor]:
    return module(image_hw3.to(device), torch.from_numpy(frame.K_33).float().to(device))


def _project(points_n3: Float64Array, K_33: Float64Array,
             outputs: Mapping[str, Tensor]) -> Float64Array:
    """Pixels (n, 2) of world points by the model's own pose; NaN behind the camera."""
    T_44 = np.eye(4)
    T_44[:3, :3] = outputs['R_world_camera'].double().cpu().numpy()
    T_44[:3, 3] = outputs['t_world_camera'].double().cpu().numpy()
    if not is_pose(T_44):
        return np.full((len(points_n3), 2), np.nan)
    camera_n3 = (points_n3 - T_44[:3, 3]) @ T_44[:3, :3]
    depth_n1 = np.where(camera_n3[:, 2:] > 1e-3, camera_n3[:, 2:], np.nan)
    return np.asarray((camera_n3 / depth_n1) @ K_33[:2].T)


def _colours_at(image_hw3: NDArray[np.uint8], pixels_n2: Float64Array) -> NDArray[np.uint8]:
    height, width = image_hw3.shape[:2]
    columns, rows = np.round(pixels_n2).astype(int).T
    return image_hw3[rows.clip(0, height - 1), columns.clip(0, width - 1)]
