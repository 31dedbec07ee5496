# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""A moving frame over time, and its pose between two samples: never beyond them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from implicit_relocalizer.data.frames import Float64Array

NS_PER_S = 1_000_000_000
# As tf2: what is farther from length one was never meant to be a rotation.
QUATERNION_TOLERANCE = 0.01


class NoPoseError(ValueError):
    """There is no trustworthy pose at a stamp; the message is the reason, the same for all such
    stamps so that reasons can be counted."""


@dataclass(frozen=True)
class StreamCounts:
    """What became of the messages of one topic.

    Attributes:
        messages: Read, damaged ones included.
        damaged: Could not be decoded.
        unusable: Without stamp, with NaN, or with a quaternion that is none.
        duplicates: With the stamp of an earlier one.
        disordered: Recorded after one of a later stamp; used in the order of the stamps.
    """

    messages: int = 0
    damaged: int = 0
    unusable: int = 0
    duplicates: int = 0
    disordered: int = 0


class PoseSample(NamedTuple):
    """A pose at a time: child frame in parent coordinates, metres, quaternion x y z w."""

    stamp_ns: int
    position_m: tuple[float, float, float]
    quaternion_xyzw: tuple[float, float, float, float]

    @property
    def is_usable(self) -> bool:
        """Finite, stamped and with a unit quaternion."""
        norm = math.hypot(*self.quaternion_xyzw)
        return (self.stamp_ns > 0 and all(map(math.isfinite, self.position_m))
                and abs(norm - 1.0) <= QUATERNION_TOLERANCE)

    def to_matrix(self) -> Float64Array:
        """T_parent_child as 4x4."""
        return rigid_transform(Rotation.from_quat(self.quaternion_xyzw).as_matrix(),
                               np.array(self.position_m))


class PoseTrack:
    """Poses of one frame in another, sorted by stamp.

    Attributes:
        counts: Of the samples, none of which counts as damaged.
    """

    def __init__(self, samples: Iterable[PoseSample]) -> None:
        """Keep the usable samples; of several with one stamp the first."""
        given = list(samples)
        usable = [s for s in given if s.is_usable]
        disordered = count_disordered(s.stamp_ns for s in usable)
        usable.sort(key=lambda s: s.stamp_ns)
        kept = [s for i, s in enumerate(usable)
                if i == 0 or s.stamp_ns != usable[i - 1].stamp_ns]
        self.counts = StreamCounts(
            len(given), unusable=len(given) - len(usable), duplicates=len(usable) - len(kept),
            disordered=disordered)
        self._stamps_ns: NDArray[np.int64] = np.array([s.stamp_ns for s in kept], np.int64)
        self._positions_n3 = np.array([s.position_m for s in kept], np.float64).reshape(-1, 3)
        self._R_n33, self._turns_n3 = _rotations([s.quaternion_xyzw for s in kept])

    def __len__(self) -> int:
        return len(self._stamps_ns)

    def interpolate(self, stamp_ns: int, max_gap_s: float) -> Float64Array:
        """The pose at a stamp: linear in position, spherically linear in rotation.

        Args:
            stamp_ns: When.
            max_gap_s: Largest distance in time of the two samples around it. A sample of
                exactly this stamp needs no second one.

        Returns:
            T_parent_child as 4x4.

        Raises:
            NoPoseError: before the first or after the last sample, or in too long a gap.
        """
        after = int(np.searchsorted(self._stamps_ns, stamp_ns))
        if after < len(self) and self._stamps_ns[after] == stamp_ns:
            return rigid_transform(self._R_n33[after], self._positions_n3[after])
        if after == 0:
            raise NoPoseError('before the first pose')
        if after == len(self):
            raise NoPoseError('after the last pose')
        start_ns, end_ns = self._stamps_ns[after - 1:after + 1].tolist()
        if end_ns - start_ns > max_gap_s * NS_PER_S:
            raise NoPoseError(f'poses more than {max_gap_s:g} s apart')
        share = (stamp_ns - start_ns) / (end_ns - start_ns)
        # One rotation at a time is much quicker in OpenCV than in scipy.
        R_start_now, _ = cv2.Rodrigues(share * self._turns_n3[after - 1])
        start_3, end_3 = self._positions_n3[after - 1:after + 1]
        return rigid_transform(self._R_n33[after - 1] @ R_start_now,
                               start_3 + share * (end_3 - start_3))


def count_disordered(stamps_ns: Iterable[int]) -> int:
    """How many stamps come after a later one."""
    latest_ns = disordered = 0
    for stamp_ns in stamps_ns:
        disordered += stamp_ns < latest_ns
        latest_ns = max(latest_ns, stamp_ns)
    return disordered


def _rotations(quaternions_xyzw: list[tuple[float, float, float, float]],
               ) -> tuple[Float64Array, Float64Array]:
    """Matrices of n rotations, and the n - 1 rotation vectors from each to the next.

    The vectors are in the frame of the earlier one; slerp goes along them at constant speed.
    """
    if len(quaternions_xyzw) < 2:
        matrices = [Rotation.from_quat(quaternion).as_matrix() for quaternion in quaternions_xyzw]
        return np.array(matrices).reshape(-1, 3, 3), np.empty((0, 3))
    rotations = Rotation.from_quat(quaternions_xyzw)
    return rotations.as_matrix(), (rotations[:-1].inv() * rotations[1:]).as_rotvec()


def rigid_transform(R_33: Float64Array, translation_m: Float64Array) -> Float64Array:
    """4x4 from its parts."""
    T_44 = np.eye(4)
    T_44[:3, :3] = R_33
    T_44[:3, 3] = translation_m
    return T_44


def inverse_transform(T_a_b: Float64Array) -> Float64Array:
    """T_b_a of a rigid T_a_b, 4x4."""
    T_b_a = np.eye(4)
    T_b_a[:3, :3] = T_a_b[:3, :3].T
    T_b_a[:3, 3] = -T_a_b[:3, :3].T @ T_a_b[:3, 3]
    return T_b_a
