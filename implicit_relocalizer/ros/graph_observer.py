# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Watch a ROS graph for a few seconds, without taking part in it."""

from __future__ import annotations

import difflib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSCompatibility, QoSProfile, ReliabilityPolicy, qos_check_compatible
from rclpy.signals import SignalHandlerOptions
from rclpy.topic_endpoint_info import TopicEndpointInfo
from rosgraph_msgs.msg import Clock as ClockMessage
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from implicit_relocalizer.localization.bringup_observation import (
    CAMERA_INFO_TYPE,
    COMPRESSED_IMAGE_TYPE,
    IMAGE_TYPE,
    Clock,
    Computer,
    ImageSeen,
    Model,
    Observation,
    Publisher,
    Topic,
    resolve_expectation,
)
from implicit_relocalizer.localization.camera_check import (
    CameraCalibration,
    Size,
    calibration_from_message,
)
from implicit_relocalizer.localization.rejection import NoPoseError
from implicit_relocalizer.ros.image_decoding import rgb_from_msg
from implicit_relocalizer.ros.node_inquiry import NodeInquiry
from implicit_relocalizer.ros.transform_watch import TransformWatch, node_of

NODE_NAME = 'relocalizer_doctor'

_ENVIRONMENT = ('ROS_DOMAIN_ID', 'RMW_IMPLEMENTATION', 'ROS_AUTOMATIC_DISCOVERY_RANGE',
                'ROS_STATIC_PEERS', 'ROS_LOCALHOST_ONLY', 'ROS_DISCOVERY_SERVER')
_EVERY_NODES_TOPICS = {'/rosout', '/parameter_events'}
_TOPIC_TYPES = (IMAGE_TYPE, COMPRESSED_IMAGE_TYPE, CAMERA_INFO_TYPE)
_SPIN_LIMIT_S = 0.05
# DDS participants announce themselves when they start and, where that was lost, every 3 s.
_MAX_DISCOVERY_S = 4.0


@dataclass(frozen=True)
class Watch:
    """What to look at.

    Attributes:
        image, camera_info: Topics.
        compressed: The images are sensor_msgs/CompressedImage.
        node: Fully qualified name of the relocalizer; empty: none.
        namespaced_tf: Transforms are on tf and tf_static of the node's namespace.
        given: What the user expects, by the names of `Expectation`.
    """

    image: str = '/image'
    camera_info: str = '/camera_info'
    compressed: bool = False
    node: str = '/relocalizer'
    namespaced_tf: bool = False
    given: Mapping[str, Any] = field(default_factory=dict)


class GraphObserver(Node):
    """Hears everyone: best effort is what every publisher can serve."""

    def __init__(self, watch: Watch, context: Context) -> None:
        super().__init__(NODE_NAME, context=context, enable_rosout=False,
                         start_parameter_services=False, cli_args=_tf_arguments(watch))
        self._watch = watch
        self._started_s = time.monotonic()
        self._images: list[ImageSeen] = []
        self._newest_image: Image | CompressedImage | None = None
        self._camera_info: CameraInfo | None = None
        self._clock_ns: int | None = None
        self._clock_messages = 0
        self._transforms = TransformWatch(self)
        self._inquiry = NodeInquiry(self, watch.node) if watch.node else None
        best_effort = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)
        self._image_topic = self.create_subscription(
            CompressedImage if watch.compressed else Image, watch.image, self._on_image,
            best_effort).topic_name
        self._info_topic = self.create_subscription(
            CameraInfo, watch.camera_info, self._on_camera_info, best_effort).topic_name
        self.create_subscription(ClockMessage, '/clock', self._on_clock, best_effort)
        self.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, 10)

    def is_alone(self) -> bool:
        """Whether nothing of others was found."""
        return not any(self._other_nodes()) and not self._published_topics()

    def has_discovered(self) -> bool:
        """Whether the camera and the relocalizer, where one is looked for, were found."""
        nodes = set(self._other_nodes())
        return (self.count_publishers(self._image_topic) > 0
                and (self._watch.node in nodes if self._watch.node else bool(nodes)))

    def begin(self) -> None:
        """Let the watch begin now."""
        self._started_s = time.monotonic()
        self._images.clear()

    def inquire(self) -> None:
        """Ask the relocalizer what was not answered yet; to be called again and again."""
        if self._inquiry is not None:
            self._inquiry.ask()

    def observe(self, model: Model | None, computer: Computer) -> Observation:
        """Everything heard so far."""
        relocalizer = self._inquiry.observe() if self._inquiry is not None else None
        parameters = relocalizer.parameters if relocalizer is not None else {}
        frame = self._images[-1].frame_id if self._images else ''
        expected = resolve_expectation(self._watch.given, parameters, frame)
        image_size, image_problem = _read_size(self._newest_image)
        calibration, calibration_problem = _read_calibration(self._camera_info)
        topics = self._published_topics()
        type_name = COMPRESSED_IMAGE_TYPE if self._watch.compressed else IMAGE_TYPE
        found = {} if relocalizer is None else {'relocalizer': relocalizer}
        return Observation(
            seconds=round(time.monotonic() - self._started_s, 1),
            expected=expected,
            image=self._observe_topic(self._image_topic, type_name, topics),
            camera_info=self._observe_topic(self._info_topic, CAMERA_INFO_TYPE, topics),
            nodes=tuple(sorted(self._other_nodes())),
            topics=tuple(topics),
            images=tuple(self._images),
            image_size=image_size, image_problem=image_problem,
            calibration=calibration, calibration_problem=calibration_problem,
            transforms=self._transforms.observe(expected),
            clock=Clock(tuple(sorted({
                node_of(info) for info in self.get_publishers_info_by_topic('/clock')})),
                self._clock_messages),
            model=model, computer=computer, environment=_read_environment(), **found)

    def _on_image(self, message: Image | CompressedImage) -> None:
        stamp = message.header.stamp
        self._newest_image = message
        self._images.append(ImageSeen(
            time.monotonic() - self._started_s, stamp.sec * 1_000_000_000 + stamp.nanosec,
            time.time_ns(), self._clock_ns, message.header.frame_id))

    def _on_camera_info(self, message: CameraInfo) -> None:
        self._camera_info = message

    def _on_clock(self, message: ClockMessage) -> None:
        self._clock_messages += 1
        self._clock_ns = message.clock.sec * 1_000_000_000 + message.clock.nanosec

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name.startswith(f'{self._watch.node}: ') and self._inquiry is not None:
                self._inquiry.diagnostics = {pair.key: pair.value for pair in status.values}

    def _other_nodes(self) -> Iterator[str]:
        for name, namespace in self.get_node_names_and_namespaces():
            if name != NODE_NAME and not name.startswith('_'):
                yield f'{namespace.rstrip("/")}/{name}'

    def _published_topics(self) -> dict[str, list[str]]:
        """Types by topic, of those that somebody publishes."""
        return {name: types for name, types in self.get_topic_names_and_types()
                if name not in _EVERY_NODES_TOPICS and self.count_publishers(name)}

    def _observe_topic(self, name: str, type_name: str, topics: Mapping[str, list[str]]) -> Topic:
        publishers = self.get_publishers_info_by_topic(name)
        others = [(other, kind) for other, kinds in topics.items() if other != name
                  for kind in kinds if kind in _TOPIC_TYPES]
        others.sort(key=lambda pair: -difflib.SequenceMatcher(None, pair[0], name).ratio())
        return Topic(
            name, type_name,
            tuple(Publisher(node_of(info), info.topic_type, _describe_qos(info.qos_profile))
                  for info in publishers),
            tuple(others),
            tuple(_describe_incompatible(
                publishers, [info for info in self.get_subscriptions_info_by_topic(name)
                             if node_of(info) == self._watch.node])))


def observe_graph(watch: Watch, seconds: float, model: Model | None,
                  computer: Computer) -> Observation:
    """Join the graph of this environment, watch it for some seconds and leave it again.

    The watch begins when the camera and the relocalizer were found, or after the time that
    discovery may take; it ends there where nobody was found at all.
    """
    with _observing(watch) as (observer, spin_once):
        discovered_s = time.monotonic() + _MAX_DISCOVERY_S
        while not observer.has_discovered() and time.monotonic() < discovered_s:
            spin_once()
        if observer.is_alone():
            return observer.observe(model, computer)
        observer.begin()
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            observer.inquire()
            spin_once()
        return observer.observe(model, computer)


@contextmanager
def _observing(watch: Watch) -> Iterator[tuple[GraphObserver, Callable[[], None]]]:
    context = Context()
    # Python's own handling of Ctrl-C ends the watch; nothing here needs an orderly end.
    rclpy.init(args=[], context=context, signal_handler_options=SignalHandlerOptions.NO)
    try:
        observer = GraphObserver(watch, context)
        executor = SingleThreadedExecutor(context=context)
        executor.add_node(observer)
        try:
            yield observer, lambda: executor.spin_once(_SPIN_LIMIT_S)
        finally:
            executor.shutdown()
            observer.destroy_node()
    finally:
        context.try_shutdown()


def _tf_arguments(watch: Watch) -> list[str]:
    if not watch.namespaced_tf:
        return []
    namespace = watch.node.rpartition('/')[0]
    return ['--ros-args', '-r', f'/tf:={namespace}/tf',
            '-r', f'/tf_static:={namespace}/tf_static']


def _describe_incompatible(publishers: Iterable[TopicEndpointInfo],
                           subscriptions: list[TopicEndpointInfo]) -> Iterator[str]:
    for publisher in publishers:
        for subscription in subscriptions:
            verdict, reason = qos_check_compatible(
                publisher.qos_profile, subscription.qos_profile)
            if verdict == QoSCompatibility.ERROR:
                yield (f"'{node_of(publisher)}' offers {_describe_qos(publisher.qos_profile)}, "
                       f'the relocalizer asks for {_describe_qos(subscription.qos_profile)} '
                       f'({" ".join(reason.split()).rstrip(";. ")})')


def _describe_qos(qos: QoSProfile) -> str:
    return ', '.join(policy.name.lower().replace('_', ' ')
                     for policy in (qos.reliability, qos.durability))


def _read_size(image: Image | CompressedImage | None) -> tuple[Size | None, str]:
    """Width and height in pixels; or None and why the relocalizer cannot use such an image."""
    if image is None:
        return None, ''
    try:
        height, width, _ = rgb_from_msg(image).shape
    except NoPoseError as error:
        return None, str(error)
    return (width, height), ''


def _read_calibration(info: CameraInfo | None) -> tuple[CameraCalibration | None, str]:
    """The calibration, or None and what is wrong with it."""
    if info is None:
        return None, ''
    try:
        return calibration_from_message(info), ''
    except NoPoseError as error:
        return None, str(error)


def _read_environment() -> dict[str, str]:
    return {**{name: os.environ.get(name, '') for name in _ENVIRONMENT},
            'RMW_IMPLEMENTATION': rclpy.get_rmw_implementation_identifier()}
