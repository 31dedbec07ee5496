# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The answer to one image, and whether it may leave the node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from implicit_relocalizer.localization.rejection import NoPoseError, Reason

# Of models without a calibration. On two places the raw score of other places, noise and covered
# lenses stayed below 0.15, that of validation images had 0.61 and 0.17 as its least, 0.85 and 0.65
# as its median; of degraded images found within 0.3 m and 8 degrees most are above.
UNCALIBRATED_MIN_CONFIDENCE = 0.25
# A model computes in single precision; a rotation further off than this is a fault.
_MAX_ROTATION_ERROR = 1e-3


@dataclass(frozen=True, eq=False)
class WeightedPoints:
    """The cloud in the map that a pose was aligned with: (n, 3) metres, and (n) weights."""

    points_map_n3: NDArray[np.float32]
    weights_n: NDArray[np.float32]


@dataclass(frozen=True)
class PoseEstimate:
    """Where the camera was.

    Attributes:
        R_map_camera: 3x3 rotation from the camera's optical axes to the map's.
        t_map_camera_m: The camera's position in the map, metres.
        covariance_66: Of x, y, z (metres) and the rotation about the map's fixed x, y, z axes
            (radians), in this order (REP 103).
        confidence: 0 (no idea) to 1.
        inlier_fraction: Share of the image's points that agree with the pose.
        points: What the model saw, where it was asked for.
    """

    R_map_camera: NDArray[np.float64]
    t_map_camera_m: NDArray[np.float64]
    covariance_66: NDArray[np.float64]
    confidence: float
    inlier_fraction: float
    points: WeightedPoints | None = None

    @property
    def T_map_camera(self) -> NDArray[np.float64]:
        """The pose as a 4x4 transform, its rotation exact to double precision.

        Models answer in single precision: far from the origin of odometry the 1e-7 by which such
        a matrix is no rotation would move map_to_odom by more than a micrometre.
        """
        # The nearest rotation, as scipy's Rotation has it, at a tenth of its time.
        u_33, _, v_33 = np.linalg.svd(self.R_map_camera)
        T_44 = np.eye(4)
        T_44[:3, :3] = u_33 @ v_33
        T_44[:3, 3] = self.t_map_camera_m
        return T_44


@dataclass(frozen=True)
class MappedBounds:
    """The box that the training cameras filled: smallest and largest x, y, z, metres."""

    least_m: tuple[float, float, float]
    most_m: tuple[float, float, float]

    def distance_m(self, position_m: NDArray[np.float64]) -> float:
        """How far a position is from the box; 0 inside."""
        below = np.subtract(self.least_m, position_m)
        above = np.subtract(position_m, self.most_m)
        return float(np.linalg.norm(np.maximum(0.0, np.maximum(below, above))))


def least_confidence(parameter: float, calibration: Mapping[str, Any]) -> float:
    """The confidence that an answer needs.

    Args:
        parameter: `min_confidence`; below zero leaves it to the model.
        calibration: Of the model; without a `min_confidence` the confidence is a raw score, and a
            limit is taken that held on the places we tried.
    """
    if parameter >= 0.0:
        return parameter
    return float(calibration.get('min_confidence', UNCALIBRATED_MIN_CONFIDENCE))


def check_inside_map(estimate: PoseEstimate, bounds: MappedBounds, margin_m: float) -> None:
    """Check that the camera is where cameras have been, give or take a margin.

    Raises:
        NoPoseError: it is further outside than `margin_m`.
    """
    distance_m = bounds.distance_m(estimate.t_map_camera_m)
    if distance_m > margin_m:
        x, y, z = estimate.t_map_camera_m.tolist()
        raise NoPoseError(Reason.OUTSIDE, f'the answer ({x:.2f}, {y:.2f}, {z:.2f}) m is '
                                        f'{distance_m:.2f} m outside of the mapped volume, more '
                                        f'than map_margin_m {margin_m:.2f}')


def check_estimate(estimate: PoseEstimate, min_confidence: float,
                   max_position_std_m: float = 0.0) -> None:
    """Check that an estimate is a pose at all, confident and certain enough.

    Args:
        estimate: The answer.
        min_confidence: What it needs.
        max_position_std_m: The most that its own covariance may give x, y or z; 0: anything.

    Raises:
        NoPoseError: not finite, not a rotation, a covariance without variances, less confidence
            or more uncertainty.
    """
    numbers = np.concatenate([
        estimate.R_map_camera.ravel(), estimate.t_map_camera_m, estimate.covariance_66.ravel(),
        [estimate.confidence]])
    if not np.isfinite(numbers).all():
        raise NoPoseError(Reason.INVALID, 'the model answered with numbers that are not finite; '
                                        'is the lens covered, or the image of one colour?')
    R = estimate.R_map_camera
    if np.abs(R @ R.T - np.eye(3)).max() > _MAX_ROTATION_ERROR or np.linalg.det(R) < 0.0:
        raise NoPoseError(Reason.INVALID, 'the model answered with a matrix that is no rotation; '
                                        'train or export the model again')
    if (np.diag(estimate.covariance_66) <= 0.0).any():
        raise NoPoseError(Reason.INVALID, 'the model answered with a covariance whose diagonal is '
                                        'not positive; train or export the model again')
    if estimate.confidence < min_confidence:
        raise NoPoseError(Reason.CONFIDENCE,
                        f'confidence {estimate.confidence:.3f} is below min_confidence '
                        f'{min_confidence:.3f}; the view may be unknown to the model')
    std_m = float(np.sqrt(np.diag(estimate.covariance_66)[:3].max()))
    if 0.0 < max_position_std_m < std_m:
        raise NoPoseError(Reason.UNCERTAIN,
                          f'the answer itself says that it may be off by {std_m:.2f} m (standard '
                          f'deviation), more than max_position_std_m {max_position_std_m:.2f}')
