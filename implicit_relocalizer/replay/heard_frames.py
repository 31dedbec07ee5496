# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""What a listener to /tf knows at a moment of a recording: tf2's buffer, without ROS.

`data/readers/bag_tf.py` answers for a recording that is known whole; a node knows its past, of
that the last seconds, and never the next message.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from implicit_relocalizer.data.readers.pose_track import PoseSample, PoseTrack, inverse_transform
from implicit_relocalizer.localization.agreement import Transform
from implicit_relocalizer.localization.frames import NoTransformError
from implicit_relocalizer.localization.image_answer import WaitFor
from implicit_relocalizer.localization.stamps import NS_PER_S, TransformStamps, stamp_to_ns

# As tf2: so long it remembers, before the newest stamp of each frame.
_MEMORY_NS = 10 * NS_PER_S
_MOST_FRAMES = 1000  # of a chain; more are a circle


class _Link(NamedTuple):
    parent: str
    sample: PoseSample


class _MovingLinks:
    """Links of one frame by stamp; of several with one stamp the last that came."""

    def __init__(self) -> None:
        self._stamps_ns: list[int] = []
        self._links: list[_Link] = []

    @property
    def newest(self) -> _Link:
        return self._links[-1]

    def add(self, link: _Link) -> None:
        stamp_ns = link.sample.stamp_ns
        if self._stamps_ns:
            oldest = bisect_left(self._stamps_ns, self._stamps_ns[-1] - _MEMORY_NS)
            del self._stamps_ns[:oldest], self._links[:oldest]
            if stamp_ns < self._stamps_ns[-1] - _MEMORY_NS:
                return
        place = bisect_left(self._stamps_ns, stamp_ns)
        if place < len(self._stamps_ns) and self._stamps_ns[place] == stamp_ns:
            self._links[place] = link
            return
        self._stamps_ns.insert(place, stamp_ns)
        self._links.insert(place, link)

    def at(self, stamp_ns: int) -> tuple[str, Transform] | None:
        """The parent and T_parent_child; None where it would be extrapolated."""
        after = bisect_right(self._stamps_ns, stamp_ns)
        if after == 0:
            return None
        older = self._links[after - 1]
        if older.sample.stamp_ns == stamp_ns:
            return older.parent, older.sample.to_matrix()
        if after == len(self._links):
            return None
        newer = self._links[after]
        if newer.parent != older.parent:  # nothing to interpolate
            return older.parent, older.sample.to_matrix()
        track = PoseTrack([older.sample, newer.sample])
        return older.parent, track.interpolate(stamp_ns, float('inf'))


class HeardFrames:
    """The transforms heard so far; `localization.frames.Frames` of a replay."""

    def __init__(self, wait_for: WaitFor) -> None:
        """
        Args:
            wait_for: Lets the recording go on meanwhile.
        """
        self._wait_for = wait_for
        self._fixed: dict[str, _Link] = {}
        self._moving: dict[str, _MovingLinks] = {}
        self._stamps = TransformStamps()

    def hear(self, transforms: list[Any], is_fixed: bool) -> None:
        """Take in geometry_msgs/TransformStamped of one message."""
        if not is_fixed and self._stamps.go_back(transforms):
            self.forget()
        for item in transforms:
            position, rotation = item.transform.translation, item.transform.rotation
            # Frames of a fixed transform carry any stamp, also none.
            sample = PoseSample(1 if is_fixed else stamp_to_ns(item.header),
                                (position.x, position.y, position.z),
                                (rotation.x, rotation.y, rotation.z, rotation.w))
            parent, child = item.header.frame_id.lstrip('/'), item.child_frame_id.lstrip('/')
            if not sample.is_usable or not parent or not child or parent == child:
                continue
            if is_fixed:
                self._fixed[child] = _Link(parent, sample)
                self._moving.pop(child, None)
            else:
                self._moving.setdefault(child, _MovingLinks()).add(_Link(parent, sample))
                self._fixed.pop(child, None)

    def forget(self) -> None:
        """Forget all that moves, as stamps went back; what is static stays."""
        self._moving.clear()

    def lookup(self, target_frame: str, source_frame: str, stamp_ns: int,
               wait_s: float = 0.0) -> Transform:
        """T_target_source at a stamp; the recording goes on by at most `wait_s` for it.

        Raises:
            NoTransformError: unknown, or not at this stamp.
        """
        if wait_s > 0.0:
            self._wait_for(lambda: self._find(target_frame, source_frame, stamp_ns) is not None,
                           wait_s)
        T_target_source = self._find(target_frame, source_frame, stamp_ns)
        if T_target_source is None:
            known = self.is_connected(target_frame, source_frame)
            raise NoTransformError(
                f"no transform from '{source_frame}' to '{target_frame}': "
                + (f'not at {stamp_ns / NS_PER_S:.6f}' if known else 'they are not connected'))
        return T_target_source

    def is_connected(self, target_frame: str, source_frame: str) -> bool:
        """Whether the transform is known at any time: the newest that all parts have."""
        if target_frame == source_frame:
            return True
        frames = self._chain(target_frame, source_frame)
        if frames is None:
            return False
        newest_ns = [self._moving[frame].newest.sample.stamp_ns for frame in frames
                     if frame in self._moving]
        return self._find(target_frame, source_frame, min(newest_ns, default=1)) is not None

    def _find(self, target_frame: str, source_frame: str, stamp_ns: int) -> Transform | None:
        T_above_source = self._climb(source_frame, target_frame, lambda f: self._at(f, stamp_ns))
        if target_frame in T_above_source:
            return T_above_source[target_frame]
        T_above_target: dict[str, Transform] = self._climb(
            target_frame, source_frame, lambda f: self._at(f, stamp_ns))
        for frame, T_frame_target in T_above_target.items():
            if frame in T_above_source:
                return inverse_transform(T_frame_target) @ T_above_source[frame]
        return None

    def _climb(self, frame: str, stop: str,
               at: Callable[[str], tuple[str, Transform] | None]) -> dict[str, Transform]:
        """T_above_frame for the frame itself and all above it, up to one to stop at."""
        T_above_frame = np.eye(4)
        found = {frame: T_above_frame}
        while frame != stop and len(found) < _MOST_FRAMES:
            link = at(frame)
            if link is None or link[0] in found:
                break
            frame, T_above_frame = link[0], link[1] @ T_above_frame
            found[frame] = T_above_frame
        return found

    def _at(self, frame: str, stamp_ns: int) -> tuple[str, Transform] | None:
        if frame in self._fixed:
            return self._fixed[frame].parent, self._fixed[frame].sample.to_matrix()
        return self._moving[frame].at(stamp_ns) if frame in self._moving else None

    def _newest(self, frame: str) -> tuple[str, Transform] | None:
        link = self._fixed.get(frame)
        if link is None and frame in self._moving:
            link = self._moving[frame].newest
        return None if link is None else (link.parent, np.eye(4))

    def _chain(self, target_frame: str, source_frame: str) -> list[str] | None:
        """Frames between the two whose links lie on the way; None where there is no way."""
        above_source = list(self._climb(source_frame, target_frame, self._newest))
        above_target = list(self._climb(target_frame, source_frame, self._newest))
        common = next((frame for frame in above_target if frame in above_source), None)
        if common is None:
            return None
        return [*above_source[:above_source.index(common)],
                *above_target[:above_target.index(common)]]
