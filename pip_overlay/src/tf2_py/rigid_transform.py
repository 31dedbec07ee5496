# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Rigid transforms over scipy's rotations, as tf2 chains and interpolates them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation, Slerp

Float64Array = NDArray[np.float64]


@dataclass(frozen=True)
class RigidTransform:
    """T_a_b: maps coordinates in frame b (metres) to frame a."""

    rotation: Rotation
    translation: Float64Array

    @staticmethod
    def identity() -> RigidTransform:
        return RigidTransform(Rotation.identity(), np.zeros(3))

    def compose(self, other: RigidTransform) -> RigidTransform:
        """T_a_c of this T_a_b and another T_b_c."""
        return RigidTransform(
            self.rotation * other.rotation,
            self.rotation.apply(other.translation) + self.translation,
        )

    def inverse(self) -> RigidTransform:
        """T_b_a of this T_a_b."""
        inverse_rotation = self.rotation.inv()
        return RigidTransform(inverse_rotation, -inverse_rotation.apply(self.translation))

    def interpolate(self, other: RigidTransform, fraction: float) -> RigidTransform:
        """Between this (fraction 0) and other (1): linear, and slerp along the shorter arc."""
        rotations = Rotation.concatenate([self.rotation, other.rotation])
        return RigidTransform(
            Slerp([0.0, 1.0], rotations)(fraction),
            (1.0 - fraction) * self.translation + fraction * other.translation,
        )
