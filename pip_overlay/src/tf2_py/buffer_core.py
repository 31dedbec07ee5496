# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""tf2's buffer core: takes TransformStamped messages in, answers lookups with them."""

from __future__ import annotations

import math
import threading
from typing import Any

from geometry_msgs.msg import TransformStamped
from rclpy.logging import get_logger
from rclpy.time import Time

from tf2_py.exceptions import InvalidArgumentException, LookupException, TransformException
from tf2_py.frame_graph import FrameGraph, name_problem
from tf2_py.rigid_transform import RigidTransform
from tf2_py.time_cache import StampedLink, format_time

DEFAULT_CACHE_TIME_NS = 10 * 10**9
NANOSECONDS = 10**9


class BufferCore:
    """A tree of frames over time; safe to use from several threads.

    Times are rclpy Time or builtin_interfaces Time; time 0 asks for the latest that all links
    on the way have in common.
    """

    def __init__(self, cache_time: Any = None) -> None:
        """
        Args:
            cache_time: rclpy or builtin_interfaces Duration to remember; 10 s by default.
        """
        cache_time_ns = DEFAULT_CACHE_TIME_NS if cache_time is None else to_nanoseconds(cache_time)
        self._graph = FrameGraph(cache_time_ns)
        self._authorities: dict[str, str] = {}
        self._graph_lock = threading.RLock()

    def set_transform(self, transform: TransformStamped, authority: str) -> None:
        """Takes in a transform that holds at its stamp. Unusable ones are logged and ignored."""
        self._insert(transform, authority, is_static=False)

    def set_transform_static(self, transform: TransformStamped, authority: str) -> None:
        """Takes in a transform that holds at all times."""
        self._insert(transform, authority, is_static=True)

    def lookup_transform_core(
        self, target_frame: str, source_frame: str, time: Any
    ) -> TransformStamped:
        """The transform that maps coordinates in source_frame to target_frame.

        Raises:
            InvalidArgumentException: A name is empty or begins with a slash.
            LookupException: A frame is not known, or the tree has a loop.
            ConnectivityException: The frames are in different trees.
            ExtrapolationException: The time is not covered.
        """
        with self._graph_lock:
            time_ns, T_target_source = self._lookup(
                target_frame, source_frame, to_nanoseconds(time)
            )
        return _to_message(T_target_source, target_frame, source_frame, time_ns)

    def lookup_transform_full_core(
        self,
        target_frame: str,
        target_time: Any,
        source_frame: str,
        source_time: Any,
        fixed_frame: str,
    ) -> TransformStamped:
        """From source_frame at source_time to target_frame at target_time, through a frame that
        is held fixed in between; raises as lookup_transform_core does."""
        with self._graph_lock:
            for name, frame in (
                ('target_frame', target_frame),
                ('source_frame', source_frame),
                ('fixed_frame', fixed_frame),
            ):
                self._graph.require(frame, f'lookupTransform argument {name}')
            _, T_fixed_source = self._lookup(
                fixed_frame, source_frame, to_nanoseconds(source_time)
            )
            time_ns, T_target_fixed = self._lookup(
                target_frame, fixed_frame, to_nanoseconds(target_time)
            )
        T_target_source = T_target_fixed.compose(T_fixed_source)
        return _to_message(T_target_source, target_frame, source_frame, time_ns)

    def can_transform_core(
        self, target_frame: str, source_frame: str, time: Any
    ) -> tuple[bool, str]:
        """Whether lookup_transform_core would succeed, and if not, why."""
        if target_frame == source_frame:
            return True, ''
        with self._graph_lock:
            problem = self._unknown_frame(target_frame=target_frame, source_frame=source_frame)
            if problem:
                return False, problem
            return self._can_transform(target_frame, source_frame, to_nanoseconds(time))

    def can_transform_full_core(
        self,
        target_frame: str,
        target_time: Any,
        source_frame: str,
        source_time: Any,
        fixed_frame: str,
    ) -> tuple[bool, str]:
        """Whether lookup_transform_full_core would succeed, and if not, why."""
        with self._graph_lock:
            problem = self._unknown_frame(
                target_frame=target_frame, source_frame=source_frame, fixed_frame=fixed_frame
            )
            if problem:
                return False, problem
            possible, problem = self._can_transform(
                target_frame, fixed_frame, to_nanoseconds(target_time)
            )
            if not possible:
                return False, problem
            return self._can_transform(fixed_frame, source_frame, to_nanoseconds(source_time))

    def get_latest_common_time(self, target_frame: str, source_frame: str) -> Time:
        """The newest time at which a lookup between the frames succeeds (0: all are static)."""
        with self._graph_lock:
            self._graph.require(target_frame, 'get_latest_common_time')
            self._graph.require(source_frame, 'get_latest_common_time')
            try:
                time_ns = self._graph.latest_common_time_ns(target_frame, source_frame)
            except (InvalidArgumentException, LookupException):
                raise
            except TransformException as error:
                raise TransformException(str(error)) from None
        return Time(nanoseconds=time_ns)

    def clear(self) -> None:
        """Forgets all but static transforms and the names of frames."""
        with self._graph_lock:
            self._graph.clear()

    def all_frames_as_string(self) -> str:
        """One line a frame with its parent."""
        with self._graph_lock:
            return self._graph.as_string()

    def all_frames_as_yaml(self) -> str:
        """Parent, broadcaster, rate and covered time of every frame that has a parent."""
        with self._graph_lock:
            if not self._graph.caches:
                return '[]'
            lines = []
            for frame, cache in self._graph.caches.items():
                if cache is None or cache.latest is None:
                    continue
                length_ns = cache.latest_stamp_ns - cache.oldest_stamp_ns
                rate_hz = len(cache) * NANOSECONDS / max(length_ns, 100_000)
                authority = self._authorities.get(frame, 'no recorded authority')
                lines += [
                    f'{frame}: ',
                    f"  parent: '{cache.latest.parent}'",
                    f"  broadcaster: '{authority}'",
                    f'  rate: {rate_hz:.3f}',
                    f'  most_recent_transform: {format_time(cache.latest_stamp_ns)}',
                    f'  oldest_transform: {format_time(cache.oldest_stamp_ns)}',
                    f'  buffer_length: {length_ns / NANOSECONDS:.3f}',
                ]
        return ''.join(f'{line}\n' for line in lines)

    def _frameExists(self, frame_id: str) -> bool:
        with self._graph_lock:
            return frame_id in self._graph.caches

    def _getFrameStrings(self) -> list[str]:
        with self._graph_lock:
            return list(self._graph.caches)

    def _insert(self, transform: TransformStamped, authority: str, *, is_static: bool) -> None:
        parent = transform.header.frame_id.removeprefix('/')
        child = transform.child_frame_id.removeprefix('/')
        t, q = transform.transform.translation, transform.transform.rotation
        link = StampedLink(
            to_nanoseconds(transform.header.stamp),
            parent,
            (float(t.x), float(t.y), float(t.z)),
            (float(q.x), float(q.y), float(q.z), float(q.w)),
        )
        problem = _link_problem(child, link)
        if problem:
            get_logger('tf2').error(
                f'{problem}: ignoring transform from "{parent}" to child "{child}" of authority '
                f'"{authority}": translation {link.translation}, rotation {link.rotation}'
            )
            return
        with self._graph_lock:
            if self._graph.insert(child, link, is_static=is_static):
                self._authorities[child] = authority
                return
        get_logger('tf2').warning(
            f'TF_OLD_DATA ignoring data from the past for frame {child} at time '
            f'{format_time(link.stamp_ns)} according to authority {authority}'
        )

    def _lookup(self, target: str, source: str, time_ns: int) -> tuple[int, RigidTransform]:
        """The lookup and the time that it holds for."""
        if target == source:  # answered even for unknown frames
            return time_ns or self._graph.latest_stamp_ns(target), RigidTransform.identity()
        self._graph.require(target, 'lookupTransform argument target_frame')
        self._graph.require(source, 'lookupTransform argument source_frame')
        time_ns = time_ns or self._graph.latest_common_time_ns(target, source)
        return time_ns, self._graph.T_target_source(target, source, time_ns)

    def _can_transform(self, target: str, source: str, time_ns: int) -> tuple[bool, str]:
        try:
            if target != source:
                time_ns = time_ns or self._graph.latest_common_time_ns(target, source)
                self._graph.links_between(target, source, time_ns)
        except TransformException as error:
            return False, str(error)
        return True, ''

    def _unknown_frame(self, **frames: str) -> str:
        for argument, frame in frames.items():
            problem = name_problem(frame)
            if not problem and frame not in self._graph.caches:
                problem = 'frame does not exist'
            if problem:
                return (
                    f'Invalid frame ID "{frame}" passed to canTransform argument {argument} '
                    f'- {problem}'
                )
        return ''


def to_nanoseconds(time: Any) -> int:
    """Of a builtin_interfaces or rclpy Time or Duration."""
    if hasattr(time, 'sec') and hasattr(time, 'nanosec'):
        return time.sec * NANOSECONDS + time.nanosec
    if hasattr(time, 'nanoseconds'):
        return time.nanoseconds
    raise TypeError('time must have sec and nanosec, or nanoseconds.')


def _link_problem(child: str, link: StampedLink) -> str:
    if child == link.parent:
        return 'TF_SELF_TRANSFORM'
    if not child:
        return 'TF_NO_CHILD_FRAME_ID'
    if not link.parent:
        return 'TF_NO_FRAME_ID'
    if any(map(math.isnan, link.translation)) or not all(map(math.isfinite, link.rotation)):
        return 'TF_NAN_INPUT'
    # tf2 normalizes every other quaternion, however long, before it looks at its length.
    if not any(link.rotation):
        return 'TF_DENORMALIZED_QUATERNION'
    return ''


def _to_message(
    T_target_source: RigidTransform, target: str, source: str, time_ns: int
) -> TransformStamped:
    message = TransformStamped()
    message.header.frame_id = target
    message.header.stamp = Time(nanoseconds=time_ns).to_msg()
    message.child_frame_id = source
    translation, rotation = message.transform.translation, message.transform.rotation
    translation.x, translation.y, translation.z = T_target_source.translation.tolist()
    quaternion = T_target_source.rotation.as_quat(canonical=True)
    rotation.x, rotation.y, rotation.z, rotation.w = quaternion.tolist()
    return message
