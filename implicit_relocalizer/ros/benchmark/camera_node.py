# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The camera of a measurement as a ROS node, and whoever wants its answers."""

from __future__ import annotations

import struct
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped, TransformStamped
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from tf2_msgs.msg import TFMessage

from implicit_relocalizer.ros.benchmark.plan import NAMESPACES, NODE, NODE_NAME, Plan

CAMERA_FRAME = 'camera_optical_frame'
_STAMP_OFFSET = 4  # behind the CDR encapsulation: the header comes first, its stamp before all
_QUEUE_DEPTH = 100


@dataclass
class Target:
    """A node that images are sent to: who publishes them, and what came back."""

    images: Publisher
    infos: Publisher
    pose_topic: str
    received_ns: dict[int, int] = field(default_factory=dict)  # by stamp


class Camera(Node):
    """Publishes images that were serialized before, as a driver in C++ might."""

    def __init__(self, plan: Plan, images: NDArray[np.uint8]) -> None:
        """
        Args:
            plan: Which targets there are.
            images: (n, H, W, 3) RGB.
        """
        super().__init__('camera')
        make = make_raw if plan.transport == 'raw' else make_compressed
        self._images = [bytearray(serialize_message(make(image, plan.encoding)))
                        for image in images]
        self._info = make_info(images.shape[2], images.shape[1], plan.K_33)
        self._is_raw = plan.transport == 'raw'
        self.news = threading.Condition()
        self.status: dict[str, str] = {}
        self.statuses_heard = 0
        self.targets = {name: self._make_target(name) for name in plan.targets
                        if name in NAMESPACES}
        self.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, 10)
        if plan.tf_rate_hz > 0.0:
            self._transforms = self.create_publisher(TFMessage, '/tf', _QUEUE_DEPTH)
            self.create_timer(1.0 / plan.tf_rate_hz, self._send_odometry)

    def missing(self) -> list[str]:
        """What is not connected yet, for people."""
        return [f'nobody subscribes to {publisher.topic_name}'
                for target in self.targets.values()
                for publisher in (target.images, target.infos)
                if not publisher.get_subscription_count()
                and (publisher is target.images or target is self.targets.get(NODE))
                ] + [f'nobody publishes {target.pose_topic}' for target in self.targets.values()
                     if not self.count_publishers(target.pose_topic)]

    def send(self, name: str, number: int) -> tuple[int, int]:
        """Publish an image, then its CameraInfo as image_transport does.

        Returns:
            Its stamp, and the monotonic time just before, nanoseconds.
        """
        target = self.targets[name]
        stamp_ns = time.time_ns()
        serialized = self._images[number % len(self._images)]
        struct.pack_into('<iI', serialized, _STAMP_OFFSET, *divmod(stamp_ns, 1_000_000_000))
        message = bytes(serialized)
        self._info.header.stamp = stamp_from_ns(stamp_ns)
        sent_ns = time.monotonic_ns()
        target.images.publish(message)
        target.infos.publish(self._info)
        return stamp_ns, sent_ns

    def is_answered(self, name: str, stamp_ns: int, patience_s: float) -> bool:
        """Wait for the answer to an image."""
        received_ns = self.targets[name].received_ns
        with self.news:
            return self.news.wait_for(lambda: stamp_ns in received_ns, patience_s)

    def hear_status(self, patience_s: float) -> dict[str, str]:
        """The node's next diagnostics, or the last ones where none come."""
        with self.news:
            before = self.statuses_heard
            self.news.wait_for(lambda: self.statuses_heard > before, patience_s)
            return dict(self.status)

    def _make_target(self, name: str) -> Target:
        namespace, qos = NAMESPACES[name], QoSProfile(depth=5)  # a driver's usual, reliable
        pose_topic = f'{namespace}/{NODE_NAME}/pose'
        target = Target(
            self.create_publisher(Image, f'{namespace}/image', qos) if self._is_raw else
            self.create_publisher(CompressedImage, f'{namespace}/image/compressed', qos),
            self.create_publisher(CameraInfo, f'{namespace}/camera_info', qos), pose_topic)
        self.create_subscription(
            PoseStamped, pose_topic, lambda pose: self._on_pose(target, pose),
            QoSProfile(depth=_QUEUE_DEPTH))
        return target

    def _on_pose(self, target: Target, pose: PoseStamped) -> None:
        now_ns = time.monotonic_ns()
        stamp = pose.header.stamp
        with self.news:
            target.received_ns.setdefault(stamp.sec * 1_000_000_000 + stamp.nanosec, now_ns)
            self.news.notify_all()

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        with self.news:
            for status in message.status:
                self.status = {item.key: item.value for item in status.values}
                self.statuses_heard += 1
            self.news.notify_all()

    def _send_odometry(self) -> None:
        transform = TransformStamped(child_frame_id='base_link')
        transform.header.frame_id = 'odom'
        transform.header.stamp = stamp_from_ns(time.time_ns())
        self._transforms.publish(TFMessage(transforms=[transform]))


def make_raw(rgb_hw3: NDArray[np.uint8], encoding: str) -> Image:
    """An unstamped Image in rgb8 or bgr8."""
    height, width = rgb_hw3.shape[:2]
    pixels = rgb_hw3 if encoding == 'rgb8' else rgb_hw3[..., ::-1]
    image = Image(height=height, width=width, encoding=encoding, step=3 * width)
    image.data.frombytes(pixels.tobytes())
    image.header.frame_id = CAMERA_FRAME
    return image


def make_compressed(rgb_hw3: NDArray[np.uint8], encoding: str) -> CompressedImage:
    """An unstamped JPEG image, as compressed_image_transport makes it of one in `encoding`."""
    _, data = cv2.imencode('.jpg', cv2.cvtColor(rgb_hw3, cv2.COLOR_RGB2BGR))
    image = CompressedImage(format=f'{encoding}; jpeg compressed bgr8')
    image.data.frombytes(data.tobytes())
    image.header.frame_id = CAMERA_FRAME
    return image


def make_info(width: int, height: int, K_33: tuple[float, ...]) -> CameraInfo:
    """An unstamped CameraInfo of a camera without distortion."""
    P_34: Any = np.hstack([np.reshape(K_33, (3, 3)), np.zeros((3, 1))])
    info = CameraInfo(width=width, height=height, distortion_model='plumb_bob', d=[0.0] * 5,
                      k=list(K_33), r=np.eye(3).ravel(), p=P_34.ravel())
    info.header.frame_id = CAMERA_FRAME
    return info


def stamp_from_ns(stamp_ns: int) -> Time:
    """Nanoseconds since the epoch as a stamp."""
    seconds, nanoseconds = divmod(stamp_ns, 1_000_000_000)
    return Time(sec=seconds, nanosec=nanoseconds)
