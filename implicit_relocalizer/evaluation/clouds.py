# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Coloured point clouds of one frame: as the network imagines it and as depth measured it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import map_coordinates

from implicit_relocalizer.data.frames import Frame
from implicit_relocalizer.data.images import read_frame_image
from implicit_relocalizer.evaluation.depth import back_project, read_depth
from implicit_relocalizer.evaluation.metrics import Float64Array


@dataclass(frozen=True)
class ColouredCloud:
    """n points in the world frame, in metres.

    Attributes:
        points_world_n3: Positions.
        colours_n3: RGB between 0 and 1.
        weights_n: Between 0 and 1: how much the pose listened to each point.
    """

    points_world_n3: Float64Array
    colours_n3: Float64Array
    weights_n: Float64Array


def read_rgb(frame: Frame) -> np.ndarray:
    """The frame's image, uint8 (h, w, 3) RGB."""
    return read_frame_image(frame).numpy()


def imagined_cloud(module: torch.jit.ScriptModule, frame: Frame) -> ColouredCloud:
    """The world points that the model predicts for one frame.

    Weights are divided by their 90th percentile, so that a picture shows which points count.
    """
    rgb_hw3 = read_rgb(frame)
    device = next(module.parameters(), torch.empty(0)).device
    with torch.inference_mode():
        outputs = module(torch.from_numpy(rgb_hw3).to(device),
                         torch.from_numpy(frame.K_33).float().to(device))
    points_n3, pixels_n2, weights_n = (
        outputs[name].double().cpu().numpy() for name in ('points_world', 'pixels', 'weights'))
    scale = max(float(np.percentile(weights_n, 90)), np.finfo(float).tiny)
    return ColouredCloud(points_n3, _colours_at(rgb_hw3, pixels_n2),
                         np.clip(weights_n / scale, 0.0, 1.0))


def measured_cloud(frame: Frame) -> ColouredCloud | None:
    """The true points from the frame's depth image, or None where it has none.

    Raises:
        SceneError: the depth image cannot be read or is no whole fraction of the colour image.
    """
    if frame.depth_path is None:
        return None
    rgb_hw3 = read_rgb(frame)
    depth = read_depth(frame, (rgb_hw3.shape[1], rgb_hw3.shape[0]))
    assert depth is not None
    rows, columns = np.nonzero(depth.depth_m_hw)
    pixels_n2 = (np.stack([columns, rows], axis=1) * depth.step).astype(np.float64)
    _, points_world_n3 = back_project(frame, pixels_n2, depth.depth_m_hw[rows, columns])
    return ColouredCloud(points_world_n3, _colours_at(rgb_hw3, pixels_n2),
                         np.ones(len(points_world_n3)))


def _colours_at(rgb_hw3: np.ndarray, pixels_n2: np.ndarray) -> Float64Array:
    coordinates = pixels_n2[:, ::-1].T
    return np.stack([map_coordinates(rgb_hw3[..., c] / 255.0, coordinates, order=1, mode='nearest')
                     for c in range(3)], axis=1)
