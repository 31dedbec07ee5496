# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Transforms between processes, over DDS."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

pytest.importorskip('rclpy', reason='rclpy is not installed: neither ROS 2 nor its wheels')
pytest.importorskip('tf2_ros', reason='tf2_ros is not installed: pip_overlay/README.md says how')

# Long enough for a loaded machine; nothing waits this long unless it has failed.
DEADLINE_S = 60.0

PREAMBLE = """
import json, rclpy
from geometry_msgs.msg import TransformStamped
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.time import Time
from tf2_ros import (Buffer, StaticTransformBroadcaster, TransformBroadcaster,
                     TransformListener)

def transform(parent, child, x):
    message = TransformStamped()
    message.header.frame_id, message.child_frame_id = parent, child
    message.transform.translation.x = x
    message.transform.rotation.w = 1.0
    return message

def say(**values):
    print(json.dumps(values), flush=True)

rclpy.init()
"""

MOVING_SENDER = """
node = Node('sender')
broadcaster = TransformBroadcaster(node)
def send():
    now = node.get_clock().now().to_msg()
    moving = [transform('map', 'odom', 1.0), transform('odom', 'base', 2.0)]
    for message in moving:
        message.header.stamp = now
    broadcaster.sendTransform(moving)
node.create_timer(0.05, send)
say(ready=True)
rclpy.spin(node)
"""

BLOCKING_RECEIVER = """
buffer, node = Buffer(), Node('receiver')
listener = TransformListener(buffer, node, spin_thread=True)
found = buffer.lookup_transform('map', 'base', Time(), timeout=Duration(seconds=60))
say(x=found.transform.translation.x, sec=found.header.stamp.sec)
rclpy.shutdown()
listener.dedicated_listener_thread.join()
"""

STATIC_SENDER = """
node = Node('sender')
broadcaster = StaticTransformBroadcaster(node)
broadcaster.sendTransform(transform('base', 'camera', 1.0))
broadcaster.sendTransform([transform('base', 'lidar', 2.0)])
broadcaster.sendTransform(transform('base', 'camera', 3.0))
say(ready=True)
rclpy.spin(node)
"""

LATE_JOINER = """
buffer, node = Buffer(), Node('late_joiner')
listener = TransformListener(buffer, node)
future = buffer.wait_for_transform_async('lidar', 'camera', Time())
rclpy.spin_until_future_complete(node, future, timeout_sec=60)
say(x=future.result().transform.translation.x)
"""


class Process:
    """A Python process that says JSON, one object a line."""

    def __init__(self, script: str, domain_id: int) -> None:
        environment = os.environ | {
            'ROS_DOMAIN_ID': str(domain_id),
            'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST',
        }
        self.popen = subprocess.Popen(
            [sys.executable, '-c', PREAMBLE + script],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def answer(self) -> dict:
        """The next object that the process says; fails if it ends or stays silent."""
        line = self._lines.get(timeout=DEADLINE_S)
        assert line, 'the process ended without an answer'
        return json.loads(line)

    def _read(self) -> None:
        assert self.popen.stdout is not None
        for line in self.popen.stdout:
            if line.startswith('{'):
                self._lines.put(line)
        self._lines.put('')

    def end(self) -> None:
        self.popen.kill()
        self.popen.wait()
        self._reader.join()
        assert self.popen.stdout is not None
        self.popen.stdout.close()


@contextmanager
def running(script: str, domain_id: int) -> Iterator[Process]:
    process = Process(script, domain_id)
    try:
        yield process
    finally:
        process.end()


def test_transforms_reach_a_blocking_lookup_in_another_process() -> None:
    with running(BLOCKING_RECEIVER, 61) as receiver, running(MOVING_SENDER, 61) as sender:
        assert sender.answer() == {'ready': True}
        found = receiver.answer()
        assert found['x'] == pytest.approx(3.0)
        assert found['sec'] > 0
        assert receiver.popen.wait(timeout=DEADLINE_S) == 0


def test_a_late_joiner_gets_all_static_transforms() -> None:
    with running(STATIC_SENDER, 62) as sender:
        assert sender.answer() == {'ready': True}
        with running(LATE_JOINER, 62) as late_joiner:
            # The camera at 3 m, the lidar at 2 m: sent in three messages, the last repeats all.
            assert late_joiner.answer() == {'x': pytest.approx(1.0)}
