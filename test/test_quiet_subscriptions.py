# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Subscriptions that are asked and wake nobody, over DDS."""

import time

import pytest

pytest.importorskip('rclpy', reason='needs ROS 2 (or its wheels)')

import rclpy
from rclpy.executors import SingleThreadedExecutor, TimeoutException
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.timer import Timer
from sensor_msgs.msg import CameraInfo

from implicit_relocalizer.ros.camera_info_subscription import CameraInfoSubscription
from implicit_relocalizer.ros.quiet_subscription import QuietSubscription

BEST_EFFORT, RELIABLE = ReliabilityPolicy.BEST_EFFORT, ReliabilityPolicy.RELIABLE
TOPIC = '/quiet/camera_info'


class CountingExecutor(SingleThreadedExecutor):
    """Counts its rounds: each looks at every timer once or twice."""

    rounds = 0

    def can_execute(self, entity) -> bool:
        self.rounds += isinstance(entity, Timer)
        return super().can_execute(entity)


@pytest.fixture
def nodes(context):
    """Who listens, a camera, and an executor of the first."""
    listener = rclpy.create_node('listener', context=context, namespace='quiet',
                                 start_parameter_services=False)
    camera = rclpy.create_node('camera', context=context)
    executor = CountingExecutor(context=context)
    listener.create_timer(3600.0, print)
    executor.add_node(listener)
    wait_until(lambda: listener.count_publishers(TOPIC) == 0)  # of the test before
    yield listener, camera, executor
    executor.shutdown()  # it holds what it waited for
    listener.destroy_node()
    camera.destroy_node()


def wait_until(condition, timeout_s: float = 15.0) -> None:
    end_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end_s, 'waited in vain'
        time.sleep(0.02)


def reliabilities(camera) -> list[ReliabilityPolicy]:
    return [info.qos_profile.reliability for info in camera.get_subscriptions_info_by_topic(TOPIC)]


def test_messages_wait_in_order_until_they_are_taken_and_wake_nobody(nodes):
    listener, camera, executor = nodes
    heard: list[int] = []
    quiet = QuietSubscription(listener, CameraInfo, 'camera_info',
                              lambda info: heard.append(info.width), QoSProfile(depth=3))
    assert quiet.topic_name == TOPIC
    publisher = camera.create_publisher(CameraInfo, TOPIC, 10)
    wait_until(lambda: publisher.get_subscription_count() == 1)
    time.sleep(0.3)  # the other side may still be matching
    for width in range(1, 6):
        publisher.publish(CameraInfo(width=width))
    assert publisher.wait_for_all_acked()
    executor.rounds = 0
    with pytest.raises(TimeoutException):
        executor.wait_for_ready_callbacks(0.5)
    assert heard == [] and executor.rounds < 10
    wait_until(lambda: quiet.take() or heard)
    assert heard == [3, 4, 5]  # as many as the depth says
    quiet.destroy()
    quiet.destroy()
    quiet.take()
    wait_until(lambda: not reliabilities(camera))


def test_a_publisher_that_cannot_be_heard_is_still_warned_of(nodes, capfd):
    listener, camera, executor = nodes
    quiet = QuietSubscription(
        listener, CameraInfo, 'camera_info', print,
        QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL))
    camera.create_publisher(CameraInfo, TOPIC, 10)
    output = ''
    end_s = time.monotonic() + 15.0
    while 'DURABILITY' not in output:
        assert time.monotonic() < end_s, 'no warning'
        executor.spin_once(0.05)
        output += capfd.readouterr().err
    quiet.destroy()


def test_camera_info_is_as_reliable_as_its_publishers_and_none_is_lost_at_the_change(nodes):
    listener, camera, _ = nodes
    heard: list[int] = []
    infos = CameraInfoSubscription(listener, lambda info: heard.append(info.width))
    infos.take()
    wait_until(lambda: reliabilities(camera) == [BEST_EFFORT])  # nobody there: hear everyone
    publisher = camera.create_publisher(
        CameraInfo, TOPIC, QoSProfile(depth=10, reliability=RELIABLE))
    wait_until(lambda: publisher.get_subscription_count() == 1)
    time.sleep(0.3)
    sent = 0

    def follow(wanted: list[ReliabilityPolicy]) -> bool:
        nonlocal sent
        sent += 1
        publisher.publish(CameraInfo(width=sent))
        wait_until(lambda: infos.take() or sent in heard)
        return reliabilities(camera) == wanted

    wait_until(lambda: follow([RELIABLE]))
    assert infos.heard_reliability == RELIABLE
    assert sorted(set(heard)) == list(range(1, sent + 1))
    other = camera.create_publisher(
        CameraInfo, TOPIC, QoSProfile(depth=1, reliability=BEST_EFFORT))
    wait_until(lambda: follow([BEST_EFFORT]))
    camera.destroy_publisher(other)
    infos.destroy()
    infos.destroy()
    wait_until(lambda: not reliabilities(camera))
