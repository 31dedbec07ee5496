# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The frames of a recording: /tf and /tf_static as a tree that can be asked for any stamp.

tf2 answers the same questions, but for a live robot and inside ROS; a recording is known whole.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from typing import Any

import numpy as np

from implicit_relocalizer.data.frames import Float64Array, SceneError
from implicit_relocalizer.data.readers.pose_track import (
    NS_PER_S,
    NoPoseError,
    PoseSample,
    PoseTrack,
    inverse_transform,
)


class NotConnectedError(SceneError):
    """No chain of transforms leads from one frame to the other."""


class TransformTree:
    """Transforms between named frames, fixed and moving."""

    def __init__(self) -> None:
        self._fixed: dict[tuple[str, str], Float64Array] = {}
        self._samples: dict[tuple[str, str], list[PoseSample]] = defaultdict(list)
        self._tracks: dict[tuple[str, str], PoseTrack] = {}
        self._parents: dict[str, set[str]] = defaultdict(set)

    @property
    def frames(self) -> list[str]:
        """The names of all frames."""
        return sorted(set(self._parents) | {p for found in self._parents.values() for p in found})

    def add_fixed(self, parent: str, child: str, sample: PoseSample) -> None:
        """Add a transform that always holds; the last one counts."""
        self._parents[child].add(parent)
        self._fixed[parent, child] = sample.to_matrix()

    def add_moving(self, parent: str, child: str, sample: PoseSample) -> None:
        """Add one sample of a moving transform."""
        self._parents[child].add(parent)
        self._samples[parent, child].append(sample)

    def root_of(self, frame: str) -> str:
        """The frame at the top of a frame's chain of parents."""
        return self._upwards(frame)[-1]

    def moves(self, target: str, source: str) -> bool:
        """Whether a moving transform lies between two frames."""
        return any((parent, child) not in self._fixed
                   for parent, child, _ in self._chain(target, source))

    def are_connected(self, target: str, source: str) -> bool:
        """Whether a chain of transforms leads from one frame to the other."""
        try:
            self._chain(target, source)
        except NotConnectedError:
            return False
        return True

    def lookup(self, target: str, source: str, stamp_ns: int, max_gap_s: float) -> Float64Array:
        """T_target_source at a stamp, every moving part interpolated by itself.

        Raises:
            NotConnectedError: no chain between the two.
            SceneError: a frame on the way has two parents.
            NoPoseError: a moving part of the chain has no samples around the stamp.
        """
        T_target_source = np.eye(4)
        for parent, child, downwards in self._chain(target, source):
            T_parent_child = self._edge(parent, child, stamp_ns, max_gap_s)
            T_target_source = T_target_source @ (
                T_parent_child if downwards else inverse_transform(T_parent_child))
        return T_target_source

    def _edge(self, parent: str, child: str, stamp_ns: int, max_gap_s: float) -> Float64Array:
        edge = (parent, child)
        if edge in self._fixed:
            return self._fixed[edge]
        if edge not in self._tracks:
            self._tracks[edge] = PoseTrack(self._samples[edge])
        try:
            return self._tracks[edge].interpolate(stamp_ns, max_gap_s)
        except NoPoseError as error:
            raise NoPoseError(f'transform {parent} -> {child}: {error}') from None

    def _chain(self, target: str, source: str) -> list[tuple[str, str, bool]]:
        """Edges (parent, child, downwards) to walk from target to source."""
        up, down = self._upwards(target), self._upwards(source)
        if up[-1] != down[-1]:
            raise NotConnectedError(
                f'no chain of transforms between the frames {target!r} and {source!r}; '
                f'the recording has {self.frames or "no transforms at all"}')
        while len(up) > 1 and len(down) > 1 and up[-2] == down[-2]:
            up.pop()
            down.pop()
        rising = [(parent, child, False) for child, parent in pairwise(up)]
        falling = [(parent, child, True) for child, parent in pairwise(down)]
        return rising + falling[::-1]

    def _upwards(self, frame: str) -> list[str]:
        """The frame, its parent, and so on up to the root."""
        names = [frame]
        while self._parents.get(names[-1]):
            parents = self._parents[names[-1]]
            if len(parents) > 1:
                raise SceneError(
                    f'the frame {names[-1]!r} has several parents in /tf: {sorted(parents)}; two '
                    f'publishers contradict each other, record again with one of them')
            (parent,) = parents
            if parent in names:
                raise SceneError(f'the frames {[*names, parent]} in /tf form a circle')
            names.append(parent)
        return names


def add_message(tree: TransformTree, message: Any, is_fixed: bool) -> int:
    """Add the transforms of a tf2_msgs/TFMessage; returns how many were unusable."""
    unusable = 0
    for item in message.transforms:
        stamp, transform = item.header.stamp, item.transform
        # Frames of a fixed transform carry any stamp, also none.
        stamp_ns = 1 if is_fixed else stamp_to_ns(stamp)
        position, rotation = transform.translation, transform.rotation
        sample = PoseSample(stamp_ns, (position.x, position.y, position.z),
                            (rotation.x, rotation.y, rotation.z, rotation.w))
        parent, child = frame_name(item.header.frame_id), frame_name(item.child_frame_id)
        if not sample.is_usable or not parent or not child or parent == child:
            unusable += 1
        elif is_fixed:
            tree.add_fixed(parent, child, sample)
        else:
            tree.add_moving(parent, child, sample)
    return unusable


def stamp_to_ns(stamp: Any) -> int:
    """A message's stamp in nanoseconds."""
    return int(stamp.sec) * NS_PER_S + int(stamp.nanosec)


def frame_name(frame_id: str) -> str:
    """A frame's name without the leading slash of ROS 1."""
    return frame_id.lstrip('/')
