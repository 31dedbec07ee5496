# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""What a simulated robot hears from the node."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from geometry_msgs.msg import PoseStamped, PoseWithCovarianceStamped, TransformStamped


@dataclass
class Heard:
    """What the node said, in order; transforms are those of the map alone."""

    poses: list[PoseStamped] = field(default_factory=list)
    poses_ns: list[int] = field(default_factory=list)  # when they came
    covariances: list[PoseWithCovarianceStamped] = field(default_factory=list)
    initial_poses: list[PoseWithCovarianceStamped] = field(default_factory=list)
    transforms: list[TransformStamped] = field(default_factory=list)
    transforms_ns: list[int] = field(default_factory=list)  # when they came
    reports: list[dict[str, str]] = field(default_factory=list)
    reports_ns: list[int] = field(default_factory=list)  # their stamps

    @property
    def localizations(self) -> int:
        """How many messages left that tell where the robot is."""
        return sum(map(len, self._topics))

    @property
    def is_complete(self) -> bool:
        """Whether each topic told something."""
        return all(self._topics)

    @property
    def _topics(self) -> tuple[list[Any], ...]:
        return self.poses, self.covariances, self.initial_poses, self.transforms
