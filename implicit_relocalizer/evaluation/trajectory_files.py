# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Trajectories as text files that evo and the TUM tools read."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial.transform import Rotation

_NS_PER_S = 1_000_000_000


def tum_text(stamps_ns: Sequence[int], T_world_camera_n44: ArrayLike) -> str:
    """`stamp tx ty tz qx qy qz qw`, a line a pose: seconds with nine decimals, metres.

    The format of the TUM RGB-D benchmark: no header line, so that every reader takes it.

    Raises:
        ValueError: not as many stamps as poses.
    """
    poses_n44 = np.asarray(T_world_camera_n44, np.float64).reshape(-1, 4, 4)
    if len(stamps_ns) != len(poses_n44):
        raise ValueError(f'{len(stamps_ns)} stamps for {len(poses_n44)} poses')
    lines = []
    for stamp_ns, T_44 in zip(stamps_ns, poses_n44, strict=True):
        quaternion_xyzw = Rotation.from_matrix(T_44[:3, :3]).as_quat(canonical=True)
        values = ' '.join(f'{value:.12f}' for value in (*T_44[:3, 3], *quaternion_xyzw))
        lines.append(f'{stamp_ns // _NS_PER_S}.{stamp_ns % _NS_PER_S:09d} {values}\n')
    return ''.join(lines)
