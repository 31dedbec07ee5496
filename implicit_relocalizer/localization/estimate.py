# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The answer to one image, and whether it may leave the node."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from implicit_relocalizer.localization.rejection import NoPoseError, Reason

# A model computes in single precision; a rotation further off than this is a fault.
_MAX_ROTATION_ERROR = 1e-3


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
    """

    R_map_camera: NDArray[np.float64]
    t_map_camera_m: NDArray[np.float64]
    covariance_66: NDArray[np.float64]
    confidence: float
    inlier_fraction: float


def check_estimate(estimate: PoseEstimate, min_confidence: float) -> None:
    """Check that an estimate is a pose at all, and confident enough.

    Raises:
        NoPoseError: not finite, not a rotation, a covariance without variances, or confidence
            below `min_confidence`.
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
