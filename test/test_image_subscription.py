# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The subscription that hears its publishers, or says why it cannot, over DDS."""

import gc
import threading
import time
import weakref

import pytest

pytest.importorskip('rclpy', reason='needs ROS 2 (or its wheels)')

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image

from implicit_relocalizer.ros.image_subscription import (
    ImageSubscription,
    choose_reliability,
    compressed_topic,
)

BEST_EFFORT, RELIABLE = ReliabilityPolicy.BEST_EFFORT, ReliabilityPolicy.RELIABLE
CAMERA_TOPIC = '/camera/image'


@pytest.mark.parametrize(('publishers', 'chosen'), [
    ([], None), ([RELIABLE], RELIABLE), ([RELIABLE, RELIABLE], RELIABLE),
    ([BEST_EFFORT], BEST_EFFORT), ([RELIABLE, BEST_EFFORT], BEST_EFFORT)])
def test_the_most_reliable_policy_that_hears_everyone(publishers, chosen):
    assert choose_reliability(publishers) == chosen


class Graph:
    """A listener that is spun and a camera, each a participant of its own.

    The listener runs under simulated time, which nobody publishes.
    """

    def __init__(self, domain_id: int) -> None:
        self._contexts = [rclpy.Context(), rclpy.Context()]
        for context in self._contexts:
            rclpy.init(context=context, domain_id=domain_id)
        self.executor = SingleThreadedExecutor(context=self._contexts[0])
        self.camera = rclpy.create_node('camera', context=self._contexts[1])
        self.listener = self.make_listener(f'image:={CAMERA_TOPIC}')

    def make_listener(self, *remappings: str, namespace: str = '') -> rclpy.node.Node:
        rules = [part for rule in remappings for part in ('-r', rule)]
        node = rclpy.create_node(
            'listener', context=self._contexts[0], namespace=namespace,
            use_global_arguments=False, cli_args=['--ros-args', *rules] if rules else None,
            parameter_overrides=[Parameter('use_sim_time', value=True)])
        self.executor.add_node(node)
        return node

    def publisher(self, reliability=RELIABLE, message_type=Image, topic=CAMERA_TOPIC):
        return self.camera.create_publisher(
            message_type, topic, QoSProfile(depth=10, reliability=reliability))

    def subscribed_with(self, topic: str = CAMERA_TOPIC) -> list[ReliabilityPolicy]:
        return [info.qos_profile.reliability
                for info in self.camera.get_subscriptions_info_by_topic(topic)]

    def spin(self, duration_s: float) -> None:
        end_s = time.monotonic() + duration_s
        while time.monotonic() < end_s:
            self.executor.spin_once(0.02)

    def wait_for(self, condition) -> None:
        end_s = time.monotonic() + 15.0
        while not condition():
            assert time.monotonic() < end_s, 'waited in vain'
            self.executor.spin_once(0.02)

    def end(self) -> None:
        for context in self._contexts:
            context.try_shutdown()


@pytest.fixture
def graph(ros_domain_id):
    graph = Graph(ros_domain_id)
    yield graph
    graph.end()


def test_auto_hears_whichever_camera_comes_and_is_reliable_where_it_can_be(graph, capfd):
    heard: list[int] = []
    subscription = ImageSubscription(graph.listener, 'raw', 'auto', 1,
                                     lambda image: heard.append(image.width))
    assert subscription.topic_name == CAMERA_TOPIC
    graph.wait_for(lambda: graph.subscribed_with() == [BEST_EFFORT])  # nobody there: hear everyone
    for width, offered in ((1, RELIABLE), (2, BEST_EFFORT), (3, RELIABLE)):
        publisher = graph.publisher(offered)
        graph.wait_for(lambda offered=offered: graph.subscribed_with() == [offered])
        assert subscription.heard_reliability == offered

        def is_heard(publisher=publisher, width=width) -> bool:
            publisher.publish(Image(width=width))
            return width in heard

        graph.wait_for(is_heard)
        graph.camera.destroy_publisher(publisher)
    assert 'image_reliability' not in capfd.readouterr().err  # nothing that needs a remedy


def test_a_publisher_of_lesser_reliability_is_warned_of_once_with_the_remedy(graph, capfd):
    heard: list[Image] = []
    subscription = ImageSubscription(graph.listener, 'raw', 'reliable', 1, heard.append)
    publishers = [graph.publisher(BEST_EFFORT), graph.publisher(BEST_EFFORT)]
    output = ''

    def is_warned() -> bool:
        nonlocal output
        output += capfd.readouterr().err
        return 'image_reliability' in output

    graph.wait_for(is_warned)
    publishers.append(graph.publisher(BEST_EFFORT))
    for publisher in publishers:
        publisher.publish(Image())
    graph.spin(0.5)
    output += capfd.readouterr().err
    assert output.count('image_reliability is reliable') == 1
    assert (f"'{CAMERA_TOPIC}' offers RELIABILITY best_effort" in output and
            'set image_reliability to auto or best_effort' in output)
    assert not heard and subscription.heard_reliability == RELIABLE


def test_images_of_the_other_transport_are_warned_of_and_the_remedy_helps(graph, capfd):
    topic = f'{CAMERA_TOPIC}/compressed'
    heard: list[CompressedImage] = []
    publisher = graph.publisher(BEST_EFFORT, CompressedImage, topic)
    wrong = ImageSubscription(graph.make_listener(f'image:={topic}'), 'raw', 'auto', 1, print)
    output = ''

    def is_warned() -> bool:
        nonlocal output
        output += capfd.readouterr().err
        return 'set image_transport to compressed' in output

    graph.wait_for(is_warned)
    remedy = f'image/compressed:={topic}'
    assert remedy in output
    wrong.destroy()
    ImageSubscription(graph.make_listener(remedy), 'compressed', 'auto', 1, heard.append)

    def is_heard() -> bool:
        publisher.publish(CompressedImage(format='jpeg'))
        return bool(heard)

    graph.wait_for(is_heard)


@pytest.mark.parametrize(('rules', 'expected'), [
    ([], '/robot/image/compressed'),
    (['image:=/camera/image_raw'], '/camera/image_raw/compressed'),
    (['image:=front/image'], '/robot/front/image/compressed'),
    (['image:=/camera/image_raw/compressed'], '/camera/image_raw/compressed'),
    (['image:=/camera/image_raw', 'image/compressed:=/other/jpeg'], '/other/jpeg'),
])
def test_compressed_images_are_below_the_topic_that_image_was_remapped_to(graph, rules, expected):
    listener = graph.make_listener(*rules, namespace='/robot')
    assert listener.resolve_topic_name(compressed_topic(listener)) == expected
    subscription = ImageSubscription(listener, 'compressed', 'best_effort', 1, print)
    assert subscription.topic_name == expected
    graph.wait_for(lambda: graph.subscribed_with(expected) == [BEST_EFFORT])


def test_as_many_images_wait_as_the_depth_says(graph):
    heard: list[int] = []
    ImageSubscription(graph.listener, 'raw', 'reliable', 2,
                      lambda image: heard.append(image.width))
    publisher = graph.publisher()
    graph.wait_for(lambda: publisher.get_subscription_count() == 1)
    graph.spin(0.3)  # the other side may still be matching
    for width in range(1, 6):
        publisher.publish(Image(width=width))
    assert publisher.wait_for_all_acked()
    graph.wait_for(lambda: 5 in heard)
    assert heard == [4, 5]


def test_nothing_is_left_after_fifty_times(graph):
    node = graph.listener

    def owned() -> list[int]:
        return [len(list(things)) for things in (node.subscriptions, node.timers, node.waitables,
                                                 threading.enumerate())]

    publisher = graph.publisher(RELIABLE)
    graph.wait_for(lambda: node.count_publishers(CAMERA_TOPIC) == 1)
    before, heard, remains = owned(), [], []
    for _ in range(50):
        # Begins as best effort and is replaced at once, because the camera is reliable.
        subscription = ImageSubscription(node, 'raw', 'auto', 1, heard.append)
        assert subscription.heard_reliability == RELIABLE
        assert owned() > before
        remains.append(weakref.ref(subscription))
        graph.executor.spin_once(0.0)
        subscription.destroy()
        subscription.destroy()
        assert subscription.topic_name == CAMERA_TOPIC
    del subscription
    graph.wait_for(lambda: not graph.subscribed_with())
    publisher.publish(Image())
    graph.spin(0.1)
    gc.collect()
    assert owned() == before and not heard
    assert [reference() for reference in remains] == [None] * 50


def test_it_can_end_in_its_own_callback_and_after_the_shutdown(graph):
    heard: list[int] = []

    def take(image: Image) -> None:
        heard.append(image.width)
        subscription.destroy()

    subscription = ImageSubscription(graph.listener, 'raw', 'auto', 5, take)
    late = ImageSubscription(graph.make_listener(), 'raw', 'auto', 5, print)
    publisher = graph.publisher()

    def is_heard() -> bool:
        publisher.publish(Image(width=1))
        return bool(heard)

    graph.wait_for(is_heard)
    publisher.publish(Image(width=2))
    graph.spin(0.2)
    graph.wait_for(lambda: not graph.subscribed_with())
    assert heard == [1]
    graph.end()
    late.destroy()
