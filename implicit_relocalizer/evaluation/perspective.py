# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Perspective-n-point the usual way: OpenCV's RANSAC, then Levenberg-Marquardt on the inliers."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from implicit_relocalizer.evaluation.metrics import Float64Array

_ITERATIONS = 2000
_CONFIDENCE = 0.9999
_POLISHING_ROUNDS = 3
_LEAST_POINTS = 4


@dataclass(frozen=True)
class PerspectivePose:
    """A pose and the points it rests on.

    Attributes:
        T_world_camera: 4x4 camera-to-world, metres.
        inliers: Indices of the points that it fits.
    """

    T_world_camera: Float64Array
    inliers: NDArray[np.intp]


def pose_from_points(points_world_n3: Float64Array, pixels_n2: Float64Array, K_33: Float64Array,
                     threshold_px: float, least_inliers: int = _LEAST_POINTS,
                     final_threshold_px: float | None = None) -> PerspectivePose | None:
    """The camera pose that sees world points at their pixels; None where none is found.

    Args:
        points_world_n3: Metres, some of them wrong; those that are not finite are left out.
        pixels_n2: Where the image shows them.
        K_33: Intrinsics of the image.
        threshold_px: Largest reprojection error of an inlier in RANSAC.
        least_inliers: With fewer there is no pose.
        final_threshold_px: The same while polishing; by default `threshold_px`.
    """
    usable = np.flatnonzero(np.isfinite(points_world_n3).all(axis=1))
    if len(usable) < max(least_inliers, _LEAST_POINTS):
        return None
    # Maps may be far from their origin.
    centre_3 = points_world_n3[usable].mean(axis=0)
    points_n3 = np.ascontiguousarray(points_world_n3[usable] - centre_3)
    seen_n2 = np.ascontiguousarray(pixels_n2[usable], dtype=np.float64)
    cv2.setRNGSeed(0)  # the same image gives the same pose
    try:
        found, rotation, translation, inliers = cv2.solvePnPRansac(
            points_n3, seen_n2, K_33, None, iterationsCount=_ITERATIONS,
            reprojectionError=threshold_px, confidence=_CONFIDENCE, flags=cv2.SOLVEPNP_AP3P)
    except cv2.error:  # a degenerate minimal set
        return None
    if not found or inliers is None:
        return None
    chosen = inliers.ravel()
    limit_px = threshold_px if final_threshold_px is None else final_threshold_px
    for _ in range(_POLISHING_ROUNDS):
        if len(chosen) < max(least_inliers, _LEAST_POINTS):
            return None
        rotation, translation = cv2.solvePnPRefineLM(
            points_n3[chosen], seen_n2[chosen], K_33, None, rotation, translation)
        projected_n2 = cv2.projectPoints(points_n3, rotation, translation, K_33, None)[0][:, 0]
        depth_n = points_n3 @ cv2.Rodrigues(rotation)[0][2] + translation[2]
        error_n = np.linalg.norm(projected_n2 - seen_n2, axis=1)
        chosen = np.flatnonzero((error_n <= limit_px) & (depth_n > 0))
    if len(chosen) < least_inliers:
        return None
    T_44 = np.eye(4)
    T_44[:3, :3] = cv2.Rodrigues(rotation)[0].T
    T_44[:3, 3] = (-T_44[:3, :3] @ translation).ravel() + centre_3
    return PerspectivePose(T_44, usable[chosen])
