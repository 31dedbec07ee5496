# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Trajectories as text files that evo and the TUM tools read."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial.transform import Rotation

from implicit_relocalizer.evaluation.locating import LocatedFrame

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


def name_trajectories(prefix: Path, estimate: str, reference: str) -> dict[Path, str]:
    """Both texts by the files that they are written to."""
    return {prefix.with_name(f'{prefix.name}_estimate.txt'): estimate,
            prefix.with_name(f'{prefix.name}_reference.txt'): reference}


def increasing_stamps_ns(stamps_s: Sequence[float | None]) -> list[int] | None:
    """Stamps in nanoseconds; None where one is missing or they do not increase.

    Trajectory tools join poses by stamp: frames of several drives that all begin at zero would
    be joined with each other's.
    """
    if any(stamp_s is None for stamp_s in stamps_s):
        return None
    stamps_ns = [round(stamp_s * _NS_PER_S) for stamp_s in stamps_s if stamp_s is not None]
    increase = all(later > earlier for earlier, later in pairwise(stamps_ns))
    return stamps_ns if increase else None


def located_texts(located: Sequence[LocatedFrame]) -> tuple[str, str, bool]:
    """The estimates, and the reference at every frame, both as TUM text.

    Returns:
        Both, and whether their stamps are those of the frames; where these have none that
        increase, the number of the frame stands for its seconds.
    """
    stamps_ns = increasing_stamps_ns([answer.frame.stamp_s for answer in located])
    are_stamped = stamps_ns is not None
    if stamps_ns is None:
        stamps_ns = [number * _NS_PER_S for number in range(len(located))]
    answered = [(stamp_ns, answer.T_world_camera)
                for stamp_ns, answer in zip(stamps_ns, located, strict=True)
                if answer.T_world_camera is not None]
    return (tum_text([stamp_ns for stamp_ns, _ in answered], [T_44 for _, T_44 in answered]),
            tum_text(stamps_ns, [answer.frame.T_world_camera for answer in located]), are_stamped)
