# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Is the learned geometry geometry? Both predicted clouds against measured depth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from implicit_relocalizer.data.frames import Frame
from implicit_relocalizer.evaluation.depth import back_project, read_depth
from implicit_relocalizer.evaluation.metrics import Float64Array

REQUIRED_OUTPUTS = ('points_world', 'points_camera', 'weights', 'pixels')


def has_points(outputs: Mapping[str, Tensor]) -> bool:
    """Whether a module's outputs hold both clouds; a pose regression has none."""
    return all(name in outputs and outputs[name].numel() for name in REQUIRED_OUTPUTS)


class GeometryErrors:
    """Collects, frame by frame, the errors of the points that a model predicts.

    A world point is held against the point that measured depth puts at the same pixel, in metres.
    A camera point is held against that depth alone: |z - z_true| / z_true. Where depth is
    unknown, and across its edges, a pixel has no truth and is left out.
    """

    def __init__(self) -> None:
        self._cells = 0
        self._world_m: list[Float64Array] = []
        self._depth: list[Float64Array] = []
        self._weights: list[Float64Array] = []
        self._trusted: list[Float64Array] = []

    def observe(self, frame: Frame, image_size: tuple[int, int],
                outputs: Mapping[str, Tensor]) -> None:
        """Take one frame in; frames without depth, or a model without points, add nothing."""
        depth = read_depth(frame, image_size)
        if depth is None or not has_points(outputs):
            return
        world_n3, camera_n3, weights_n, pixels_n2 = (
            outputs[name].double().cpu().numpy() for name in REQUIRED_OUTPUTS)
        self._cells += len(pixels_n2)
        depth_n = depth.at(pixels_n2)
        known_n = np.isfinite(depth_n)
        if not known_n.any():
            return
        _, true_world_n3 = back_project(frame, pixels_n2[known_n], depth_n[known_n])
        weights_n = np.nan_to_num(weights_n[known_n], nan=0.0, posinf=0.0).clip(min=0.0)
        self._world_m.append(np.linalg.norm(world_n3[known_n] - true_world_n3, axis=1))
        self._depth.append(np.abs(camera_n3[known_n, 2] / depth_n[known_n] - 1.0))
        # A pose weighs points within its image, so every image has the same say here.
        total = weights_n.sum()
        self._weights.append(weights_n / total if total > 0
                             else np.full(len(weights_n), 1.0 / len(weights_n)))
        self._trusted.append((weights_n >= np.median(weights_n)).astype(float))

    def summarize(self) -> dict[str, Any] | None:
        """Errors as JSON values, or None where nothing could be compared.

        `world_m` and `depth_relative` hold the median and the mean over all points, weighted by
        the model's weights, and over the half of each image's points with the largest weights.
        """
        if not self._world_m:
            return None
        weights_n, trusted_n = np.concatenate(self._weights), np.concatenate(self._trusted)
        points = len(weights_n)
        return {'frames': len(self._world_m), 'points': points,
                'share_with_depth': points / self._cells,
                'world_m': _averages(np.concatenate(self._world_m), weights_n, trusted_n),
                'depth_relative': _averages(np.concatenate(self._depth), weights_n, trusted_n)}


def weighted_median(values_n: Float64Array, weights_n: Float64Array) -> float:
    """The value at which half of the weight is reached."""
    order = np.argsort(values_n)
    cumulated = np.cumsum(weights_n[order])
    return float(values_n[order[np.searchsorted(cumulated, 0.5 * cumulated[-1])]])


def _averages(errors_n: Float64Array, weights_n: Float64Array,
              trusted_n: Float64Array) -> dict[str, float | None]:
    finite_n = np.isfinite(errors_n)
    if not finite_n.all():  # a point that is no number is wrong without limit
        errors_n = np.where(finite_n, errors_n, np.inf)
    half_n = errors_n[trusted_n > 0]
    values = {
        'median': float(np.median(errors_n)), 'mean': float(errors_n.mean()),
        'median_weighted': weighted_median(errors_n, weights_n),
        'mean_weighted': float((errors_n * weights_n).sum() / weights_n.sum()),
        'median_trusted_half': float(np.median(half_n)),
        'mean_trusted_half': float(half_n.mean())}
    return {key: value if np.isfinite(value) else None for key, value in values.items()}
