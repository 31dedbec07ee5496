# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Bags of a run: replaced by the next run, never at the cost of something else."""

import pytest

pytest.importorskip('rclpy', reason='needs ROS 2 (or its wheels)')
pytest.importorskip('tf2_msgs', reason='needs tf2_msgs (or pip_overlay)')

from geometry_msgs.msg import PoseStamped
from rclpy.serialization import serialize_message
from rosbags.highlevel import AnyReader

from implicit_relocalizer.ros.drive_recorder import (
    RecordedMessage,
    ros_type_name,
    stamp_from_ns,
    stamp_to_ns,
    write_bag,
)


def pose_record(time_ns: int, x: float) -> RecordedMessage:
    message = PoseStamped()
    message.header.stamp = stamp_from_ns(time_ns)
    message.pose.position.x = x
    return RecordedMessage('/pose', ros_type_name(PoseStamped), time_ns,
                           serialize_message(message))


def read_positions(path) -> list[tuple[int, float]]:
    with AnyReader([path]) as reader:
        return [(time_ns, reader.deserialize(raw, connection.msgtype).pose.position.x)
                for connection, time_ns, raw in reader.messages()]


def test_a_bag_is_read_back_in_order_of_time_and_replaced(tmp_path):
    bag = tmp_path / 'bag'
    write_bag(bag, [pose_record(2_000_000_001, 2.5), pose_record(1_000_000_000, 1.5)])
    assert read_positions(bag) == [(1_000_000_000, 1.5), (2_000_000_001, 2.5)]
    write_bag(bag, [pose_record(7, 0.5)])
    assert read_positions(bag) == [(7, 0.5)]


def test_an_unfinished_bag_is_replaced_but_nothing_else(tmp_path):
    bag = tmp_path / 'bag'
    bag.mkdir()
    (bag / 'bag.mcap').write_bytes(b'cut off')
    write_bag(bag, [pose_record(7, 0.5)])
    assert read_positions(bag) == [(7, 0.5)]
    (bag / 'notes.txt').write_text('mine')
    with pytest.raises(FileExistsError, match='more than a bag'):
        write_bag(bag, [pose_record(8, 0.5)])
    assert (bag / 'notes.txt').read_text() == 'mine'


def test_stamps_keep_their_nanoseconds():
    stamp_ns = 1_795_385_772_341_777_508
    assert stamp_to_ns(stamp_from_ns(stamp_ns)) == stamp_ns
