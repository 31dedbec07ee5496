# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The subscription that is as reliable as its publishers, over DDS."""

import time

import pytest

pytest.importorskip('rclpy', reason='needs ROS 2 (or its wheels)')

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

from implicit_relocalizer.ros.image_subscription import ImageSubscription, choose_reliability

BEST_EFFORT, RELIABLE = ReliabilityPolicy.BEST_EFFORT, ReliabilityPolicy.RELIABLE


@pytest.mark.parametrize(('publishers', 'chosen'), [
    ([], None), ([RELIABLE], RELIABLE), ([RELIABLE, RELIABLE], RELIABLE),
    ([BEST_EFFORT], BEST_EFFORT), ([RELIABLE, BEST_EFFORT], BEST_EFFORT)])
def test_the_most_reliable_policy_that_hears_everyone(publishers, chosen):
    assert choose_reliability(publishers) == chosen


@pytest.fixture
def nodes(ros_domain_id):
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=ros_domain_id)
    executor = SingleThreadedExecutor(context=context)
    nodes = [rclpy.create_node(name, context=context, use_global_arguments=False,
                               cli_args=['--ros-args', '-r', 'image:=camera/image'])
             for name in ('listener', 'camera')]
    for node in nodes:
        executor.add_node(node)
    yield executor, *nodes
    context.try_shutdown()


def test_auto_hears_whichever_camera_comes_and_is_reliable_where_it_can_be(nodes):
    executor, listener, camera = nodes
    heard: list[int] = []
    subscription = ImageSubscription(listener, 'auto', lambda image: heard.append(image.width))
    assert subscription.topic_name == '/camera/image'

    def wait_for(condition) -> None:
        end_s = time.monotonic() + 15.0
        while not condition():
            assert time.monotonic() < end_s, 'waited in vain'
            executor.spin_once(0.02)

    def subscribed_with() -> list[ReliabilityPolicy]:
        return [info.qos_profile.reliability
                for info in camera.get_subscriptions_info_by_topic('/camera/image')]

    wait_for(lambda: subscribed_with() == [BEST_EFFORT])  # nobody there: hear everyone
    for width, offered in ((1, RELIABLE), (2, BEST_EFFORT), (3, RELIABLE)):
        qos = QoSProfile(depth=1, reliability=offered)
        publisher = camera.create_publisher(Image, 'image', qos)
        wait_for(lambda offered=offered: subscribed_with() == [offered])

        def is_heard(publisher=publisher, width=width) -> bool:
            publisher.publish(Image(width=width))
            return width in heard

        wait_for(is_heard)
        camera.destroy_publisher(publisher)
