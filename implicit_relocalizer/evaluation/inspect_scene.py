# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Inspect a scene before learning it: its figures, and its labels against its images."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from implicit_relocalizer.data.frames import Float64Array, Scene
from implicit_relocalizer.evaluation.inspection import SceneStatistics, describe_scene
from implicit_relocalizer.evaluation.scene_check import SceneCheck, check_scene


@dataclass(frozen=True)
class Inspection:
    """A scene and what was found out.

    Attributes:
        scene: As given.
        statistics: Of the poses below.
        check: Of the labels against the images; None where no image was to be opened.
        T_world_camera_n44: The poses of its frames as they should be read: the given ones, or
            converted where another convention fits.
    """

    scene: Scene
    statistics: SceneStatistics
    check: SceneCheck | None
    T_world_camera_n44: Float64Array

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON values."""
        return {'scene': self.scene.name, 'root': str(self.scene.root),
                **self.statistics.to_dict(),
                'check': None if self.check is None else self.check.to_dict()}


def inspect_scene(scene: Scene, pair_count: int = 20,
                  progress: Callable[[Iterable[int]], Iterable[int]] = iter) -> Inspection:
    """Measure a scene and hold its labels against its images.

    Args:
        scene: Any.
        pair_count: Pairs of images to match, spread over the scene; 0 opens no image.
        progress: Wraps the frames at which pairs are looked for, such as tqdm.

    Raises:
        SceneError: a depth image cannot be read.
    """
    T_n44 = np.stack([frame.T_world_camera for frame in scene.frames])
    if not pair_count:
        return Inspection(scene, describe_scene(scene, T_n44), None, T_n44)

    def ends_of_jumps(T_n44: Float64Array) -> list[int]:
        jumps = describe_scene(scene, T_n44).jumps
        return [index for jump in jumps for index in (jump.first, jump.second)]

    check = check_scene(scene, pair_count, ends_of_jumps, progress)
    statistics = describe_scene(scene, check.T_world_camera_n44)
    return Inspection(scene, statistics, check, check.T_world_camera_n44)
