# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Do two fixes tell of the same robot, once its motion between them is taken out?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from implicit_relocalizer.localization.estimate import PoseEstimate

Transform = NDArray[np.float64]  # 4x4


@dataclass(frozen=True, eq=False)
class Fix:
    """A confident answer to one image.

    Attributes:
        stamp_ns: Of the image.
        estimate: The answer.
        T_odom_camera: Where odometry had the camera at that stamp; None without odometry.
        T_map_camera: The answer as a 4x4 transform.
    """

    stamp_ns: int
    estimate: PoseEstimate
    T_odom_camera: Transform | None = None
    T_map_camera: Transform = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, 'T_map_camera', self.estimate.T_map_camera)


@dataclass(frozen=True)
class AgreementLimits:
    """How far two fixes of one robot may be apart.

    Attributes:
        translation_m: For the error of the fixes themselves.
        rotation_deg: Likewise.
        odometry_drift: Metres of error per metre driven, and degrees per degree turned.
        max_linear_speed_mps: What the camera may have moved where there is no odometry;
            0 says that it stands still.
        max_angular_speed_dps: Likewise, degrees per second.
    """

    translation_m: float = 0.3
    rotation_deg: float = 8.0
    odometry_drift: float = 0.05
    max_linear_speed_mps: float = 1.0
    max_angular_speed_dps: float = 60.0


@dataclass(frozen=True)
class Disagreement:
    """How far two fixes are apart once motion is taken out, and how far they might be."""

    translation_m: float
    rotation_deg: float
    allowed_translation_m: float
    allowed_rotation_deg: float

    @property
    def is_agreement(self) -> bool:
        """Whether both are within what is allowed."""
        return (self.translation_m <= self.allowed_translation_m
                and self.rotation_deg <= self.allowed_rotation_deg)

    def __str__(self) -> str:
        return (f'{self.translation_m:.2f} m and {self.rotation_deg:.1f} deg apart, allowed are '
                f'{self.allowed_translation_m:.2f} m and {self.allowed_rotation_deg:.1f} deg')


def compare_fixes(earlier: Fix, later: Fix, limits: AgreementLimits) -> Disagreement:
    """How far the later fix is from where the earlier one and the motion since put the camera.

    With odometry at both stamps the motion is known up to its drift, and a fix tells where the
    other must be: T_map_camera' = T_map_camera T_odom_camera^-1 T_odom_camera'. Without it the
    camera may be anywhere that the speed limits allow.
    """
    if earlier.T_odom_camera is not None and later.T_odom_camera is not None:
        motion = invert(earlier.T_odom_camera) @ later.T_odom_camera
        driven_m, turned_deg = distance_of(motion)
        spread_m = limits.odometry_drift * driven_m
        spread_deg = limits.odometry_drift * turned_deg
    else:
        motion = np.eye(4)
        elapsed_s = abs(later.stamp_ns - earlier.stamp_ns) * 1e-9
        spread_m = limits.max_linear_speed_mps * elapsed_s
        spread_deg = limits.max_angular_speed_dps * elapsed_s
    predicted = earlier.T_map_camera @ motion
    apart_m, apart_deg = distance_of(invert(predicted) @ later.T_map_camera)
    return Disagreement(apart_m, apart_deg, limits.translation_m + spread_m,
                        limits.rotation_deg + spread_deg)


def count_agreeing(newest: Fix, others: Sequence[Fix], limits: AgreementLimits) -> int:
    """How many fixes agree with the newest one, itself included."""
    return 1 + sum(compare_fixes(other, newest, limits).is_agreement for other in others)


def invert(T_a_b: Transform) -> Transform:
    """The inverse of a rigid transform."""
    T_b_a = np.eye(4)
    T_b_a[:3, :3] = T_a_b[:3, :3].T
    T_b_a[:3, 3] = -T_a_b[:3, :3].T @ T_a_b[:3, 3]
    return T_b_a


def distance_of(T_a_b: Transform) -> tuple[float, float]:
    """How far (metres) and by how much (degrees) a rigid transform moves."""
    turned_rad = Rotation.from_matrix(T_a_b[:3, :3]).magnitude()
    return float(np.linalg.norm(T_a_b[:3, 3])), float(np.degrees(turned_rad))
