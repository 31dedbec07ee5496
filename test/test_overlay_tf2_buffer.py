# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The transform buffer against the documented behaviour of tf2; no process talks to another."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator

import pytest

pytest.importorskip('rclpy', reason='rclpy is not installed: neither ROS 2 nor its wheels')
pytest.importorskip('tf2_ros', reason='tf2_ros is not installed: pip_overlay/README.md says how')

import rclpy
import tf2_ros
from geometry_msgs.msg import TransformStamped
from rclpy.clock import ROSClock
from rclpy.context import Context
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.time import Time
from tf2_ros import Buffer

DOMAIN_ID = 60


def transform(
    parent: str,
    child: str,
    stamp_s: float,
    xyz: tuple[float, float, float] = (0.0, 0.0, 0.0),
    yaw: float = 0.0,
) -> TransformStamped:
    """The pose of child in parent, turned about z."""
    message = TransformStamped()
    message.header.frame_id, message.child_frame_id = parent, child
    message.header.stamp = at(stamp_s).to_msg()
    translation, rotation = message.transform.translation, message.transform.rotation
    translation.x, translation.y, translation.z = xyz
    rotation.z, rotation.w = math.sin(yaw / 2), math.cos(yaw / 2)
    return message


def at(stamp_s: float) -> Time:
    return Time(nanoseconds=round(stamp_s * 1e9))


def filled(*transforms: TransformStamped) -> Buffer:
    buffer = Buffer()
    for message in transforms:
        buffer.set_transform(message, 'test')
    return buffer


def xyz_of(message: TransformStamped) -> tuple[float, float, float]:
    translation = message.transform.translation
    return translation.x, translation.y, translation.z


def yaw_of(message: TransformStamped) -> float:
    return 2 * math.atan2(message.transform.rotation.z, message.transform.rotation.w)


def stamp_s_of(message: TransformStamped) -> float:
    return message.header.stamp.sec + message.header.stamp.nanosec * 1e-9


@pytest.fixture
def node() -> Iterator[Node]:
    context = Context()
    rclpy.init(context=context, domain_id=DOMAIN_ID)
    node = rclpy.create_node('overlay_buffer', context=context)
    yield node
    node.destroy_node()
    rclpy.shutdown(context=context)


def test_lookup_maps_source_coordinates_to_the_target() -> None:
    buffer = filled(
        transform('map', 'odom', 1.0, (10.0, 0.0, 0.0), math.pi / 2),
        transform('odom', 'base', 1.0, (1.0, 0.0, 0.0)),
        transform('map', 'goal', 1.0, (10.0, 3.0, 0.0)),
    )
    # The base is 1 m ahead of odom, and odom looks along the map's y.
    T_map_base = buffer.lookup_transform('map', 'base', at(1.0))
    assert xyz_of(T_map_base) == pytest.approx((10.0, 1.0, 0.0))
    assert yaw_of(T_map_base) == pytest.approx(math.pi / 2)
    assert (T_map_base.header.frame_id, T_map_base.child_frame_id) == ('map', 'base')
    # Down the tree, and across it: the goal is 2 m ahead of the base.
    T_base_map = buffer.lookup_transform('base', 'map', at(1.0))
    assert xyz_of(T_base_map) == pytest.approx((-1.0, 10.0, 0.0))
    assert xyz_of(buffer.lookup_transform('base', 'goal', at(1.0))) == pytest.approx((2, 0, 0))


def test_interpolates_positions_linearly_and_rotations_along_the_shorter_arc() -> None:
    buffer = filled(
        transform('map', 'base', 1.0, (0.0, 0.0, 0.0), math.radians(170)),
        transform('map', 'base', 2.0, (4.0, 8.0, 0.0), math.radians(-170)),
    )
    quarter = buffer.lookup_transform('map', 'base', at(1.25))
    assert xyz_of(quarter) == pytest.approx((1.0, 2.0, 0.0))
    assert math.degrees(yaw_of(quarter)) % 360 == pytest.approx(175.0)
    assert stamp_s_of(quarter) == pytest.approx(1.25)


def test_stamps_may_arrive_out_of_order() -> None:
    buffer = filled(
        transform('map', 'base', 3.0, (3.0, 0.0, 0.0)),
        transform('map', 'base', 1.0, (1.0, 0.0, 0.0)),
        transform('map', 'base', 2.0, (9.0, 0.0, 0.0)),
    )
    assert xyz_of(buffer.lookup_transform('map', 'base', at(1.5)))[0] == pytest.approx(5.0)
    assert xyz_of(buffer.lookup_transform('map', 'base', Time()))[0] == pytest.approx(3.0)


def test_time_zero_is_the_latest_common_time() -> None:
    buffer = filled(
        transform('map', 'odom', 1.0),
        transform('map', 'odom', 2.0),
        transform('odom', 'base', 1.0, (1.0, 0.0, 0.0)),
        transform('odom', 'base', 3.0, (3.0, 0.0, 0.0)),
    )
    latest = buffer.lookup_transform('map', 'base', Time())
    assert stamp_s_of(latest) == pytest.approx(2.0)
    assert xyz_of(latest) == pytest.approx((2.0, 0.0, 0.0))
    buffer.set_transform_static(transform('base', 'camera', 0.0, (0.0, 0.0, 1.0)), 'test')
    assert stamp_s_of(buffer.lookup_transform('map', 'camera', Time())) == pytest.approx(2.0)


@pytest.mark.parametrize(('time_s', 'words'), [(0.5, 'into the past'), (2.5, 'into the future')])
def test_outside_of_the_covered_time_is_an_extrapolation_exception(
    time_s: float, words: str
) -> None:
    buffer = filled(transform('map', 'base', 1.0), transform('map', 'base', 2.0))
    with pytest.raises(tf2_ros.ExtrapolationException, match=words):
        buffer.lookup_transform('map', 'base', at(time_s))
    possible, reason = buffer.can_transform('map', 'base', at(time_s), return_debug_tuple=True)
    assert not possible and words in reason


def test_one_datum_answers_only_its_own_time() -> None:
    buffer = filled(transform('map', 'base', 1.0, (1.0, 0.0, 0.0)))
    assert xyz_of(buffer.lookup_transform('map', 'base', at(1.0)))[0] == 1.0
    with pytest.raises(tf2_ros.ExtrapolationException, match=r'only time 1\.000000'):
        buffer.lookup_transform('map', 'base', at(1.1))


def test_unknown_and_impossible_names_and_separate_trees() -> None:
    buffer = filled(transform('map', 'base', 1.0), transform('world', 'arm', 1.0))
    with pytest.raises(tf2_ros.LookupException, match='"nowhere"'):
        buffer.lookup_transform('map', 'nowhere', Time())
    with pytest.raises(tf2_ros.InvalidArgumentException):
        buffer.lookup_transform('map', '/base', Time())
    with pytest.raises(tf2_ros.InvalidArgumentException):
        buffer.lookup_transform('', 'base', Time())
    with pytest.raises(tf2_ros.ConnectivityException):
        buffer.lookup_transform('map', 'arm', Time())
    assert not buffer.can_transform('map', 'nowhere', Time())
    assert buffer.can_transform('nowhere', 'nowhere', Time())


def test_exceptions_derive_directly_from_transform_exception() -> None:
    names = ('Lookup', 'Connectivity', 'Extrapolation', 'InvalidArgument', 'Timeout')
    for name in names:
        exception = getattr(tf2_ros, f'{name}Exception')
        assert exception.__bases__ == (tf2_ros.TransformException,)
    assert tf2_ros.TransformException.__bases__ == (Exception,)


def test_keeps_ten_seconds_by_default() -> None:
    buffer = filled(*(transform('map', 'base', float(s)) for s in range(1, 15)))
    assert buffer.can_transform('map', 'base', at(4.5))
    assert not buffer.can_transform('map', 'base', at(2.5))
    buffer.set_transform(transform('map', 'base', 2.0), 'test')  # too old to be taken in
    assert not buffer.can_transform('map', 'base', at(2.5))
    short = Buffer(cache_time=Duration(seconds=2))
    for stamp_s in range(1, 10):
        short.set_transform(transform('map', 'base', float(stamp_s)), 'test')
    assert not short.can_transform('map', 'base', at(5.0))


def test_static_transforms_hold_at_all_times_and_outlive_clear() -> None:
    buffer = filled(transform('map', 'base', 1.0), transform('map', 'base', 2.0))
    buffer.set_transform_static(transform('base', 'camera', 50.0, (0.0, 0.0, 1.0)), 'test')
    assert xyz_of(buffer.lookup_transform('map', 'camera', at(1.5))) == pytest.approx((0, 0, 1))
    assert xyz_of(buffer.lookup_transform('base', 'camera', at(999.0)))[2] == 1.0
    buffer.clear()
    assert buffer.can_transform('base', 'camera', Time())
    assert not buffer.can_transform('map', 'base', Time())


def test_a_frame_can_change_its_parent() -> None:
    buffer = filled(
        transform('map', 'hand', 1.0),
        transform('map', 'cup', 1.0, (1.0, 0.0, 0.0)),
        transform('map', 'hand', 3.0, (5.0, 0.0, 0.0)),
        transform('hand', 'cup', 3.0, (0.0, 1.0, 0.0)),
    )
    assert xyz_of(buffer.lookup_transform('map', 'cup', at(3.0))) == pytest.approx((5, 1, 0))
    # In between nothing is interpolated across the change: the older link still holds.
    assert xyz_of(buffer.lookup_transform('map', 'cup', at(2.0))) == pytest.approx((1, 0, 0))


def test_unusable_transforms_are_ignored() -> None:
    nan = transform('map', 'a', 1.0, (math.nan, 0.0, 0.0))
    no_rotation = transform('map', 'b', 1.0)
    no_rotation.transform.rotation.w = 0.0
    buffer = filled(nan, no_rotation, transform('map', 'map', 1.0), transform('', 'c', 1.0))
    for frame in ('a', 'b', 'c'):
        assert not buffer.can_transform('map', frame, Time())


def test_full_lookup_compares_two_times_through_a_fixed_frame() -> None:
    buffer = filled(
        transform('odom', 'base', 1.0, (1.0, 0.0, 0.0)),
        transform('odom', 'base', 2.0, (4.0, 0.0, 0.0)),
    )
    moved = buffer.lookup_transform_full('base', at(2.0), 'base', at(1.0), 'odom')
    assert xyz_of(moved) == pytest.approx((-3.0, 0.0, 0.0))


def test_lookup_with_timeout_returns_when_the_transform_arrives() -> None:
    buffer = Buffer()
    with pytest.raises(tf2_ros.LookupException):
        buffer.lookup_transform('map', 'base', Time(), timeout=Duration(seconds=0.05))
    arrival = threading.Timer(
        0.1, buffer.set_transform, (transform('map', 'base', 1.0, (7.0, 0.0, 0.0)), 'test')
    )
    arrival.start()
    found = buffer.lookup_transform('map', 'base', Time(), timeout=Duration(seconds=30))
    arrival.join()
    assert xyz_of(found)[0] == 7.0


def test_future_is_answered_when_the_transform_arrives() -> None:
    buffer = filled(transform('map', 'base', 1.0))
    future = buffer.wait_for_transform_async('map', 'base', at(1.5))
    assert not future.done()
    buffer.set_transform(transform('map', 'base', 2.0, (2.0, 0.0, 0.0)), 'test')
    assert future.done()
    assert xyz_of(future.result())[0] == pytest.approx(1.0)


def test_a_jump_back_in_time_clears_the_buffer(node: Node) -> None:
    clock = node.get_clock()
    assert isinstance(clock, ROSClock)
    buffer = Buffer(node=node)
    node.set_parameters([rclpy.Parameter('use_sim_time', value=True)])
    clock.set_ros_time_override(Time(seconds=100, clock_type=clock.clock_type))
    buffer.set_transform(transform('map', 'base', 100.0), 'test')
    clock.set_ros_time_override(Time(seconds=101, clock_type=clock.clock_type))
    assert buffer.can_transform('map', 'base', Time())
    clock.set_ros_time_override(Time(seconds=50, clock_type=clock.clock_type))
    assert not buffer.can_transform('map', 'base', Time())
