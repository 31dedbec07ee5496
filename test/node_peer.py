# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Images for the model that answers with colours, and the robot around a node."""

from __future__ import annotations

import contextlib
import time
from array import array

import numpy as np
import rclpy
from colour_model import HEIGHT, WIDTH
from geometry_msgs.msg import PoseStamped, PoseWithCovarianceStamped
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CameraInfo, Image
from tf2_msgs.msg import TFMessage

K = [60.0, 0.0, 31.5, 0.0, 61.0, 23.5, 0.0, 0.0, 1.0]
P = [50.0, 0.0, 30.0, 0.0, 0.0, 51.0, 22.0, 0.0, 0.0, 0.0, 1.0, 0.0]
WAIT_S = 30.0
SHOW_AGAIN_S = 3.0  # best-effort messages are lost while two sides are still matching


def colour_image(colour, stamp: int, width: int = WIDTH, height: int = HEIGHT,
                 encoding: str = 'rgb8', padding: int = 0, frame_id: str = 'lens') -> Image:
    pixels = np.broadcast_to(np.array(colour, np.uint8), (height, width, len(colour)))
    rows = np.pad(pixels.reshape(height, -1), ((0, 0), (0, padding)), constant_values=255)
    image = Image(width=width, height=height, encoding=encoding, step=rows.shape[1],
                  data=array('B', rows.tobytes()))
    image.header.stamp.sec, image.header.frame_id = stamp, frame_id
    return image


def info(**changes) -> CameraInfo:
    return CameraInfo(**{'width': WIDTH, 'height': HEIGHT, 'k': K, 'p': P, **changes})


class Peer:
    """The robot around the node: a camera, and somebody who wants the pose."""

    def __init__(self, namespace: str, context, connect: bool = True) -> None:
        self.node = rclpy.create_node('peer', namespace=namespace, context=context)
        self._executor = SingleThreadedExecutor(context=context)
        self._executor.add_node(self.node)
        self.poses: list[PoseStamped] = []
        self.covariances: list[PoseWithCovarianceStamped] = []
        self.transforms: list = []
        qos = QoSProfile(depth=100)
        self._images = self.node.create_publisher(Image, 'image', qos)
        self._infos = self.node.create_publisher(CameraInfo, 'camera_info', qos)
        self.node.create_subscription(
            PoseStamped, 'relocalizer/pose', self.poses.append, qos)
        self.node.create_subscription(
            PoseWithCovarianceStamped, 'relocalizer/pose_with_covariance',
            self.covariances.append, qos)
        self.node.create_subscription(
            TFMessage, 'tf', lambda message: self.transforms.extend(message.transforms), qos)
        if connect:
            self.connect()

    def connect(self) -> None:
        """Wait until an active node and this robot have found each other."""
        self.wait_until(lambda: self._images.get_subscription_count() == 1 and
                        self._infos.get_subscription_count() == 1 and
                        self.node.count_publishers('relocalizer/pose') == 1 and
                        self.node.count_publishers('tf') == 1)
        self.spin(0.3)  # the other side may still be matching

    def spin(self, duration_s: float) -> None:
        end_s = time.monotonic() + duration_s
        while time.monotonic() < end_s:
            self._executor.spin_once(0.01)

    def wait_until(self, condition, timeout_s: float = WAIT_S) -> None:
        end_s = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < end_s, 'waited in vain'
            self._executor.spin_once(0.01)

    def show(self, image: Image, camera_info: CameraInfo | None = None) -> None:
        if camera_info is not None:
            self._infos.publish(camera_info)
            self.spin(0.1)
        self._images.publish(image)

    def answer(self, image: Image, camera_info: CameraInfo | None = None):
        """Pose, pose with covariance and transform that answer an image.

        What was lost on the way is shown again: cameras repeat themselves too.
        """
        stamp = image.header.stamp
        found: list = []

        def complete() -> bool:
            found[:] = [[m for m in messages if m.header.stamp == stamp] for messages in (
                self.poses, self.covariances, self.transforms)]
            return all(found)

        shown = 0
        while not complete():
            assert shown * SHOW_AGAIN_S < WAIT_S, 'waited in vain'
            self.show(image, camera_info)
            shown += 1
            with contextlib.suppress(AssertionError):
                self.wait_until(complete, SHOW_AGAIN_S)
        assert all(1 <= len(messages) <= shown for messages in found)
        return [messages[0] for messages in found]

    def position(self, image: Image, camera_info: CameraInfo | None = None) -> list[float]:
        point = self.answer(image, camera_info)[0].pose.position
        return [point.x, point.y, point.z]
